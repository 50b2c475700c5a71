"""Memories that fold: when the context grows, past turns become notes.

Notes are written through `ask`. By the policy they are ordinary sampled tokens and are trained;
by an auxiliary model they never enter a loss.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from foldgym.memory.views import refs, task_of, turns_of
from foldgym.types import Ask, At, Boundary, Finish, Kit, Log, Message, Ref, Synth, Tool, View

INSTRUCTION = "Write down what matters so far; it will replace everything above."


@dataclass(frozen=True, slots=True)
class Folded:
    """State of `Summarise`: turns before event `base` live on only in `note`."""

    instruction: Synth
    before: Synth
    after: Synth
    soft: int
    base: int = 0
    note: Ref | None = None
    folds: int = 0
    failed: int = 0


class Summarise:
    """Task, notes, and the turns since the last fold.

    Folds when the view passes the budget's soft limit (`trigger="pressure"`) or when `every`
    turns have passed since the last fold (`trigger="turns"`), and always under hard pressure. The
    last `keep` turns stay verbatim. The old notes are in view when the new ones are written, so a
    fold summarises recursively. `keep_task=False` shows the notes alone: they must carry the
    question too.
    """

    rewrites = True

    def __init__(
        self,
        trigger: Literal["pressure", "turns"] = "pressure",
        every: int | None = None,
        keep: int = 0,
        max_tokens: int = 64,
        by: Literal["policy", "aux"] = "policy",
        keep_task: bool = True,
        instruction: str = INSTRUCTION,
        title: str = "Notes: ",
    ) -> None:
        if (trigger == "turns") != (every is not None):
            raise ValueError(
                f"Summarise takes `every` exactly when trigger is 'turns', not trigger={trigger!r} "
                f"with every={every}"
            )
        if (every or 1) < 1 or keep < 0 or max_tokens < 1:
            raise ValueError(
                f"Summarise needs every >= 1, keep >= 0 and max_tokens >= 1, not every={every}, "
                f"keep={keep}, max_tokens={max_tokens}"
            )
        self.trigger = trigger
        self.every = every or 0
        self.keep = keep
        self.max_tokens = max_tokens
        self.by: Literal["policy", "aux"] = by
        self.keep_task = keep_task
        self.instruction = instruction
        self.title = title

    @property
    def asks(self) -> tuple[str, ...]:
        """Purposes for which the policy writes."""
        return ("fold",) if self.by == "policy" else ()

    def tools(self) -> tuple[Tool, ...]:
        """No tools of its own."""
        return ()

    def start(self, log: Log, kit: Kit) -> Folded:
        """Tokenises the instruction and the frame of the notes once."""
        before, after = kit.frame("user", self.title)
        instruction = kit.synth(Message("user", self.instruction), "fold instruction")
        return Folded(instruction, before, after, kit.budget.soft_limit)

    def view(self, log: Log, state: Folded) -> View:
        """Task, notes, live turns."""
        notes = (state.before, state.note, state.after) if state.note else ()
        task = task_of(log) if self.keep_task or not state.note else ()
        return View((*task, *notes, *refs(turns_of(log, state.base))))

    async def on(self, boundary: Boundary, log: Log, state: Folded, ask: Ask) -> Folded:
        """Folds when due. Notes that are missing or longer than what they replace are refused."""
        live = turns_of(log, state.base)
        if not self._due(boundary, state, len(live)):
            return state
        prompt = View((*self.view(log, state).items, state.instruction))
        note = await ask("fold", prompt, self.max_tokens, self.by)
        kept = live[len(live) - self.keep :] if self.keep else []
        replaced = sum(len(e.token_ids) for turn in live[: len(live) - self.keep] for e in turn)
        if note is None or len(note.token_ids) > replaced:
            return replace(state, failed=state.failed + 1)
        end = len(note.token_ids) - (note.finish is Finish.STOP)
        base = kept[0][0].id if kept else len(log)
        return replace(state, base=base, note=Ref(note.id, 0, end), folds=state.folds + 1)

    def _due(self, boundary: Boundary, state: Folded, live: int) -> bool:
        if live <= self.keep:
            return False
        if boundary.at is At.PRESSURE:
            return True
        if boundary.at is not At.BEFORE_MODEL:
            return False
        if self.trigger == "turns":
            return live >= self.every + self.keep
        return boundary.used > state.soft
