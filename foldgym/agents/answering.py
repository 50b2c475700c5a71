"""The gold answer in the policy's mouth: at which moments of an episode, and in which ids.

Nothing that happened is rendered again: a moment is a place in a recorded segment, namely where a
turn was sampled. Only the answer itself is written, as the renderer would write it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from foldgym.agents.ledger import INSTEAD
from foldgym.agents.renderers import Renderer
from foldgym.errors import ConfigError
from foldgym.rewards.information_gain import AnswerForm
from foldgym.tools import bound
from foldgym.types import Ids, Message, Tool, ToolCall, Trajectory

TOOLS = ("answer", "submit", "final_answer", "finish")
_MARKS = "\u2603\u2604\u2605\u2606"  # characters to find a gold answer by


class Place(NamedTuple):
    """Before `turn` the policy was shown `segments[segment].token_ids[:at]`, and then `more`.

    `more` is only there for turns that a memory asked for: the policy was shown an instruction
    then, and this is how it would have been shown the same moment to act on it.
    """

    turn: int
    segment: int
    at: int
    more: Ids = ()


def moments(trajectory: Trajectory) -> list[Place]:
    """Where each turn of who acts was sampled, in order; turns nobody sampled have no place.

    A turn in several calls was begun by the first of them.
    """
    found: dict[int, Place] = {}
    acting = {turn.lineage for turn in trajectory.turns if turn.purpose == "act"} or {"main"}
    for number, segment in enumerate(trajectory.segments):
        if segment.lineage not in acting:
            continue
        for at, turn in enumerate(segment.turn_ids):
            if turn >= 0 and turn not in found:
                shared, *more = trajectory.turns[turn].info.get(INSTEAD, (at,))
                found[turn] = Place(turn, number, shared, tuple(more))
    return [found[turn] for turn in sorted(found)]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the policy would sample to answer; `ids[first:last]` are scored."""

    ids: Ids
    first: int
    last: int


class AnswerWriter:
    """Writes gold answers in one form, with the tools of one world.

    Raises `ConfigError` for a tool that the world does not have.
    """

    def __init__(self, renderer: Renderer, tools: Sequence[Tool], form: AnswerForm) -> None:
        self._renderer, self._tools, self.form = renderer, tools, form
        by_name = {tool.name: tool for tool in tools}
        wanted = TOOLS if form.tool == "auto" else (form.tool,)
        self.tool = next((by_name[name] for name in wanted if name in by_name), None)
        if self.tool is None and form.tool not in ("auto", "none"):
            listing = ", ".join(by_name) or "none"
            raise ConfigError(
                f"there is no tool {form.tool!r} to answer with; tools: {listing}. Name one of "
                'them, or "none" for an answer in plain text'
            )
        if self.tool is not None and (form.before or form.after):
            raise ConfigError(
                f"`before` and `after` stand around plain text, but the answer is a call of "
                f'{self.tool.name!r}; remove them, or set tool = "none"'
            )
        self._written: dict[str, Answer] = {}

    def message(self, gold: str) -> Message:
        """The turn that gives this answer."""
        form = self.form
        if self.tool is None:
            return Message("assistant", f"{form.before}{gold}{form.after}", thinking=form.thought)
        call = ToolCall(self.tool.name, bound(self.tool, gold), "call_0")
        return Message("assistant", thinking=form.thought, tool_calls=(call,))

    def __call__(self, gold: str) -> Answer:
        """The ids of the turn, and where in them the answer stands.

        Scored is every id of which some character belongs to the answer, also one that reaches
        over its edge. Raises `ConfigError` if the answer cannot be found in what was written.
        """
        if gold not in self._written:
            self._written[gold] = self._write(gold)
        return self._written[gold]

    def _write(self, gold: str) -> Answer:
        clean = gold.strip()
        message = self.message(clean)
        text = self._renderer.write(message, self._tools)
        if self.form.thought not in text:
            raise ConfigError(f"the renderer writes no thoughts; remove {self.form.thought!r}")
        start, end = self._find(clean, text)
        spans = self._renderer.spans(message, self._tools)
        ids = self._renderer.say(message, self._tools)
        if len(ids) != len(spans) + 1:
            raise ConfigError(
                f"the renderer does not say what it writes: {text!r} is {len(spans)} ids, but it "
                f"says {len(ids) - 1} and an end token; mend its `write`"
            )
        inside = [place for place, (a, b) in enumerate(spans) if a < end and b > start]
        return Answer(ids, inside[0], len(ids) if self.form.ends else inside[-1] + 1)

    def _find(self, gold: str, text: str) -> tuple[int, int]:
        """The characters of the answer: a mark behind it, or in its place, shows where it is."""
        mark = next(each for each in _MARKS if each not in text)
        marked = self._renderer.write(self.message(gold + mark), self._tools)
        end = marked.find(mark)
        alike = marked.replace(mark, "", 1) == text
        for written in (gold, json.dumps(gold, ensure_ascii=False)[1:-1]):
            if alike and written and text[:end].endswith(written):
                return end - len(written), end
        for quoted in (json.dumps(mark, ensure_ascii=False), mark):  # a number takes no mark behind
            before, found, after = self._renderer.write(self._named(mark), self._tools).partition(
                quoted
            )
            if gold and found and text.startswith(before) and text.endswith(after):
                return len(before), len(text) - len(after)
        raise ConfigError(
            f"the gold answer {gold!r} cannot be found in {text!r}, which should give it"
        )

    def _named(self, mark: str) -> Message:
        """The answer's turn with a mark in the place of the answer, whatever type it has there."""
        call = self.message("0").tool_calls[0] if self.tool else None
        if call is None:
            return self.message(mark)
        (name,) = json.loads(call.arguments)
        arguments = json.dumps({name: mark}, ensure_ascii=False)
        return Message(
            "assistant",
            thinking=self.form.thought,
            tool_calls=(replace(call, arguments=arguments),),
        )

    def misread(self, gold: str) -> str:
        """What is wrong if the turn does not read back as the answer; empty if it does."""
        message = self.message(gold.strip())
        read = self._renderer.parse(self(gold).ids, self._tools)
        wanted = [(call.name, _plain(call.arguments)) for call in message.tool_calls]
        got = [(call.name, _plain(call.arguments)) for call in read.message.tool_calls]
        if read.problem:
            return read.problem
        if wanted != got or (not wanted and gold.strip() not in read.message.text):
            return f"it reads back as {read.message.tool_calls or read.message.text!r}"
        return ""


def _plain(arguments: str) -> object:
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments
