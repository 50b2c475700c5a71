"""The operator's reviewers: single actions, the way, the end; and a plan in parts."""

from __future__ import annotations

import random
from typing import Any

import pytest
from scaffold_play import staged

from foldgym.agents.engines.scripted import FunctionPolicy
from foldgym.agents.renderers import CompactRenderer
from foldgym.agents.rollout import Limits
from foldgym.agents.scaffolds.operator_reflector import OperatorReflector, Played, circles
from foldgym.errors import UnknownName
from foldgym.testing.doubles import ByteTokenizer, HashPolicy
from foldgym.types import Prompt, Stop, Trajectory

Heard = list[tuple[str, list[str]]]


def played(
    acts: list[str], reviews: dict[str, list[str]] | None = None, aux: Any = None, **options: Any
) -> tuple[Trajectory, Heard]:
    """An episode; `reviews` are answers by the start of the role's instruction, then by purpose."""
    said = iter(acts)
    answers = {role: iter(texts) for role, texts in (reviews or {}).items()}
    heard: Heard = []

    def speak(prompt: Prompt, rng: random.Random) -> str:
        if prompt.purpose == "act":
            return next(said, "look")
        texts = [message.text for message in prompt.messages]
        starts = {"You check": "reflector", "You watch": "trajectory", "You judge": "finish"}
        role = next((name for start, name in starts.items() if texts[0].startswith(start)), "")
        role = role or prompt.purpose
        heard.append((role, texts))
        return next(answers.get(role, iter(())), "A")

    group = staged(
        FunctionPolicy(speak),
        lambda: OperatorReflector(**options),
        limits=Limits(max_turns=len(acts)),
        aux=aux,
    )
    assert not group.failures, group.failures[0].error
    return group.trajectories[0], heard


def operators(trajectory: Trajectory) -> list[list[str]]:
    """What the operator heard, turn by turn."""
    mine = [turn for turn in trajectory.turns if turn.lineage == "operator"]
    return [[message.text for message in turn.observation] for turn in mine]


ONLY_REFLECTOR = {"trajectory": "off", "finish": "off"}


def test_a_reflector_reads_every_action_and_objects() -> None:
    trajectory, heard = played(
        ["buy milk", "buy gold", "look"],
        {"reflector": ["A it worked", "B: the shop has no gold"]},
        **ONLY_REFLECTOR,
    )
    told = [texts for role, texts in heard if role == "reflector"]
    assert told[0][1].startswith("The agent's task:\n\ntask:\nbring ")
    assert told[0][-1] == 'buy {"thing": "milk"} -> you have milk'
    assert len(told) == 2  # nothing follows the last action
    assert told[1][-1].startswith('buy {"thing": "gold"} -> error: the shop has no')
    assert told[1][:3] == told[0]  # it remembers what it was told, ...
    assert told[1][3] == "A it worked"  # ... and what it said
    assert operators(trajectory)[0] == ["you have milk"]
    assert operators(trajectory)[1][1] == "A reviewer says: B: the shop has no gold"
    assert trajectory.counters["objections"] == 1
    assert {s.lineage for s in trajectory.segments} == {"operator", "reflector"}
    assert len(trajectory.segments) == 2


def test_a_reflector_with_a_memory_of_its_own() -> None:
    _, heard = played(
        ["buy milk", "buy salt", "buy bread", "look"],
        memories={"reflector": "mem1"},
        **ONLY_REFLECTOR,
    )
    last = [texts for role, texts in heard if role == "reflector"][-1]
    assert not any("milk" in text and "->" in text for text in last)
    assert last[-1].startswith('buy {"thing": "bread"}')


def test_a_sure_operator_is_not_checked() -> None:
    """The log-probs of `HashPolicy` lie in [-1, 0): nobody is surer than 0, all surer than -1."""
    renderer = CompactRenderer(ByteTokenizer())
    for sure, reviews in ((0.0, 4), (-1.0, 0)):
        policy = HashPolicy(renderer, garbage=0.0)
        make = lambda sure=sure: OperatorReflector(confidence=sure, **ONLY_REFLECTOR)  # noqa: E731
        (trajectory,) = staged(policy, make, limits=Limits(max_turns=5), seed=1).trajectories
        acted = sum(turn.purpose == "act" for turn in trajectory.turns)
        assert acted == 5
        assert sum(turn.purpose == "review" for turn in trajectory.turns) == reviews
        assert trajectory.counters.get("reflections_skipped", 0) == 4 - reviews


def test_the_way_is_looked_at_now_and_then() -> None:
    acts = ["buy milk", "look", "buy salt", "buy bread", "buy milk", "buy salt", "look"]
    options = {"reflector": "off", "finish": "off", "every": 2, "cooldown": 1}
    trajectory, heard = played(acts, {"trajectory": ["wander less", ""]}, **options)
    told = [texts[-1] for role, texts in heard if role == "trajectory"]
    assert len(told) == 3  # after the second, the fourth and the sixth
    assert told[0].splitlines()[0] == 'buy {"thing": "milk"} -> you have milk'
    assert told[1].startswith('buy {"thing": "salt"}')
    assert operators(trajectory)[1][-1] == "A reviewer says: wander less"
    assert trajectory.counters["advices"] == 2  # one was empty


