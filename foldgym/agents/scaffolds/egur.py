"""EGuR: a guide writes a strategy for the task, it is run, and a consolidator notes a lesson."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Literal, cast

from foldgym.agents.scaffolds.wording import blocks, read_object, wording
from foldgym.agents.stage import Stage
from foldgym.agents.transcript import Transcript
from foldgym.search import Bm25, Document
from foldgym.types import Message, Proposal, Stop

Who = Literal["policy", "aux"]

WORDS = {
    "guide": "Before anything is done, choose a strategy for this task. Write one JSON object: "
    '{"steps": [...]}, with steps out of this list, in the order in which they are run:',
    "sample": '{"op": "sample", "n": 1 to {most}}: write n attempts at an answer',
    "refine": '{"op": "refine", "times": 1 to {most}}: write every attempt again, better',
    "verify": '{"op": "verify"}: check the attempts and drop those that are wrong',
    "vote": '{"op": "vote"}: keep the answer that most attempts give',
    "tools": '{"op": "tools", "turns": 1 to {turns}}: use the tools of the world for some turns',
    "again": "That is no strategy:",
    "attempt": "Think the task above through and write down a full answer to it.",
    "better": "Here is an attempt at the task above. Find what is wrong in it and write it again.",
    "check": "Here is an attempt at the task. Check it, then end with one word: right or wrong.",
    "advice": "Worked out beforehand:",
    "lesson": "The task is over. Say in one sentence what to do with tasks like this one, judging "
    "by the strategy and how it went.",
}
OPERATORS = ("sample", "refine", "verify", "vote", "tools")
_KEY = "egur/"


@dataclass(frozen=True, slots=True)
class Step:
    """One operator of a strategy; `number` is how often, how many or how long."""

    op: str
    number: int = 1


class EGuR:
    """A guide's strategy before the speaker's turns, and a lesson for the next episode after them.

    The guide sees the task, and of the store what earlier episodes wrote of similar tasks (the
    best `recall` of them). Its strategy may only use the operators of `allowed`, each within
    bounds and at most `max_steps` together; one that is broken is asked for once more, and then
    `fallback` is run. Attempts and checks are lineages of their own. What is left of the attempts
    is shown to the speaker, who then plays on with the world to the end.

    With `consolidate` on, one more lineage writes a sentence about the episode. It is proposed to
    the store with the strategy, how the episode stopped and what it cost; it knows no reward.
    Source: EGuR (memory spec A7, from text only: hyperparameters are ours). There a strategy also
    sets sampling parameters; here all of it is sampled as it is trained, so it cannot.
    """

    roles = ("main", "guide", "solver", "verifier", "consolidator")
    keeps = True  # reads and writes the store

    def __init__(
        self,
        guide: Who = "policy",
        allowed: tuple[str, ...] = OPERATORS,
        max_steps: int = 4,
        most: int = 4,
        turns: int = 8,
        tokens: int = 128,
        recall: int = 3,
        consolidate: Literal["off", "policy", "aux"] = "off",
        fallback: str = '{"steps": []}',
        words: dict[str, str] | None = None,
    ) -> None:
        unknown = sorted(set(allowed) - set(OPERATORS))
        if unknown:
            raise ValueError(
                f"allowed has no operator {unknown[0]!r}; there are {', '.join(OPERATORS)}"
            )
        if min(max_steps, most, turns, tokens) < 1 or recall < 0:
            raise ValueError(
                f"EGuR needs max_steps, most, turns and tokens >= 1 and recall >= 0, not "
                f"{max_steps}, {most}, {turns}, {tokens}, {recall}"
            )
        self.guide: Who = guide
        self.allowed, self.max_steps = allowed, max_steps
        self.most, self.turns, self.tokens, self.recall = most, turns, tokens, recall
        self.consolidate: Literal["off", "policy", "aux"] = consolidate
        self.words = wording(WORDS, words)
        steps = self.read(fallback)
        if isinstance(steps, str):
            raise ValueError(f"fallback is no strategy: {steps}")
        self.fallback = steps

    async def run(self, stage: Stage) -> Stop:
        """A strategy, its steps, the speaker's turns, a lesson."""
        main = await stage.lineage("main", memory=stage.memory())
        stop = await stage.lead(main)
        if stop is not None:
            return stop
        steps = await self._strategy(stage, main)
        stage.facts["strategy"] = written(steps)
        attempts: list[str] = []
        for step in steps:
            if step.op == "tools":
                stop = await stage.converse(main, turns=step.number)
                if stop is not Stop.MAX_TURNS:
                    break
            else:
                attempts = await self._step(stage, main, step, attempts)
        if stop is None or (stop is Stop.MAX_TURNS and main.acted < stage.limits.max_turns):
            if attempts:
                main.show(Message("user", f"{self.words['advice']}\n{attempts[0]}"))
            stop = await stage.converse(main)
        await self._consolidate(stage, main, steps, stop)
        return stop

    def read(self, text: str) -> list[Step] | str:
        """The steps of a strategy written as JSON, or what is wrong with it."""
        found = read_object(text)
        steps: Any = None if found is None else found.get("steps")
        if not isinstance(steps, list):
            return 'it is no JSON object with a list "steps"'
        given = cast("list[Any]", steps)
        if len(given) > self.max_steps:
            return f"it has {len(given)} steps, at most {self.max_steps} are allowed"
        read: list[Step] = []
        for place, each in enumerate(given):
            step = self._read_step(each)
            if isinstance(step, str):
                return f"step {place + 1}: {step}"
            read.append(step)
        return read

    def _read_step(self, given: Any) -> Step | str:
        if not isinstance(given, dict):
            return "it is no object"
        step = cast("Mapping[str, Any]", given)
        op = step.get("op")
        if op not in self.allowed:
            return f"there is no operator {op!r}; allowed: {', '.join(self.allowed) or 'none'}"
        key = {"sample": "n", "refine": "times", "tools": "turns"}.get(op)
        extra = sorted(set(step) - {"op", key})
        if extra:
            return f"{op} knows no {extra[0]!r}"
        most = self.turns if op == "tools" else self.most
        number = step.get(key, 1) if key else 1
        if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= most:
            return f"{key} of {op} must be a whole number from 1 to {most}, not {number!r}"
        return Step(op, number)

    # ------------------------------------------------------------ the guide

    async def _strategy(self, stage: Stage, main: Transcript) -> list[Step]:
        listing = "\n".join(
            self.words[op].replace("{most}", str(self.most)).replace("{turns}", str(self.turns))
            for op in self.allowed
        )
        told = blocks(f"{self.words['guide']}\n{listing}", earlier=self._remembered(stage))
        voice = stage.voice("guide", self.guide)
        problem = ""
        for _ in range(2):
            again = f"{told}\n\n{self.words['again']} {problem}." if problem else told
            said = await main.aside("guide", again, self.tokens, voice)
            steps = self.read(said.text) if said is not None else "nothing came"
            if not isinstance(steps, str):
                return steps
            problem = steps
        main.counters["broken_strategies"] += 1
        return self.fallback

    def _remembered(self, stage: Stage) -> str:
        """What the store holds about similar tasks, as data."""
        items = {item.key: item.text for item in stage.store.under(_KEY)}
        if not items or not self.recall:
            return ""
        index = Bm25.of(Document(key, "", text) for key, text in items.items())
        hits = index.search([signature(stage)], self.recall)[0]
        if hits:
            keys = tuple(hit.id for hit in hits)
            stage.proposals.append(Proposal(used=keys))
        return "\n".join(items[hit.id] for hit in hits)

    # ------------------------------------------------------------ the executor

    async def _step(
        self, stage: Stage, main: Transcript, step: Step, attempts: list[str]
    ) -> list[str]:
        main.counters[f"op_{step.op}"] += 1
        if step.op == "sample":
            return [*attempts, *await self._written(stage, main, [""] * step.number)]
        if step.op == "refine":
            for _ in range(step.number):
                attempts = await self._written(stage, main, attempts) or attempts
            return attempts
        if step.op == "verify":
            return await self._verified(stage, main, attempts)
        votes = Counter(" ".join(text.split()).casefold() for text in attempts)
        best = max(votes.values(), default=0)  # the first among equals
        return [t for t in attempts if votes[" ".join(t.split()).casefold()] == best][:1]

    async def _written(self, stage: Stage, main: Transcript, earlier: list[str]) -> list[str]:
        """New attempts at once, one for each text that is to be bettered ("": from nothing)."""
        told = [
            blocks(self.words["better" if text else "attempt"], attempt=text) for text in earlier
        ]
        said = await stage.together(
            [
                main.aside("attempt", text, self.tokens, stage.voice(f"solver/{place}"))
                for place, text in enumerate(told)
            ]
        )
        pairs = zip(said, earlier, strict=True)
        texts = [new.text if new is not None else old for new, old in pairs]
        return [text for text in texts if text.strip()]

    async def _verified(self, stage: Stage, main: Transcript, attempts: list[str]) -> list[str]:
        """The attempts that a verifier does not call wrong; all if none is left."""
        told = [blocks(self.words["check"], attempt=text) for text in attempts]
        said = await stage.together(
            [
                main.aside("verify", text, self.tokens, stage.voice(f"verifier/{place}"))
                for place, text in enumerate(told)
            ]
        )
        verdicts = ["" if each is None else each.text.casefold() for each in said]
        pairs = zip(attempts, verdicts, strict=True)
        return [t for t, v in pairs if v.rfind("wrong") <= v.rfind("right")] or attempts

    # ------------------------------------------------------------ the consolidator

    async def _consolidate(
        self, stage: Stage, main: Transcript, steps: list[Step], stop: Stop
    ) -> None:
        if self.consolidate == "off":
            return
        told = blocks(
            self.words["lesson"],
            strategy=json.dumps(written(steps)),
            ended=stop.sentence,
            turns=str(main.acted),
        )
        voice = stage.voice("consolidator", self.consolidate)
        lesson = await main.aside("lesson", told, self.tokens, voice)
        if lesson is None or not lesson.text.strip():
            return
        record = {
            "task": signature(stage),
            "strategy": written(steps),
            "stop": stop.value,
            "tokens": main.counters["sampled_tokens"],
            "lesson": lesson.text.strip(),
        }
        text = json.dumps(record, ensure_ascii=False)
        key = _KEY + blake2b(text.encode("utf-8", "replace"), digest_size=6).hexdigest()
        stage.facts["lesson"] = lesson.text.strip()
        stage.proposals.append(Proposal(put=((key, text),)))


def written(steps: list[Step]) -> list[dict[str, Any]]:
    """A strategy as JSON values."""
    return [{"op": step.op, "number": step.number} for step in steps]


def signature(stage: Stage) -> str:
    """What a task is told apart by: the last thing it says."""
    prompt = stage.opening.task.prompt
    return prompt[-1].text if prompt else ""
