"""ReIn: where a dialogue goes wrong, the next turn begins with a plan that nobody sampled."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from foldgym.agents.scaffolds.around import Around, heard_first, unheard
from foldgym.agents.scaffolds.wording import blocks, read_object, wording
from foldgym.agents.stage import Stage
from foldgym.agents.transcript import Transcript
from foldgym.memory.calls import offer
from foldgym.types import EnvHandle, Message, Step, Stop

WORDS = {
    "ask": "You watch a dialogue between a user, an agent and its tools. Say whether it has run "
    'into one of the problems below. Write one JSON object: {"error": the problem\'s name or '
    '"none", "plan": what the agent should do now}.',
}
CASES: dict[str, dict[str, str]] = {
    "unsupported": {
        "pattern": r"unknown tool|no such tool|not supported",
        "plan": "What I tried does not exist here. I will look at the tools that there are and "
        "choose one of them.",
    },
    "misread": {
        "pattern": r"^error",
        "plan": "My last step was refused. I will read the message, find out what was wrong with "
        "it, and do it differently.",
    },
}


@dataclass(frozen=True, slots=True)
class Case:
    """A kind of error: how it looks, and the plan that answers it."""

    name: str
    pattern: re.Pattern[str]
    plan: str


class ReIn:
    """One conversation; before a turn, an inception module may begin that turn's reasoning.

    `by="rules"` looks for the patterns of `cases` in what was last heard; "policy" and "aux" have
    a model (the role `inception`) look at the dialogue and name a case, and take the plan that it
    writes, or the case's own. The plan is planted between `opening` and `closing` at the start of
    the next turn, at most `limit` times an episode, and is never trained. An empty `closing`
    leaves the reasoning open, and the agent goes on with it. Without a trigger the context stays
    as it was, to the byte.

    `recovery` are tools that make a plan legal, by name, each with the reply that it gets.
    Source: ReIn (memory spec A9, from text only: cases and words are ours).
    """

    roles = ("main", "inception")

    def __init__(
        self,
        by: Literal["rules", "policy", "aux"] = "rules",
        cases: dict[str, dict[str, str]] | None = None,
        opening: str = "<think>\n",
        closing: str = "\n</think>\n",
        limit: int = 3,
        tokens: int = 96,
        recovery: dict[str, str] | None = None,
        words: dict[str, str] | None = None,
    ) -> None:
        if min(limit, tokens) < 1:
            raise ValueError(f"limit and tokens must be at least 1, not {limit} and {tokens}")
        self.by: Literal["rules", "policy", "aux"] = by
        self.opening, self.closing = opening, closing
        self.limit, self.tokens = limit, tokens
        self.cases = [case_of(name, given) for name, given in (cases or CASES).items()]
        self.recovery = dict(recovery or {})
        self.words = wording(WORDS, words)

    async def run(self, stage: Stage) -> Stop:
        """One conversation, watched."""
        tools = [
            offer(name, "Use this when you cannot go on otherwise.", {"text": "string"})
            for name in self.recovery
        ]
        main = await stage.lineage(
            "main", memory=stage.memory(), tools=(*stage.opening.tools, *tools)
        )
        planted: list[dict[str, Any]] = []
        stage.facts["inceptions"] = planted

        async def watch() -> None:
            if len(planted) < self.limit:
                found = await self._look(stage, main)
                if found is not None:
                    planted.append({"turn": len(main.turns), "error": found[0]})
                    main.counters["inceptions"] += 1
                    main.plant(f"{self.opening}{found[1]}{self.closing}", aloud=not self.closing)

        world = Recovering(stage.env, self.recovery) if self.recovery else stage.env
        return await stage.converse(main, world, before=watch)

    async def _look(self, stage: Stage, main: Transcript) -> tuple[str, str] | None:
        """The error of the dialogue so far and the plan against it."""
        turn = main.turns[main.spoken.turn] if main.spoken is not None else None
        heard = turn.observation if turn is not None else stage.opening.task.prompt
        if self.by == "rules":
            for case in self.cases:
                if any(case.pattern.search(message.text) for message in heard):
                    return case.name, case.plan
            return None
        listing = "\n".join(f"{case.name}: {case.plan}" for case in self.cases)
        said = await main.aside(
            "inception",
            blocks(self.words["ask"], problems=listing),
            self.tokens,
            stage.voice("inception", self.by),
        )
        found = read_object(said.text) if said is not None else None
        name = None if found is None else found.get("error")
        case = next((case for case in self.cases if case.name == name), None)
        if case is None or found is None:
            return None
        plan = found.get("plan")
        return case.name, plan if isinstance(plan, str) and plan.strip() else case.plan


class Recovering(Around):
    """A world with a few more tools, each with a fixed reply."""

    def __init__(self, inner: EnvHandle, replies: Mapping[str, str]) -> None:
        super().__init__(inner)
        self.replies = replies

    async def step(self, action: Message) -> Step:
        """Answers the recovery tools and leaves the rest to the world."""
        mine = [call for call in action.tool_calls if call.name in self.replies]
        told = tuple(
            Message("tool", self.replies[call.name], tool_call_id=call.id, name=call.name)
            for call in mine
        )
        rest = tuple(call for call in action.tool_calls if call.name not in self.replies)
        if told and not rest:
            return unheard(*told)
        return heard_first(told, await self.inner.step(replace(action, tool_calls=rest)))


def case_of(name: str, given: Mapping[str, str]) -> Case:
    """A case as a run file writes it. Raises `ValueError` that names it."""
    if set(given) != {"pattern", "plan"}:
        raise ValueError(f"case {name!r} needs a pattern and a plan, not {', '.join(given)}")
    try:
        pattern = re.compile(given["pattern"], re.IGNORECASE | re.MULTILINE)
    except re.error as problem:
        raise ValueError(f"case {name!r}: {given['pattern']!r} is no pattern: {problem}") from None
    return Case(name, pattern, given["plan"])
