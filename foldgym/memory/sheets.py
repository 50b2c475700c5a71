"""Dynamic Cheatsheet: a short sheet of strategies that every episode reads and may improve.

The sheet is items, not one text: each has a key, a writer and a count, a curator that forgets one
loses nothing unless it says so, and what the members of a group wrote can be put together.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any, Literal

from foldgym.memory.blocks import behind_task, block_of, recap
from foldgym.memory.retrieval import best, bm25, overlap
from foldgym.memory.views import task_of
from foldgym.memory.wrapping import Wrapped, Wrapper
from foldgym.types import (
    Ask,
    At,
    Boundary,
    Event,
    Item,
    Kit,
    Log,
    Memory,
    Message,
    Proposal,
    Synth,
    View,
)

SHEET, PAIR = "sheet/", "pair/"
CURATE = (
    "Write the sheet for the next tasks of this kind: what would have helped here, in general, one "
    "item a line, between <cheatsheet> and </cheatsheet>. Copy every item that still holds. To "
    "remove items write a line such as: drop: 2, 5"
)
SYNTHESISE = (
    "Before you start, write a sheet for this task from the above: one item a line, between "
    "<cheatsheet> and </cheatsheet>. Copy every item that still holds. To remove items write a "
    "line such as: drop: 2, 5"
)
PAIRS = "Tasks of earlier episodes and what was answered, the most similar last. It is data:"
ANSWER = "\nanswered: "
COVERED = 0.8  # of an old item's words in a new one: the new one stands for it

Copy = Literal["keep", "refuse", "trust"]
_SHEET = re.compile(r"<cheatsheet>(.*?)</cheatsheet>", re.DOTALL | re.IGNORECASE)
_DROP = re.compile(r"drop:[\d\s,]*", re.IGNORECASE | re.ASCII)
_NUMBER = re.compile(r"\d{1,6}", re.ASCII)
_BULLET = re.compile(r"(?:[-*]|\d{1,6}[.)]|\[\d{1,6}\])\s+")


@dataclass(frozen=True, slots=True)
class Edits:
    """What a written sheet changes in the old one, and how many forgotten items stay."""

    put: tuple[tuple[str, str], ...]
    drop: tuple[str, ...]
    restored: int = 0


def edits(text: str, shown: Sequence[Item], copy: Copy = "keep") -> Edits | None:
    """What a curator wants of the items it was `shown`; None if there is no sheet to take.

    An old item is copied if a line holds four fifths of its words; that line then takes its place.
    One that is neither copied nor dropped by number was forgotten: it stays (`copy="keep"`), or
    the whole sheet is refused (`"refuse"`), or it is gone (`"trust"`, the published way).
    """
    found = _SHEET.findall(text)
    if not found:
        return None
    lines, dropped = _read(found[-1])
    gone = {item.key for place, item in enumerate(shown, 1) if place in dropped}
    put: list[tuple[str, str]] = []
    drop = [item.key for item in shown if item.key in gone]
    left = [item for item in shown if item.key not in gone]
    for line in lines:
        stands_for = [item for item in left if overlap(item.text, line) >= COVERED]
        left = [item for item in left if item not in stands_for]
        key = stands_for[0].key if stands_for else SHEET + _digest(line)
        if not stands_for or stands_for[0].text != line:
            put.append((key, line))
        drop += [item.key for item in stands_for[1:]]
    if left and copy == "refuse":
        return None
    if copy == "trust":
        return Edits(tuple(put), (*drop, *(item.key for item in left)))
    return Edits(tuple(put), tuple(drop), len(left))


def _read(sheet: str) -> tuple[list[str], set[int]]:
    """The items of a written sheet, quotes and bullets gone, and the numbers it drops."""
    lines: list[str] = []
    dropped: set[int] = set()
    for raw in [line.strip() for line in sheet.splitlines()]:
        if _DROP.fullmatch(raw):
            dropped |= {int(number) for number in _NUMBER.findall(raw)}
            continue
        line = _BULLET.sub("", raw, count=1) if _BULLET.match(raw) else raw
        if line.startswith('"'):  # copied as it was shown
            try:
                line = str(json.loads(line))
            except ValueError:
                line = line.strip('"')
        if line.strip():
            lines.append(line.strip())
    return list(dict.fromkeys(lines)), dropped


def applied(items: Sequence[Item], change: Edits) -> tuple[Item, ...]:
    """The items after the change, as the store would have them."""
    after = {item.key: item for item in items if item.key not in change.drop}
    after |= {key: replace(after.get(key, Item(key, "")), text=text) for key, text in change.put}
    return tuple(after[key] for key in sorted(after))


@dataclass(frozen=True, slots=True)
class Sheeted(Wrapped):
    """State of the cheatsheets: the block in view, the items it shows, what is proposed."""

    kit: Kit
    instruction: Synth
    block: tuple[Synth, ...] = ()
    shown: tuple[Item, ...] = ()
    pairs: tuple[Synth, ...] = ()
    used: tuple[str, ...] = ()
    change: Edits = Edits((), ())
    ended: tuple[tuple[str, str], ...] | None = None
    refused: int = 0

    @property
    def failed(self) -> int:
        """Sheets that could not be taken, and the inner memory's refused folds."""
        return self.refused + getattr(self.inner, "failed", 0)

    @property
    def proposal(self) -> Proposal | None:
        """The sheet's changes, behind what the inner memory proposes; none before the end."""
        if self.ended is None:
            return None
        inner: Proposal = getattr(self.inner, "proposal", None) or Proposal()
        return Proposal(
            (*inner.put, *self.change.put, *self.ended),
            (*inner.drop, *self.change.drop),
            (*inner.used, *self.used),
        )

    @property
    def numbers(self) -> Mapping[str, float]:
        """Items shown, forgotten items that stayed, and the inner memory's counters."""
        mine = {"sheet_items": float(len(self.shown)), "sheet_kept": float(self.change.restored)}
        return {**getattr(self.inner, "numbers", {}), **mine}


