"""An operator that acts, and roles around it that plan, check its steps and question its end."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from foldgym.agents.scaffolds.around import Around, unheard
from foldgym.agents.scaffolds.toolbox import canonical
from foldgym.agents.scaffolds.wording import blocks, reply, wording
from foldgym.agents.stage import Stage
from foldgym.agents.transcript import Transcript
from foldgym.memory.wrapping import inner_memory
from foldgym.types import Message, Step, Stop, Task, Turn

Who = Literal["off", "policy", "aux"]

WORDS = {
    "reflector": "You check single actions of another agent. Given what it did and what came back, "
    "answer with one letter and one sentence: A it worked, B it led to the wrong place, C nothing "
    "changed, D it is unclear.",
    "trajectory": "You watch another agent's progress over several actions. Say in one or two "
    "sentences whether it goes in circles or away from its task, and what to do instead.",
    "finish": "You judge whether another agent has done its whole task, just before it ends. "
    "Answer Success, Failed or Uncertain, and why in one sentence.",
    "plan": "Split the task into at most {parts} smaller tasks, one a line, in the order in which "
    "they must be done. One line, if it is one task.",
    "extract": "Copy out, word for word, what was found so far that the rest of the task needs.",
    "part": "Your task now:",
    "advice": "A reviewer says:",
    "not_done": "Not finished yet:",
}
_VERDICT = re.compile(r"\b([ABCD])\b")
_OUTCOME = re.compile(r"\b(success|failed|uncertain)\b", re.IGNORECASE)


class OperatorReflector:
    """The operator plays; reflectors speak between its turns. Each role has its own memory.

    * `reflector` reads every action and its result, unless the operator was surer of its words
      than `confidence` (a mean log-prob); verdicts other than A are passed on to the operator.
    * `trajectory` reads the last `every` actions, every `every` of them or when the operator
      repeats itself (an action again, two or three in turn, the same result, errors in a row),
      and then not for `cooldown` actions.
    * `finish` is asked at the first end (an action without calls, or a call of `finishers`);
      "Failed" cancels that end once.
    * `plan` splits the task before the first turn into at most `parts`; at the end of each but the
      last, `extract` copies out what the next one needs, and the next part is given.

    Each of them is spoken by the policy, by the auxiliary model, or "off" (`extract` as `plan`).
    `memories` gives roles another memory than all they heard, by name.
    Source: ColorAgent (memory spec A15).
    """

    roles = ("operator", "reflector", "trajectory", "finish", "plan", "extract")

    def __init__(
        self,
        reflector: Who = "policy",
        trajectory: Who = "policy",
        finish: Who = "policy",
        plan: Who = "off",
        confidence: float | None = None,
        every: int = 5,
        cooldown: int = 3,
        parts: int = 2,
        finishers: tuple[str, ...] = ("answer", "submit", "finish", "done"),
        memories: dict[str, str] | None = None,
        role_tokens: int = 64,
        words: dict[str, str] | None = None,
    ) -> None:
        if every < 1 or cooldown < 0 or parts < 2 or role_tokens < 1:
            raise ValueError(
                f"OperatorReflector needs every >= 1, cooldown >= 0, parts >= 2 and role_tokens "
                f">= 1, not {every}, {cooldown}, {parts}, {role_tokens}"
            )
        unknown = sorted(set(memories or {}) - {"reflector", "trajectory", "finish"})
        if unknown:
            raise ValueError(
                f"memories has no role {unknown[0]!r}; it may hold: reflector, trajectory, finish"
            )
        self.who: dict[str, Who] = {
            "reflector": reflector,
            "trajectory": trajectory,
            "finish": finish,
            "plan": plan,
        }
        self.confidence, self.every, self.cooldown = confidence, every, cooldown
        self.parts, self.finishers, self.role_tokens = parts, finishers, role_tokens
        self.memories = dict(memories or {})
        for name in self.memories.values():
            inner_memory(name, None)
        self.words = wording(WORDS, words)

    async def run(self, stage: Stage) -> Stop:
        """One conversation of the operator, with a review before each of its turns."""
        operator = await stage.lineage("operator", memory=stage.memory())
        review = Review(self, stage, operator)
        return await stage.converse(operator, Checked(stage, review), before=review.before)


@dataclass(frozen=True, slots=True)
class Played:
    """An action, what came back, and whether that was an error."""

    action: str
    result: tuple[str, ...]
    failed: bool

    @property
    def line(self) -> str:
        """Both in one line."""
        return f"{self.action} -> {' '.join(self.result)}"


class Review:
    """The roles around one operator, and what they have looked at."""

    def __init__(self, how: OperatorReflector, stage: Stage, operator: Transcript) -> None:
        self.how, self.stage, self.operator = how, stage, operator
        self._talks: dict[str, Transcript] = {}
        self._played: list[Played] = []
        self._quiet = 0
        self._since = 0
        self._planned = False
        self._parts: list[str] = []

    async def before(self) -> None:
        """What is said to the operator before its next turn."""
        if not self._planned:
            self._planned = True
            await self._plan()
        acts = [
            turn
            for turn in self.operator.turns
            if turn.lineage == "operator" and turn.purpose == "act" and turn.observation
        ]
        for turn in acts[len(self._played) :]:  # one; several if a guide played
            self._played.append(played(turn))
            await self._reflect(self._played[-1])
            await self._look_back()

    async def ends(self, action: Message) -> str:
        """Why the operator should not end with this action; "" if it may."""
        if self._parts:
            found = await self._ask_operator("extract", self.how.words["extract"])
            part = self._parts.pop(0)
            self._count("parts_done")
            return blocks(f"{self.how.words['part']} {part}", known=found)
        if self.how.who["finish"] == "off" or "finish" in self._talks:
            return ""
        told = blocks("It wants to end now.", actions=self._lately(), end=described(action))
        verdict = await self._ask("finish", told)
        outcome = _OUTCOME.search(verdict)
        if outcome is None or outcome.group(1).lower() != "failed":
            return ""
        self._count("ends_cancelled")
        return f"{self.how.words['not_done']} {verdict.strip()}"

    # ------------------------------------------------------------ roles

    async def _plan(self) -> None:
        if self.how.who["plan"] == "off":
            return
        told = self.how.words["plan"].replace("{parts}", str(self.how.parts))
        lines = (await self._ask_operator("plan", told)).splitlines()
        parts = [line.strip() for line in lines if line.strip()][: self.how.parts]
        if len(parts) > 1:
            self._parts = parts[1:]
            self.operator.show(Message("user", f"{self.how.words['part']} {parts[0]}"))

    async def _reflect(self, done: Played) -> None:
        if self.how.who["reflector"] == "off":
            return
        sure = self.how.confidence
        if sure is not None and self.operator.confidence > sure:
            self._count("reflections_skipped")
            return
        verdict = await self._ask("reflector", done.line)
        letter = _VERDICT.search(verdict)
        if verdict.strip() and (letter is None or letter.group(1) != "A"):
            self._count("objections")
            self.operator.show(Message("user", f"{self.how.words['advice']} {verdict.strip()}"))

    async def _look_back(self) -> None:
        if self.how.who["trajectory"] == "off":
            return
        self._since += 1
        self._quiet = max(0, self._quiet - 1)
        if self._quiet or (self._since < self.how.every and not circles(self._played)):
            return
        self._since, self._quiet = 0, self.how.cooldown
        advice = await self._ask("trajectory", self._lately())
        if advice.strip():
            self._count("advices")
            self.operator.show(Message("user", f"{self.how.words['advice']} {advice.strip()}"))

    async def _ask(self, role: str, told: str) -> str:
        """What a role with a conversation of its own answers."""
        if role not in self._talks:
            who = self.how.who[role]
            assert who != "off"
            name = self.how.memories.get(role)
            self._talks[role] = await self.stage.lineage(
                role,
                memory=inner_memory(name, None) if name else None,
                prompt=[
                    Message("system", self.how.words[role]),
                    Message("user", blocks("The agent's task:", task=asked(self.stage))),
                ],
                tools=(),
                by=who,
                max_tokens=self.how.role_tokens,
            )
        self._count("reviews")
        return await reply(self._talks[role], "review", told)

    async def _ask_operator(self, role: str, told: str) -> str:
        """What a role answers that sees what the operator sees."""
        who = self.how.who["plan"]
        assert who != "off"
        said = await self.operator.aside(
            role, told, self.how.role_tokens, self.stage.voice(role, who)
        )
        return said.text if said is not None else ""

    def _lately(self) -> str:
        return "\n".join(done.line for done in self._played[-self.how.every :])

    def _count(self, name: str) -> None:
        self.operator.counters[name] += 1


class Checked(Around):
    """The world, but an end is reviewed before it happens."""

    def __init__(self, stage: Stage, review: Review) -> None:
        super().__init__(stage.env)
        self.review = review

    async def step(self, action: Message) -> Step:
        """The world's answer, or why this is not the end."""
        ends = not action.tool_calls or any(
            call.name in self.review.how.finishers for call in action.tool_calls
        )
        objection = await self.review.ends(action) if ends else ""
        if not objection:
            return await self.inner.step(action)
        if not action.tool_calls:
            return unheard(Message("user", objection))
        return unheard(
            *(
                Message("tool", objection, tool_call_id=call.id, name=call.name)
                for call in action.tool_calls
            )
        )


def described(message: Message) -> str:
    """An action in a line."""
    return "; ".join(map(canonical, message.tool_calls)) or message.text.strip()


def asked(stage: Stage) -> str:
    """What the task says, as text."""
    task: Task = stage.opening.task
    return "\n".join(message.text for message in task.prompt)


def played(turn: Turn) -> Played:
    """A turn of the operator as its reviewers see it, before anything of theirs stands in it."""
    texts = tuple(message.text for message in turn.observation)
    failed = bool(turn.problem) or any(text.startswith("error") for text in texts)
    return Played(described(turn.message), texts, failed)


def circles(done: Sequence[Played]) -> bool:
    """Whether the latest actions repeat themselves.

    One, two or three actions over again, two equal results, or two errors in a row.
    """
    acts = [each.action for each in done]
    for period in (1, 2, 3):
        if len(acts) >= 2 * period and acts[-period:] == acts[-2 * period : -period]:
            return True
    last = done[-2:]
    return len(last) == 2 and (last[0].result == last[1].result or all(x.failed for x in last))
