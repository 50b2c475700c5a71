"""Every page of `advantages` against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from foldgym.errors import Bug, ConfigError, UnknownName
from foldgym.trainers.advantages.anchors import anchors, exact, plain
from foldgym.trainers.advantages.copo import answer_entropy, copo
from foldgym.trainers.advantages.dcpo import dcpo
from foldgym.trainers.advantages.dyna import dyna_grpo
from foldgym.trainers.advantages.empg import empg
from foldgym.trainers.advantages.filters import repetitive, truncated, void_turn, without
from foldgym.trainers.advantages.gae import egae, gae, value_targets
from foldgym.trainers.advantages.gigpo import gigpo
from foldgym.trainers.advantages.group_weights import clpo, clpo_class, odsw, odsw_weight
from foldgym.trainers.advantages.hicra import hicra
from foldgym.trainers.advantages.igpo import igpo, igpo_curriculum, normalised_turns
from foldgym.trainers.advantages.inputs import flat, unflat
from foldgym.trainers.advantages.psr_nsr import nsr, psr, w_reinforce
from foldgym.trainers.advantages.reinforce_pp import reinforce_pp, reinforce_pp_kl, whitened
from foldgym.trainers.advantages.rloo import rloo
from foldgym.trainers.advantages.spans import find, marked, ngrams
from foldgym.trainers.advantages.toolpo import toolpo
from foldgym.trainers.advantages.turn_loo import turn_loo
from foldgym.trainers.batch import make_batch
from foldgym.types import (
    Group,
    Image,
    Message,
    Request,
    Reward,
    Segment,
    Stop,
    Task,
    ToolCall,
    Trajectory,
    Turn,
)

CALL = (ToolCall("look"),)


def episode(
    *turns: Turn, name: str = "t", ids: int = 1, stop: Stop = Stop.DONE, **facts: object
) -> Trajectory:
    """Every turn samples `ids` ids after one of context, all in one segment."""
    owners = [owner for k in range(len(turns)) for owner in (-1, *[k] * ids)] or [-1]
    size = len(owners)
    segment = Segment(tuple(range(size)), tuple(owners), (-0.5,) * size, (0,) * size)
    return Trajectory(name, "w", Task("q", ()), 0, turns, (segment,), stop, facts)


def act(text: str = "say", seen: str = "", **more: object) -> Turn:
    return Turn(0, Message("assistant", text), (Message("tool", seen),), **more)  # type: ignore[arg-type]


def acts(count: int, **more: object) -> Trajectory:
    return episode(*[act()] * count, **more)  # type: ignore[arg-type]


FOLD = Turn(0, Message("assistant", "notes"), purpose="fold")


def group(*members: tuple[Trajectory, Reward], reason: str = "", seed: int = 0) -> Group:
    trajectories, rewards = zip(*members, strict=True) if members else ((), ())
    request = Request("w", seed, len(members), reason=reason)
    return Group(request, tuple(trajectories), tuple(rewards))


def by_outcome(*rewards: float, turns: int = 1) -> Group:
    return group(*((acts(turns, name=f"t{i}"), Reward(r, r)) for i, r in enumerate(rewards)))


def turned(outcome: float, *turns: float) -> Reward:
    return Reward(outcome + sum(turns), outcome, turns)


def rows(groups, credits):
    """Credit at the sampled ids of every trajectory."""
    return [
        flat(t, part).tolist()
        for g, row in zip(groups, credits, strict=True)
        for t, part in zip(g.trajectories, row, strict=True)
    ]


# ---------------------------------------------------------------- REINFORCE++


def test_whitening_weighs_tokens():
    batch = [group((acts(3, name="a"), Reward(1, 1)), (acts(1, name="b"), Reward(0, 0)))]
    # values 1 1 1 0: mean 3/4, population variance 3/16
    high, low = 0.25 / math.sqrt(3 / 16), -0.75 / math.sqrt(3 / 16)
    got = rows(batch, reinforce_pp(batch, ddof=0, eps=0.0))
    assert got[0] == pytest.approx([high] * 3)
    assert got[1] == pytest.approx([low])
    assert whitened(np.array([5.0])).tolist() == [0.0]


def test_the_kl_in_the_reward_is_returned_to_the_ids_before_it():
    one = group((acts(2, name="a"), Reward(1, 1)))
    reference = (((np.array([0.0, -0.7, 0.0, -0.1]),),),)
    # log-probs are -0.5: gaps 0.2 and -0.4; with beta 1: rewards -0.2 and 0.4 + 1; returns 1.2, 1.4
    got = rows([one], reinforce_pp_kl([one], reference, beta=1.0, ddof=0, eps=0.0))
    assert got == [pytest.approx([-1.0, 1.0])]  # two values, whitened
    with pytest.raises(Bug, match=r"reference of segment 0 of trajectory a has shape \(2,\)"):
        reinforce_pp_kl([one], (((np.zeros(2),),),))


# ---------------------------------------------------------------- turn-level


def test_igpo_sums_standardised_turns_backwards():
    one = group(
        (acts(2, name="a"), turned(1.0, 0.4, 0.0)), (acts(2, name="b"), turned(0.0, 0.0, 0.0))
    )
    # gains 0.4 and 0, outcomes 1 and 0: each z is +-1, up to eps; gamma 1/2
    got = rows([one], igpo([one], gamma=0.5))
    assert got[0] == pytest.approx([1.5, 1.0], abs=1e-4)
    assert got[1] == pytest.approx([-1.5, -1.0], abs=1e-4)


def test_igpo_weights_after_normalising_do_not_cancel():
    one = group(
        (acts(2, name="a"), turned(1.0, 0.4, 0.0)), (acts(2, name="b"), turned(0.0, 0.0, 0.0))
    )
    assert rows([one], igpo([one], w_ig=0.5))[0] == pytest.approx([1.5, 1.0], abs=1e-4)
    # at half of training: gains 0.75, outcome 0.75
    half = rows([one], igpo_curriculum([one], 5, total=10))[0]
    assert half == pytest.approx([1.5, 0.75], abs=1e-4)
    with pytest.raises(ConfigError, match="at least 1 step, not 0"):
        igpo_curriculum([one], 5, total=0)


def test_igpo_without_turn_rewards_is_grpo_and_folds_follow_their_turn():
    bare = by_outcome(1.0, 0.0, turns=3)
    got = rows([bare], igpo([bare], gamma=0.5))
    assert got[0] == pytest.approx([0.25, 0.5, 1.0], abs=1e-4)
    folding = episode(act(), FOLD, act(), name="a")
    one = group((folding, turned(1.0, 0.4, 0.0, 0.0)), (acts(2, name="b"), turned(0.0, 0.0, 0.0)))
    assert rows([one], igpo([one]))[0] == pytest.approx([2.0, 1.0, 1.0], abs=1e-4)


def test_igpo_joint_takes_one_statistic():
    z = normalised_turns([[0.0, 1.0], [1.0]], "joint", norm_std=False)
    assert z == [[pytest.approx(-2 / 3), pytest.approx(1 / 3)], [pytest.approx(1 / 3)]]


def room(*texts: str) -> Trajectory:
    """Episodes that start in the same place and then see these texts."""
    return episode(*[act(seen=text) for text in texts], name=repr(texts))


def test_gigpo_compares_steps_at_the_same_observation():
    # both start at the empty prompt; then one sees "door", the other "lamp" and "lamp" again
    one = group((room("door", "x"), Reward(1, 1)), (room("lamp", "lamp", "y"), Reward(0, 0)))
    got = rows([one], gigpo([one], gamma=0.5))
    # episodes: +-1/2; first steps have returns 1/2 and 0: +-1/4; "lamp" twice, both 0; "door" alone
    assert got == [pytest.approx([0.75, 0.5]), pytest.approx([-0.75, -0.5, -0.5])]


def test_gigpo_statistics_of_the_paper_and_of_the_code():
    one = group((room("a", "b"), Reward(1, 1)), (room("c"), Reward(0, 0)))
    assert rows([one], gigpo([one], w=0.0))[1] == pytest.approx([-1 / 2])
    assert rows([one], gigpo([one], w=0.0, statistics="code"))[1] == pytest.approx([-2 / 3])


def test_anchors_can_be_made_canonical():
    one = group((room("Step 1", "x"), Reward(1, 1)), (room("step  22", "y"), Reward(0, 0)))
    assert rows([one], gigpo([one]))[0][1] == pytest.approx(0.5)
    assert rows([one], gigpo([one], anchor="plain"))[0][1] == pytest.approx(1.0)
    with pytest.raises(UnknownName, match="did you mean 'plain'"):
        gigpo([one], anchor="plan")


def test_anchors_are_what_was_last_seen():
    seen = episode(
        act(seen="a lamp"),
        FOLD,
        Turn(0, Message("assistant"), (Message("tool", ("p", Image(b"1"))),)),
    )
    texts = anchors(seen, exact)
    assert texts == ["", "a lamp", "a lamp"]
    more = anchors(episode(*seen.turns, act()), exact)
    other = Turn(0, Message("assistant"), (Message("tool", ("p", Image(b"2"))),))
    assert more[3] != anchors(episode(*seen.turns[:2], other, act()), exact)[3]
    assert plain("Day 3, 12:30") == "day #, #"


def test_turn_loo_by_hand():
    one = group(
        (acts(3, name="a"), turned(1.0, 0.5, 0.0, 0.0)),
        (acts(1, name="b"), turned(0.25, 0.0)),
        (acts(2, name="c"), turned(0.0, 0.0, 0.5)),
    )
    # returns to go: a 1.5 1 1; b 0.25; c 0.5 0.5
    got = rows([one], turn_loo([one]))
    assert got[0] == pytest.approx([1.5 - 0.375, 1 - 0.375, 1 - 0.375])
    assert got[1] == pytest.approx([0.25 - 1.0])
    assert got[2] == pytest.approx([0.5 - 0.875, 0.5 - 0.625])
    zero = rows([one], turn_loo([one], ended="zero"))
    assert zero[0] == pytest.approx([1.5 - 0.375, 1 - 0.25, 1 - 0.0])


def test_turn_loo_on_outcomes_alone_is_rloo():
    one = group(
        *((acts(k + 1, name=f"t{k}"), Reward(r, r)) for k, r in enumerate([1.0, 0.0, 0.3, 0.0]))
    )
    assert rows([one], turn_loo([one])) == [pytest.approx(row) for row in rows([one], rloo([one]))]


def test_turn_loo_at_an_anchor_uses_other_members_only():
    one = group(
        (room("door", "x"), Reward(1, 1)),
        (room("door", "door", "y"), Reward(0, 0)),
        (room("z"), Reward(0.5, 0.5)),
    )
    got = rows([one], turn_loo([one], anchor="exact"))
    assert got[0] == pytest.approx([1 - 0.25, 1 - 0.0])  # both visits of "door" by the second
    assert got[1] == pytest.approx([0 - 0.75, -1.0, -1.0])
    assert got[2] == pytest.approx([0.5 - 0.5])


# ---------------------------------------------------------------- segments, spans, entropies


def test_dcpo_counts_an_episode_once():
    # the same episode as two members: its reward enters the mean and the deviation once
    one = group(
        (acts(1, name="a"), Reward(1, 1)),
        (acts(1, name="a"), Reward(1, 1)),
        (acts(1, name="b"), Reward(0, 0)),
    )
    half = 0.5 / math.sqrt(0.5)
    got = rows([one], dcpo([one], eps=0.0))
    assert got == [pytest.approx([half]), pytest.approx([half]), pytest.approx([-half])]


def test_toolpo_gives_actions_their_own_credit():
    def member(name, *turns):
        return episode(Turn(0, Message("assistant", tool_calls=CALL)), FOLD, act(), name=name)

    one = group(
        (member("a"), turned(1.0, 1.0, 0.0, 0.2)), (member("b"), turned(0.0, 2.0, 0.0, 0.0))
    )
    # success 1 and 0, actions 1.2 and 2.0: tool call and fold get 0.5 - 0.4
    assert rows([one], toolpo([one]))[0] == pytest.approx([0.1, 0.1, 0.5])
    assert rows([one], toolpo([one], spans="folds"))[0] == pytest.approx([0.5, 0.1, 0.5])


def test_toolpo_takes_its_terms_from_the_reward():
    rewards = [
        Reward(r + a, r + a, parts={"em": r, "calls": a}) for r, a in [(1.0, 0.0), (0.0, 3.0)]
    ]
    call = Turn(0, Message("assistant", tool_calls=CALL))
    one = group(*((episode(call, name=f"t{i}"), r) for i, r in enumerate(rewards)))
    assert rows([one], toolpo([one], terms=("calls",)))[0] == pytest.approx([0.5 - 1.5])
    with pytest.raises(ConfigError, match="no reward term folds; terms: em, calls"):
        toolpo([one], terms=("folds",))


def test_an_unreadable_call_has_no_span():
    broken = Turn(0, Message("assistant", tool_calls=CALL), problem="no such tool")
    assert marked(episode(broken, act()), find("tool_calls")).tolist() == [False, False]


def test_a_span_finder_sees_whole_turns_and_is_checked():
    cut = Segment((9, 1, 2), (-1, 0, 0), (0.0,) * 3, (0,) * 3)
    rest = Segment((9, 3), (-1, 0), (0.0,) * 2, (0,) * 2)
    t = Trajectory("t", "w", Task("q", ()), 0, (act(),), (cut, rest), Stop.DONE)
    assert marked(t, lambda t, turn, ids: ngrams(ids, [(2, 3)])).tolist() == [False, True, True]
    with pytest.raises(Bug, match="gave 2 marks for the 3 ids of turn 0 of trajectory t"):
        marked(t, lambda t, turn, ids: [True, False])


def test_hicra_moves_planning_up():
    call = Turn(0, Message("assistant", tool_calls=CALL))
    one = group(
        (episode(call, act(), name="a"), Reward(1, 1)),
        (episode(call, act(), name="b"), Reward(0, 0)),
    )
    got = rows([one], hicra([one], spans="tool_calls", base="dr_grpo"))
    assert got == [pytest.approx([0.6, 0.5]), pytest.approx([-0.4, -0.5])]


def test_empg_by_hand():
    one = by_outcome(1.0, 0.0, turns=2)
    column = tuple((np.array([0.0, a, 0.0, b]),) for a, b in [(0.0, 1.0), (1.0, 1.0)])
    # scaled entropies 0 1 | 1 1; exp(-h): 1 e e e with e = 1/exp(1)
    e = math.exp(-1)
    mean = (1 + 3 * e) / 4
    moved = [0.5 / mean + 0.1 * e, 0.5 * e / mean, -0.5 * e / mean + 0.1 * e, -0.5 * e / mean]
    centre = sum(moved) / 4
    got = rows([one], empg([one], (column,), base="dr_grpo"))
    assert [x for row in got for x in row] == pytest.approx([m - centre for m in moved], abs=1e-6)


def test_empg_can_spare_groups_without_a_difference():
    tied, other = by_outcome(1.0, 1.0, turns=2), by_outcome(1.0, 0.0, turns=2)
    flat_entropy = tuple((np.array([0.0, 1.0, 0.0, 1.0]),) for _ in range(2))
    columns = (flat_entropy, flat_entropy)
    spared = rows([tied, other], empg([tied, other], columns, bonus_on_ties=False))
    assert spared[0][0] == pytest.approx(spared[0][1])
    moved = rows([tied, other], empg([tied, other], columns))
    assert moved[0][0] - moved[0][1] == pytest.approx(0.1)


# ---------------------------------------------------------------- values


def test_gae_runs_over_turns_and_places_rewards_on_their_last_id():
    one = group((acts(2, ids=2), turned(1.0, 0.5, 0.0)))
    column = ((np.array([0.0, 0.2, 0.4, 0.0, 0.6, 0.8]),),)
    # deltas with gamma 1: .2, .5 + .2, .2, 1 - .8; lambda 0 gives them, lambda 1 their sums
    assert rows([one], gae([one], (column,), lam=0.0))[0] == pytest.approx([0.2, 0.7, 0.2, 0.2])
    assert rows([one], gae([one], (column,), lam=1.0))[0] == pytest.approx([1.3, 1.1, 0.4, 0.2])
    assert rows([one], value_targets([one]))[0] == pytest.approx([1.5, 1.5, 1.0, 1.0])


def test_egae_holds_the_value_of_an_episode_that_was_cut():
    column = ((np.array([0.0, 0.2, 0.0, 0.6]),),)
    cut = group((acts(2, stop=Stop.MAX_TURNS), turned(0.0)))
    assert rows([cut], egae([cut], (column,), lam=1.0))[0] == pytest.approx([0.4, 0.0])
    assert rows([cut], gae([cut], (column,), lam=1.0))[0] == pytest.approx([-0.2, -0.6])


def test_a_turn_without_ids_leaves_its_reward_to_the_ids_before():
    silent = Segment((9, 1), (-1, 0), (0.0, -0.5), (0, 0))
    t = Trajectory("t", "w", Task("q", ()), 0, (act(), act()), (silent,), Stop.DONE)
    one = Group(Request("w", 0), (t,), (turned(1.0, 0.0, 0.5),))
    assert rows([one], value_targets([one]))[0] == [1.5]


def test_unflat_checks_the_number_of_values():
    with pytest.raises(Bug, match="3 values for the 2 sampled ids of trajectory t"):
        unflat(acts(2), np.zeros(3))


# ---------------------------------------------------------------- correctness and difficulty


def test_correctness_decides_and_must_be_known():
    one = group(
        (acts(1, name="a", success=True), Reward(0.3, 0.3)),
        (acts(1, name="b", success=False), Reward(0.9, 0.9)),
    )
    assert rows([one], psr([one])) == [[1.0], [0.0]]
    assert rows([one], nsr([one])) == [[0.0], [-1.0]]
    assert rows([one], w_reinforce([one], lam=0.25)) == [[0.25], [-1.0]]
    shaped = group((acts(1, success=0.5), Reward(1, 1)))
    with pytest.raises(ConfigError, match=r"success = 0\.5 on trajectory t, and it must be 0 or 1"):
        psr([shaped])


def test_copo_goes_by_agreement():
    assert answer_entropy(["a", "b"]) == pytest.approx(math.log(2))
    agreed = group(*((acts(1, name=f"a{i}", answer="7"), Reward(0, 0)) for i in range(2)))
    right = group(*((acts(1, name=f"b{i}", answer="3"), Reward(1, 1)) for i in range(2)))
    half = 0.5 / math.sqrt(0.5)
    got = rows([agreed, right], copo([agreed, right], eps=0.0))
    assert got == [pytest.approx([-half])] * 2 + [pytest.approx([half])] * 2
    # with a low threshold the members of a divided group are compared with each other
    split = group(*((acts(1, name=f"c{i}", answer=str(i)), Reward(i, i)) for i in range(2)))
    assert rows([split], copo([split], rho=0.0, gamma=1e3))[1] == pytest.approx([half], abs=1e-5)


@pytest.mark.parametrize(
    ("stage", "table"),
    [
        ("easy", [0, 0.383, 0.707, 0.924, 1, 1, 1, 1, 1]),
        ("medium", [0, 0.383, 0.707, 0.924, 1, 0.924, 0.707, 0.383, 0]),
        ("hard", [0.25, 1, 1, 1, 1, 0.924, 0.707, 0.383, 0]),
    ],
)
def test_odsw_has_the_table_of_the_specification(stage, table):
    assert [odsw_weight(k / 8, stage) for k in range(9)] == pytest.approx(table, abs=5e-4)


def test_odsw_windows_and_weights():
    assert [odsw_weight(k / 4, "medium", binary=True) for k in range(5)] == [0, 1, 1, 1, 0]
    assert [odsw_weight(k / 4, "hard", binary=True) for k in range(5)] == [0, 1, 1, 0, 0]
    one = group(
        *((acts(1, name=f"t{i}", success=i == 0), Reward(i == 0, i == 0)) for i in range(4))
    )
    # one of four: cos(pi / 4)
    assert rows([one], odsw([one], base="dr_grpo"))[0] == pytest.approx([0.75 * math.sqrt(0.5)])


def test_clpo_lets_hard_groups_count_more():
    assert [clpo_class(a) for a in (0.0, 0.3, 0.31, 0.7, 0.71, 1.0)] == [
        *("hard", "hard", "medium", "medium", "easy", "easy")
    ]
    hard, easy = (
        group(*((acts(1, name=f"{n}{i}", success=i < n), Reward(i < n, i < n)) for i in range(4)))
        for n in (1, 3)
    )
    got = rows([hard, easy], clpo([hard, easy], base="dr_grpo"))
    assert got[0] == pytest.approx([0.75])
    assert got[4] == pytest.approx([0.125])


def test_dyna_rewards_looking_ahead_only_if_right_and_better():
    plain_group = group(
        *((acts(1, name=f"p{i}"), Reward(r, r)) for i, r in enumerate([9.2, -0.4])), seed=5
    )
    refined = group(
        *(
            (acts(1, name=f"r{i}", success=right), Reward(r, r))
            for i, (r, right) in enumerate([(9.5, True), (-0.5, False), (9.0, True), (9.9, False)])
        ),
        reason="refine",
        seed=5,
    )
    got = rows([plain_group, refined], dyna_grpo([plain_group, refined]))
    assert got[2:] == [[1.0], [0.0], [1.0], [0.0]]
    assert got[0] == pytest.approx([math.sqrt(0.5)], abs=1e-6)
    # another task's plain attempts do not raise the bar
    better = group(*((acts(1, name=f"q{i}"), Reward(99, 99)) for i in range(2)), seed=6)
    assert rows([better, refined], dyna_grpo([better, refined]))[2] == [1.0]


# ---------------------------------------------------------------- filters


def test_what_is_filtered_leaves_the_loss_and_no_statistic():
    one = group(
        (acts(1, name="a"), Reward(1, 1)),
        (acts(1, name="b", stop=Stop.MAX_CONTEXT), Reward(0, 0)),
    )
    credits = rloo([one])
    kept = without([one], ["truncated"])
    batch = make_batch(kept, credits)
    assert batch.advantage_BT[batch.turn_BT >= 0].tolist() == [1.0]
    assert batch.weight_BT.sum() == pytest.approx(1.0)
    assert batch.names == ("a", "b")
    with pytest.raises(UnknownName, match="truncated"):
        without([one], ["truncate"])


def test_rules_of_filters():
    assert not truncated(acts(1, stop=Stop.PARSE_ERRORS))
    assert void_turn(episode(act("look", problem="no such tool")))
    assert void_turn(episode(act(" ")))
    assert not void_turn(episode(act("yes"), Turn(0, Message("assistant", tool_calls=CALL))))
    assert not void_turn(episode(Turn(0, Message("assistant"), purpose="fold")))
    ids = (0, *(1, 2) * 10)
    segment = Segment(ids, (-1, *[0] * 20), (0.0,) * 21, (0,) * 21)
    loop = Trajectory("t", "w", Task("q", ()), 0, (act(),), (segment,), Stop.DONE)
    assert repetitive(loop, n=2, times=10)
    assert not repetitive(loop, n=2, times=11)
