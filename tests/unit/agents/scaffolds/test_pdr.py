"""PDR and sequential refinement: what each call sees, how workspaces are made, what is counted."""

from __future__ import annotations

import random
from typing import Any

import pytest
from scaffold_play import staged

from foldgym.agents.engines.scripted import FunctionPolicy
from foldgym.agents.renderers import CompactRenderer
from foldgym.agents.rollout import Limits
from foldgym.agents.scaffolds.pdr import PDR, SequentialRefinement
from foldgym.testing.doubles import ByteTokenizer, HashPolicy
from foldgym.types import Budget, Message, Prompt, Trajectory

RENDERER = CompactRenderer(ByteTokenizer())


def played(make: Any, turns: int = 1, **notes: str) -> tuple[Trajectory, list[tuple[str, str]]]:
    """An episode of a talkative policy, and (purpose, last message) of each of its calls."""
    calls: list[tuple[str, str]] = []
    count = iter(range(10_000))

    def speak(prompt: Prompt, rng: random.Random) -> str:
        calls.append((prompt.purpose, prompt.messages[-1].text))
        if prompt.purpose == "act":
            return "look"
        return f"{notes.get(prompt.purpose, prompt.purpose)} {next(count)}"

    group = staged(FunctionPolicy(speak), make, limits=Limits(max_turns=turns))
    assert not group.failures, group.failures[0].error
    return group.trajectories[0], calls


def test_rounds_of_drafts_and_a_workspace_between_them() -> None:
    trajectory, calls = played(lambda: PDR(drafts=(3, 2)))
    assert [purpose for purpose, _ in calls] == [
        *("draft",) * 3,
        *("distil",) * 3,
        *("draft",) * 2,
        *("distil",) * 2,
        "act",
    ]
    lineages = [turn.lineage for turn in trajectory.turns]
    assert lineages[:3] == ["draft/0", "draft/1", "draft/2"]
    assert set(lineages[3:6]) == {"distil"}
    texts = [text for _, text in calls]
    assert "notes:" not in texts[0]
    assert texts[3].endswith("attempt:\ndraft 0")
    # one draft after another is folded into the workspace
    assert "notes:\ndistil 3\n\nattempt:\ndraft 1" in texts[4]
    assert "notes:\ndistil 5" in texts[6]  # the next round sees what the last one left, ...
    assert "draft 0" not in texts[6]  # ... not its drafts
    assert texts[-1] == "Worked out beforehand:\ndistil 9"
    assert len(trajectory.segments) == len(calls)  # no call of these goes on from another


@pytest.mark.parametrize("distil", ["summary", "extract", "sample"])
def test_no_call_sees_more_than_the_task_a_workspace_and_a_draft(distil: Any) -> None:
    kappa, draft = 40, 60
    words = {"draft": "D", "distil": "W", "extract": "E", "workspace": "K"}
    policy = HashPolicy(RENDERER, garbage=0.2)

    def make() -> PDR:
        return PDR((3, 3), kappa, draft, distil, 3, words=words)

    task = len(RENDERER.encode(Message("user", "bring bread")))
    for seed in range(20):
        policy.calls.clear()
        staged(policy, make, seed, limits=Limits(max_turns=1))
        glue = 2 + 2 + len("W\n\nnotes:\n\n\nattempt:\n")
        assert max(len(context) for context, _ in policy.calls) <= task + kappa + draft + glue


def test_sequential_refinement_is_pdr_with_one_draft() -> None:
    refined, calls = played(lambda: SequentialRefinement(rounds=3, kappa=5))
    same, others = played(lambda: PDR((1, 1, 1), 5, distil="sample", keep=1))
    assert calls == others
    assert [turn.message for turn in refined.turns] == [turn.message for turn in same.turns]
    assert [purpose for purpose, _ in calls] == ["draft"] * 3 + ["act"]
    assert calls[1][1].endswith("notes:\ndraft")  # the last draft, cut to five tokens


def test_extracts_share_the_workspace() -> None:
    _, calls = played(lambda: PDR((4,), kappa=16, distil="extract"), distil="abcdefgh")
    assert [purpose for purpose, _ in calls] == ["draft"] * 4 + ["distil"] * 4 + ["act"]
    workspace = calls[-1][1].removeprefix("Worked out beforehand:\n")
    assert len(workspace.encode()) <= 16


def test_samples_are_kept_word_for_word_and_chosen_by_the_seed() -> None:
    runs = [played(lambda: PDR((5,), distil="sample", keep=2))[1][-1][1] for _ in range(2)]
    assert runs[0] == runs[1]
    kept = runs[0].removeprefix("Worked out beforehand:\n").split("\n\n")
    assert len(kept) == 2
    assert all(text.startswith("draft ") for text in kept)


def test_before_the_first_turn_or_before_each() -> None:
    once, _ = played(lambda: PDR((2,)), turns=3)
    assert sum(turn.purpose == "draft" for turn in once.turns) == 2
    each, calls = played(lambda: PDR((2,), each_turn=True), turns=3)
    assert sum(turn.purpose == "draft" for turn in each.turns) == 6
    later = [text for purpose, text in calls if purpose == "draft"][2]
    assert later.startswith("Think the task above through")
    assert [turn.lineage for turn in each.turns if turn.purpose == "act"] == ["main"] * 3


def test_latency_and_cost_are_counted_apart() -> None:
    """Bytes: drafts 0 to 2 say 8 ids each, the notes 9 and 9 and 9, and "look" 5."""
    trajectory, _ = played(lambda: PDR((3,)))
    sizes = dict.fromkeys(("draft", "distil", "act"), 0)
    for turn in trajectory.turns:
        sizes[turn.purpose] += turn.sampled_tokens
    assert sizes == {"draft": 24, "distil": 27, "act": 5}
    assert trajectory.counters["sampled_tokens"] == 24 + 27 + 5
    assert trajectory.counters["sequential_tokens"] == 8 + 27 + 5
    parallel, _ = played(lambda: PDR((3,), distil="extract"))
    assert parallel.counters["sequential_tokens"] == 8 + 9 + 5


def test_a_draft_that_does_not_fit_is_left_out() -> None:
    """The task alone leaves no room for notes: the speaker plays without them."""
    policy = FunctionPolicy(lambda prompt, rng: "look" if prompt.purpose == "act" else "x" * 30)
    budget = Budget(max_context=60, reserve=20)
    group = staged(policy, lambda: PDR((2,)), budget=budget, limits=Limits(max_turns=1))
    (trajectory,) = group.trajectories
    assert [turn.purpose for turn in trajectory.turns] == ["act"]
    assert trajectory.counters["asks_without_room"] == 2


def test_impossible_options() -> None:
    with pytest.raises(ValueError, match="at least 1 for each round"):
        PDR(drafts=(2, 0))
    with pytest.raises(ValueError, match="kappa"):
        PDR(kappa=0)
    with pytest.raises(ValueError, match="rounds must be at least 1, not 0"):
        SequentialRefinement(rounds=0)
