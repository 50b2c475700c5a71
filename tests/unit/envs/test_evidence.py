"""What worlds name as worth remembering is literally what they said."""

from __future__ import annotations

import asyncio
import random

import pytest

import foldgym
from foldgym.envs.base import Env
from foldgym.envs.chains import Fact, read_fact
from foldgym.envs.worker import open_worker
from foldgym.envs.wrappers import MaxTurns
from foldgym.testing.contracts import check_env
from foldgym.types import Evidence, Message

WORLDS = {
    "foldgym/FictionalSearch-v0": {"hops": 3, "distractors": 20},
    "foldgym/FictionalChain-v0": {"questions": 4},
    "foldgym/PyDocsSearch-v0": {"hops": 2},
    "foldgym/KeyDoor-v0": {"rooms": 6},
    "foldgym/RunningSum-v0": {"turns": 6},
    "foldgym/HiddenGrid-v0": {},
    "foldgym/HiddenSequence-v0": {},
    "foldgym/FunctionOperator-v0": {},
    "foldgym/EscapeRoom-v0": {},
    "foldgym/Reactor-v0": {},
}


def played(name: str, seed: int, style: str) -> tuple[list[Evidence], list[Evidence], str]:
    """Evidence after reset and at the end, and all that was said."""
    env = foldgym.make(name, **WORLDS[name])
    said = [message.text for message in env.reset(seed=seed)[0]]
    first = list(env.evidence())
    for turn in range(60):
        step = env.step(env.expert(style, random.Random(turn)))
        said += [message.text for message in step.observation]
        if step.terminated or step.truncated:
            break
    return first, list(env.evidence()), "\n".join(said)


@pytest.mark.parametrize("style", ["optimal", "hasty"])
@pytest.mark.parametrize("name", WORLDS)
def test_new_evidence_was_said_word_for_word(name: str, style: str) -> None:
    asked = 0
    for seed in range(3):
        first, last, said = played(name, seed, style)
        assert last[: len(first)] == first
        for each in last:
            if each not in first:
                assert each.text in said
        asked += sum(bool(each.question) and each.text in said for each in last)
        assert len({each.question for each in last if each.question}) == len(
            [each for each in last if each.question]
        )
    assert asked >= 3


def test_the_evidence_of_a_chain_is_its_facts_and_what_else_was_read() -> None:
    env = foldgym.make("foldgym/FictionalSearch-v0", hops=2, top_k=3)
    env.reset(seed=1)
    fact = env.unwrapped.chain.facts[0]  # type: ignore[attr-defined]
    assert env.evidence()[0] == Evidence(
        f"{fact.relation} of {fact.subject} is {fact.value} .",
        f"what is the {fact.relation} of {fact.subject} ?",
        fact.value,
    )
    assert len(env.evidence()) == 2
    shown = env.step(Message("assistant", f"search {fact.query}")).observation
    assert len(env.evidence()) == 2  # plain text is no call: nothing was read
    step = env.step(f"search {fact.query}")
    lines = step.observation[0].text.splitlines()
    assert shown != step.observation
    others = [each for each in env.evidence() if not each.needed]
    assert [each.text for each in others] == [
        line for line in lines if line not in {e.text for e in env.evidence()[:2]}
    ]


def test_two_values_of_one_relation_are_not_asked_about() -> None:
    assert read_fact("visit of tusmol is pastan .") == Fact("visit", "tusmol", "pastan")
    assert read_fact("about Counter : Dict subclass for counting") is None
    env = foldgym.make("foldgym/FictionalSearch-v0", people=1, distractors=12, top_k=12)
    env.reset(seed=0)
    text = env.step("search visit").observation[0].text
    visits = {line for line in text.splitlines() if line.startswith("visit")}
    assert len(visits) > 1
    assert not any(each.text in visits for each in env.evidence())


def test_the_rooms_of_a_house_as_they_were() -> None:
    env = foldgym.make("foldgym/KeyDoor-v0")
    env.reset(seed=4)
    first = env.evidence()
    questions = [each.question.split()[0] for each in first]
    assert sorted(questions) == ["Where", "Where", "Which", "Which", "Which"]
    for turn in range(30):
        if env.step(env.expert("optimal", random.Random(turn))).terminated:
            break
    assert env.evidence() == first  # though the key was taken


def test_evidence_comes_through_wrappers_and_workers() -> None:
    async def told(isolation: str) -> tuple[Evidence, ...]:
        make = foldgym.envs.registry.maker("foldgym/FictionalSearch-v0", hops=1)
        handle = open_worker(make, isolation, 30.0)  # type: ignore[arg-type]
        try:
            await handle.reset(3, {})
            return await handle.evidence()
        finally:
            await handle.close()

    env = foldgym.make("foldgym/FictionalSearch-v0", hops=1)
    env.reset(seed=3)
    wanted = tuple(env.evidence())
    assert len(wanted) == 1
    assert all(asyncio.run(told(kind)) == wanted for kind in ("inline", "thread", "process"))
    assert tuple(MaxTurns(env, 3).evidence()) == wanted
    plain = foldgym.make("foldgym/GuessNumber-v0")
    plain.reset(seed=0)
    assert tuple(plain.evidence()) == ()


def test_evidence_that_breaks_its_promises_is_found_out() -> None:
    class Sloppy(foldgym.ToolEnv):
        def setup(self, rng: random.Random) -> str:
            return "go"

        def respond(self, message: Message) -> str:
            return "ok"

        def evidence(self) -> list[Evidence]:
            self._count("error: asked")
            return [Evidence(" "), Evidence("text", "question?")]

    make: type[Env] = Sloppy
    found = " ".join(str(each) for each in check_env(make, seeds=(0,), hostile=5))
    assert "no Evidence with a text" in found
    assert "a question needs an answer" in found
    assert "asking for evidence changed what is measured" in found
