"""ReSeek: the policy judges every search, and what it judged useless may leave its sight."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from foldgym.memory.calls import offer, read, speaking
from foldgym.memory.views import answers, task_of, turns_of
from foldgym.types import Ask, At, Boundary, Event, Kit, Log, Message, Ref, Synth, Tool, View

JUDGE = offer(
    "judge",
    "Say of the last search result whether it helps: Yes or No.",
    {"verdict": {"type": "string", "enum": ["Yes", "No"]}},
)
AGAIN = "search again"  # what a No is answered with
LEFT_OUT = Message("user", "[judged useless]")


@dataclass(frozen=True, slots=True)
class Judged:
    """State of `ReSeek`: turns of searches that were judged, and those judged useless."""

    left_out: Synth
    judged: frozenset[int] = frozenset()
    useless: frozenset[int] = frozenset()
    reply: str = ""


class ReSeek:
    """All turns; a tool `judge(verdict)` for the last search, once each.

    `context` "soft" keeps what was judged useless and only asks to search again; "hard" shows a
    placeholder in its place from then on. Sources disagree on the two (ReSeek's project page drops,
    a later note keeps; algorithms spec R4). The reward is the term `verdicts`.
    """

    def __init__(self, context: Literal["soft", "hard"] = "soft", tool: str = "search") -> None:
        if context not in ("soft", "hard"):
            raise ValueError(f"ReSeek's context is 'soft' or 'hard', not {context!r}")
        self.context, self.tool = context, tool

    @property
    def rewrites(self) -> bool:
        """Only the hard form drops anything."""
        return self.context == "hard"

    def tools(self) -> tuple[Tool, ...]:
        """`judge`."""
        return (JUDGE,)

    def start(self, log: Log, kit: Kit) -> Judged:
        """Nothing judged."""
        return Judged(kit.synth(LEFT_OUT, "judged useless"))

    def view(self, log: Log, state: Judged) -> View:
        """Every turn; of a useless search, when hard, the call without its result."""
        items: list[Ref | Synth] = []
        for turn in turns_of(log):
            hidden = self.context == "hard" and turn[0].turn in state.useless
            heard = answers(turn)
            said = [Ref(event.id) for event in turn if event not in heard]
            items += said
            items += [state.left_out] if hidden else [Ref(event.id) for event in heard]
        return View((*task_of(log), *items))

    async def on(self, boundary: Boundary, log: Log, state: Judged, ask: Ask) -> Judged:
        """Takes a verdict on the newest search that has none."""
        if boundary.at is not At.MEMORY_TOOL or boundary.call is None:
            return state
        given, problem = read(JUDGE, boundary.call)
        now = speaking(log)
        searches = [turn[0].turn for turn in turns_of(log) if self._searched(turn)]
        last = max((turn for turn in searches if turn < now), default=None)
        if not problem and (last is None or last in state.judged):
            problem = f"error: judge: there is no result of {self.tool} without a verdict"
        if problem or last is None:
            return replace(state, reply=problem)
        useless = given["verdict"] == "No"
        return replace(
            state,
            judged=state.judged | {last},
            useless=state.useless | {last} if useless else state.useless,
            reply=AGAIN if useless else "kept",
        )

    def _searched(self, turn: tuple[Event, ...]) -> bool:
        """Whether a turn called the search tool and got a result that is no error."""
        texts = [
            message.text
            for event in answers(turn)
            for message in event.messages
            if message.name == self.tool
        ]
        return any(not text.startswith("error:") for text in texts)
