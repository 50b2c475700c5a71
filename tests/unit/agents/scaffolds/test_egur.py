"""EGuR: strategies are checked before they run, operators do their work, lessons are proposed."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from scaffold_play import staged

from foldgym.agents.engines.scripted import FunctionPolicy
from foldgym.agents.rollout import Limits
from foldgym.agents.scaffolds.egur import EGuR, Step
from foldgym.memory import Store
from foldgym.types import Group, Item, Prompt, Snapshot, Stop, Trajectory

Calls = list[tuple[str, str]]


def group(
    answers: dict[str, list[str]],
    turns: int = 3,
    store: Any = None,
    aux: Any = None,
    **options: Any,
) -> tuple[Group, Calls]:
    """A group of one; `answers` by purpose, in order, and (purpose, last message) of each call."""
    given = {purpose: iter(texts) for purpose, texts in answers.items()}
    calls: Calls = []

    def speak(prompt: Prompt, rng: random.Random) -> str:
        calls.append((prompt.purpose, prompt.messages[-1].text))
        return next(given.get(prompt.purpose, iter(())), "look")

    more = {} if store is None else {"store": store}
    found = staged(
        FunctionPolicy(speak),
        lambda: EGuR(**options),
        limits=Limits(max_turns=turns),
        aux=aux,
        **more,
    )
    assert not found.failures, found.failures[0].error
    return found, calls


def played(answers: dict[str, list[str]], **more: Any) -> tuple[Trajectory, Calls]:
    found, calls = group(answers, **more)
    return found.trajectories[0], calls


def steps(*ops: Any) -> str:
    return json.dumps({"steps": list(ops)})


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("sample a few", 'it is no JSON object with a list "steps"'),
        ('{"steps": 3}', 'it is no JSON object with a list "steps"'),
        ('{"steps": [3]}', "step 1: it is no object"),
        (steps({"op": "exec"}), "step 1: there is no operator 'exec'; allowed: sample, refine"),
        (steps({"op": ["sample"]}), "step 1: there is no operator ['sample']"),
        (steps({"op": "vote", "n": 2}), "step 1: vote knows no 'n'"),
        (steps({"op": "sample", "code": "x"}), "step 1: sample knows no 'code'"),
        (steps({"op": "sample", "n": 5}), "n of sample must be a whole number from 1 to 4, not 5"),
        (steps({"op": "sample", "n": True}), "n of sample must be a whole number"),
        (steps({"op": "tools", "turns": 9}), "turns of tools must be a whole number from 1 to 8"),
        (steps(*[{"op": "vote"}] * 5), "it has 5 steps, at most 4 are allowed"),
    ],
)
def test_what_is_no_strategy(text: str, why: str) -> None:
    problem = EGuR().read(text)
    assert isinstance(problem, str)
    assert problem.startswith(why) or why in problem


def test_a_strategy_is_read_out_of_what_stands_around_it() -> None:
    text = "I would say {well} " + steps({"op": "sample", "n": 2}, {"op": "vote"}) + " good luck"
    assert EGuR().read(text) == [Step("sample", 2), Step("vote", 1)]
    assert EGuR().read('{"steps": []}') == []


def test_an_operator_that_is_not_allowed_never_runs() -> None:
    broken = steps({"op": "tools"})
    trajectory, calls = played({"guide": [broken, broken]}, allowed=("sample", "vote"))
    assert [purpose for purpose, _ in calls] == ["guide", "guide", "act", "act", "act"]
    assert calls[1][1].endswith("there is no operator 'tools'; allowed: sample, vote.")
    assert trajectory.counters["broken_strategies"] == 1
    assert trajectory.facts["strategy"] == []


def test_a_strategy_mended_at_the_second_try() -> None:
    trajectory, _ = played({"guide": ["no", steps({"op": "sample"})], "attempt": ["42"]})
    assert trajectory.facts["strategy"] == [{"op": "sample", "number": 1}]
    assert "broken_strategies" not in trajectory.counters


def test_attempts_are_made_bettered_checked_and_voted_on() -> None:
    strategy = steps({"op": "sample", "n": 4}, {"op": "refine"}, {"op": "verify"}, {"op": "vote"})
    trajectory, calls = played(
        {
            "guide": [strategy],
            "attempt": ["a", "b", "c", "d", "x  Y", "z", "x y", "z"],
            "verify": ["it is right", "wrong", "right", "first wrong, no: right"],
        }
    )
    purposes = [purpose for purpose, _ in calls]
    assert purposes == ["guide", *["attempt"] * 8, *["verify"] * 4, *["act"] * 3]
    assert [text.rpartition("\n")[2] for _, text in calls[5:9]] == ["a", "b", "c", "d"]
    assert [text.rpartition("\n")[2] for _, text in calls[9:13]] == ["x  Y", "z", "x y", "z"]
    # of "x  Y", "x y" and the second "z", the first two are one answer
    assert calls[13][1] == "Worked out beforehand:\nx  Y"
    lineages = {segment.lineage for segment in trajectory.segments}
    assert lineages >= {"main", "guide", "solver/0", "solver/3", "verifier/0", "verifier/3"}
    assert trajectory.counters["op_sample"] == 1


def test_if_all_are_called_wrong_all_stay() -> None:
    strategy = steps({"op": "sample", "n": 2}, {"op": "verify"})
    _, calls = played({"guide": [strategy], "attempt": ["p", "q"], "verify": ["wrong"] * 2})
    assert calls[-1][0] == "act"
    assert any(text == "Worked out beforehand:\np" for _, text in calls)


def test_tools_play_some_turns_and_the_rest_comes_after() -> None:
    strategy = steps({"op": "tools", "turns": 2}, {"op": "sample"})
    acts = ["buy milk", "look", "answer here"]
    trajectory, calls = played({"guide": [strategy], "attempt": ["hm"], "act": acts}, turns=5)
    assert [purpose for purpose, _ in calls] == ["guide", "act", "act", "attempt", "act"]
    assert trajectory.stop is Stop.DONE
    ended, calls = played({"guide": [strategy], "act": ["answer here"]}, turns=5)
    assert [purpose for purpose, _ in calls] == ["guide", "act"]
    assert ended.stop is Stop.DONE
    short, calls = played({"guide": [strategy]}, turns=2)
    assert [purpose for purpose, _ in calls] == ["guide", "act", "act", "attempt"]
    assert short.stop is Stop.MAX_TURNS


def test_a_lesson_is_proposed_without_knowing_the_reward() -> None:
    strategy = steps({"op": "tools"})
    answers = {"guide": [strategy], "act": ["answer x"], "lesson": ["bring it first"]}
    trajectory, calls = played(answers, consolidate="policy")
    assert calls[-1][0] == "lesson"
    assert trajectory.facts["score"] == 0.0
    assert "score" not in calls[-1][1]
    assert "The environment said that the episode is over." in calls[-1][1]
    assert trajectory.facts["lesson"] == "bring it first"
    assert trajectory.proposal is not None
    ((key, text),) = trajectory.proposal.put
    record = json.loads(text)
    assert key.startswith("egur/")
    assert record["strategy"] == [{"op": "tools", "number": 1}]
    assert record["lesson"] == "bring it first"
    assert record["task"].startswith("bring ")
    assert record["stop"] == "done"
    assert record["tokens"] > 0
    silent, _ = played(answers)
    assert silent.proposal is None


def test_the_guide_reads_what_was_kept_of_similar_tasks() -> None:
    kept = Snapshot(
        (
            Item("egur/1", "bring milk: buy it first"),
            Item("egur/2", "drive a car"),
            Item("other/3", "bring bring bring"),
        )
    )
    trajectory, calls = played({}, store=kept, recall=1)
    assert "earlier:\nbring milk: buy it first" in calls[0][1]
    assert "car" not in calls[0][1]
    assert trajectory.proposal is not None
    assert trajectory.proposal.used == ("egur/1",)
    assert trajectory.proposal.read == kept.address
    _, calls = played({}, store=kept, recall=0)
    assert "earlier" not in calls[0][1]


def test_lessons_go_through_the_store_to_the_next_episode() -> None:
    answers = {"guide": [steps({"op": "tools"})], "act": ["answer x"], "lesson": ["look first"]}
    first, _ = group(answers, consolidate="policy")
    store = Store()
    store.merge([first])
    _, calls = group({}, store=store.head)
    assert "look first" in calls[0][1]


def test_guide_and_consolidator_may_be_the_auxiliary_policy() -> None:
    strategy = steps({"op": "sample"})
    said = {"guide": strategy, "lesson": "well"}
    aux = FunctionPolicy(lambda prompt, rng: said[prompt.purpose])
    trajectory, calls = played({}, guide="aux", consolidate="aux", aux=aux)
    assert {purpose for purpose, _ in calls} == {"attempt", "act"}
    assert {segment.lineage for segment in trajectory.segments} == {"main", "solver/0"}
    assert trajectory.facts["lesson"] == "well"


def test_impossible_options() -> None:
    with pytest.raises(ValueError, match="allowed has no operator 'exec'"):
        EGuR(allowed=("exec",))
    with pytest.raises(ValueError, match="fallback is no strategy: step 1: there is no operator"):
        EGuR(fallback=steps({"op": "dance"}))
    with pytest.raises(ValueError, match="recall >= 0"):
        EGuR(most=0)