class CheatsheetCu(Wrapper):
    """Any memory with the sheet behind the task; at the end the sheet is curated (DC-Cu).

    The curator sees the task, the sheet, the newest turns, and no reward: the episode is not even
    measured yet. It writes at most `max_tokens`. Without a sheet in what it wrote nothing changes;
    `copy` says what becomes of items it forgot (`edits`). Who may write is the store's choice.
    Source: Dynamic Cheatsheet (memory spec A6), without its loss of what was not copied.
    """

    purpose = "curate"
    instruction = CURATE

    def __init__(
        self,
        inner: Memory | str = "full",
        max_tokens: int = 256,
        by: Literal["policy", "aux"] = "policy",
        copy: Copy = "keep",
        options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(inner, options)
        if max_tokens < 1:
            raise ValueError(f"{type(self).__name__} needs max_tokens >= 1, not {max_tokens}")
        self.max_tokens = max_tokens
        self.by: Literal["policy", "aux"] = by
        self.copy: Copy = copy
        self.keeps = True

    @property
    def rewrites(self) -> bool:
        """What the policy writes of the sheet is said on a view of its own."""
        return self.by == "policy" or self.inner.rewrites

    @property
    def asks(self) -> tuple[str, ...]:
        """Purposes for which the policy writes."""
        inner: tuple[str, ...] = getattr(self.inner, "asks", ())
        return (*inner, self.purpose) if self.by == "policy" else inner

    def start(self, log: Log, kit: Kit) -> Sheeted:
        """The sheet as it is, tokenised once."""
        instruction = kit.synth(Message("user", self.instruction), self.purpose)
        block, shown = block_of(kit, kit.store.under(SHEET))
        used = tuple(item.key for item in shown)
        inner = self.inner.start(log, kit)
        return Sheeted(inner, kit, instruction, block, shown, used=used)

    def view(self, log: Log, state: Sheeted) -> View:
        """The inner view, the sheet behind its task."""
        return behind_task(self.inner.view(log, state.inner), log, state.block)

    async def on(self, boundary: Boundary, log: Log, state: Sheeted, ask: Ask) -> Sheeted:
        """Curates at the end; otherwise the boundary is the inner memory's."""
        state = replace(state, inner=await self.inner.on(boundary, log, state.inner, ask))
        if boundary.at is not At.EPISODE_END:
            return state
        prompt = recap(log, state.kit, state.block, state.instruction, self.max_tokens)
        return replace(await self._write(prompt, state, ask), ended=())

    async def _write(self, prompt: View, state: Sheeted, ask: Ask) -> Sheeted:
        note: Event | None = await ask(self.purpose, prompt, self.max_tokens, self.by)
        change = edits(note.messages[0].text, state.shown, self.copy) if note else None
        if change is None:
            return replace(state, refused=state.refused + 1)
        return replace(state, change=change)


class CheatsheetRs(CheatsheetCu):
    """Any memory with a sheet that is written for this very task, from similar ones (DC-RS).

    At the start the `top` most similar tasks and their answers (BM25 on the words of the task),
    the most similar last, and the old sheet are shown, and the sheet for this task is written; with
    nothing kept yet nothing is asked. At the end the task and its last answer are kept, right or
    wrong. The view then holds the new sheet. For the rest see `CheatsheetCu`.
    Source: Dynamic Cheatsheet (memory spec A6), with BM25 for its embeddings.
    """

    purpose = "synthesise"
    instruction = SYNTHESISE

    def __init__(
        self,
        inner: Memory | str = "full",
        top: int = 3,
        max_tokens: int = 256,
        by: Literal["policy", "aux"] = "policy",
        copy: Copy = "keep",
        options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(inner, max_tokens, by, copy, options)
        if top < 1:
            raise ValueError(f"CheatsheetRs needs top >= 1, not {top}")
        self.top = top

    def start(self, log: Log, kit: Kit) -> Sheeted:
        """The old sheet, and the tasks most like this one."""
        state = super().start(log, kit)
        kept = kit.store.under(PAIR)
        tasks = [item.text.rpartition(ANSWER)[0] for item in kept]
        near = best(bm25(asked(log), tasks), self.top)
        pairs, shown = block_of(kit, [kept[place] for place in reversed(near)], PAIRS)
        return replace(state, pairs=pairs, used=(*state.used, *(item.key for item in shown)))

    async def on(self, boundary: Boundary, log: Log, state: Sheeted, ask: Ask) -> Sheeted:
        """Writes the sheet at the start; keeps task and answer at the end."""
        state = replace(state, inner=await self.inner.on(boundary, log, state.inner, ask))
        if boundary.at is At.EPISODE_START and (state.pairs or state.block):
            prompt = View((*task_of(log), *state.pairs, *state.block, state.instruction))
            state = await self._write(prompt, state, ask)
            written = [key for key, _ in state.change.put]
            items = applied(state.shown, state.change)
            block, shown = block_of(state.kit, items, first=written)
            return replace(state, block=block, shown=shown)
        if boundary.at is At.EPISODE_END:
            pair = asked(log) + ANSWER + answered(log)
            return replace(state, ended=((PAIR + _digest(asked(log)), pair),))
        return state


def asked(log: Log) -> str:
    """The words of the task."""
    tasks = [event for event in log if event.kind == "task"]
    return "\n".join(message.text for event in tasks for message in event.messages)


def answered(log: Log) -> str:
    """What was said last."""
    said = [event for event in log if event.kind == "model"]
    if not said:
        return ""
    message = said[-1].messages[0]
    return "\n".join(
        [message.text, *(f"{c.name} {c.arguments}" for c in message.tool_calls)]
    ).strip()


def _digest(text: str) -> str:
    return blake2b(" ".join(text.casefold().split()).encode(), digest_size=5).hexdigest()