def test_repetition_calls_it_at_once_and_then_it_is_quiet() -> None:
    acts = ["buy milk", "buy milk", "buy milk", "buy milk", "buy milk", "buy milk"]
    _, heard = played(acts, reflector="off", finish="off", every=50, cooldown=3)
    # noticed after the second action; then quiet for three; again after the fifth
    assert [role for role, _ in heard] == ["trajectory", "trajectory"]


def test_the_first_end_may_be_cancelled_once() -> None:
    trajectory, heard = played(
        ["buy milk", "answer done", "buy salt", "answer done"],
        {"finish": ["Failed: nothing was checked"]},
        reflector="off",
        trajectory="off",
    )
    (told,) = [texts for role, texts in heard if role == "finish"]
    assert told[-1] == (
        'It wants to end now.\n\nactions:\nbuy {"thing": "milk"} -> you have milk\n\n'
        'end:\nanswer {"text": "done"}'
    )
    assert operators(trajectory)[1] == ["Not finished yet: Failed: nothing was checked"]
    turn = next(turn for turn in trajectory.turns if turn.observation[0].text.startswith("Not"))
    assert turn.observation[0].tool_call_id == turn.message.tool_calls[0].id
    assert trajectory.stop is Stop.DONE
    assert trajectory.counters["ends_cancelled"] == 1


@pytest.mark.parametrize("verdict", ["Success", "Uncertain, but fine", "no idea"])
def test_any_other_verdict_lets_it_end(verdict: str) -> None:
    trajectory, _ = played(
        ["answer done", "look"], {"finish": [verdict]}, reflector="off", trajectory="off"
    )
    assert trajectory.stop is Stop.DONE
    assert len(operators(trajectory)) == 1


def test_plain_talk_counts_as_an_end_and_own_names_can_be_given() -> None:
    trajectory, heard = played(
        ["I am done", "look"], {"finish": ["failed"]}, reflector="off", trajectory="off"
    )
    assert heard[0][1][-1].endswith("end:\nI am done")
    assert operators(trajectory)[0] == ["Not finished yet: failed"]
    _, heard = played(["buy milk", "look"], reflector="off", trajectory="off", finishers=("buy",))
    assert [role for role, _ in heard] == ["finish"]


def test_a_plan_is_given_in_parts_and_what_was_found_with_them() -> None:
    trajectory, heard = played(
        ["buy milk", "answer one", "answer two"],
        {"plan": ["get milk\nbring it\nand a third"], "extract": ["milk is in the bag"]},
        plan="policy",
        reflector="off",
        trajectory="off",
        finish="off",
    )
    roles = [role for role, _ in heard]
    assert roles == ["plan", "extract"]
    assert "at most 2 smaller tasks" in heard[0][1][-1]
    first = trajectory.turns[1]
    assert (first.lineage, first.purpose) == ("operator", "act")
    assert any("Your task now: get milk" in text for text in heard[1][1])
    (second,) = [texts for texts in operators(trajectory) if "bring it" in texts[0]]
    assert second == ["Your task now: bring it\n\nknown:\nmilk is in the bag"]
    assert trajectory.counters["parts_done"] == 1
    assert trajectory.stop is Stop.DONE


def test_a_task_of_one_part_is_played_as_it_is() -> None:
    trajectory, heard = played(
        ["answer now"], {"plan": ["just do it"]}, plan="policy", reflector="off", finish="off"
    )
    assert [role for role, _ in heard] == ["plan"]
    assert trajectory.stop is Stop.DONE


def test_reviewers_may_be_the_auxiliary_policy() -> None:
    aux = FunctionPolicy(lambda prompt, rng: "C nothing changed")
    trajectory, heard = played(["look", "look"], aux=aux, reflector="aux", **ONLY_REFLECTOR)
    assert heard == []
    assert operators(trajectory)[0][-1] == "A reviewer says: C nothing changed"
    assert {segment.lineage for segment in trajectory.segments} == {"operator"}
    assert [turn.lineage for turn in trajectory.turns] == ["operator", "reflector", "operator"]


def test_circles() -> None:
    def done(*actions: str, result: str = "") -> list[Played]:
        return [
            Played(action, (result or f"{place}",), action.startswith("!"))
            for place, action in enumerate(actions)
        ]

    assert not circles(done("a"))
    assert not circles(done("a", "b"))
    assert circles(done("a", "a"))
    assert circles(done("a", "b", "a", "b"))
    assert not circles(done("a", "b", "a"))
    assert circles(done("a", "b", "c", "a", "b", "c"))
    assert circles(done("a", "b", result="the same"))
    assert circles(done("!a", "!b"))
    assert not circles(done("!a", "b"))


def test_impossible_options() -> None:
    with pytest.raises(ValueError, match="parts >= 2"):
        OperatorReflector(parts=1)
    with pytest.raises(ValueError, match="memories has no role 'operator'"):
        OperatorReflector(memories={"operator": "full"})
    with pytest.raises(UnknownName, match="unknown memory 'ful'"):
        OperatorReflector(memories={"finish": "ful"})
