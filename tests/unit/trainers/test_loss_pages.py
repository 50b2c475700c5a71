"""Losses worked out by hand where the vectors do not reach: options, limits, refusals."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from foldgym.errors import Bug, ConfigError
from foldgym.trainers.losses import (
    bapo,
    cispo,
    clip_cov,
    decoupled,
    gppo,
    gspo,
    mix_ppg,
    needs_of,
    pacs,
    ppo_clip,
    remix,
)
from foldgym.trainers.losses.bapo import Range
from foldgym.trainers.losses.decoupled import loglinear
from foldgym.trainers.losses.needs import options_of
from foldgym.trainers.losses.tokens import Tokens
from foldgym.trainers.mismatch import (
    Gap,
    geometric_mask,
    reject,
    sequence_mask,
    sequence_truncate,
    token_mask,
    token_truncate,
)

LN = math.log


def column(values):
    return torch.tensor(values, dtype=torch.float64)


def tokens(ratio, advantage, trajectory=None, group=None, weight=None, step=0, **extra):
    """Tokens whose old log-prob is 0 and whose ratio is given."""
    number = torch.tensor(range(len(ratio)) if trajectory is None else trajectory)
    return Tokens(
        column([LN(r) for r in ratio]).requires_grad_(),
        column([0.0] * len(ratio)),
        column(advantage),
        column([1.0] * len(ratio) if weight is None else weight),
        torch.zeros(len(ratio), dtype=torch.int64),
        torch.zeros(len(ratio), dtype=torch.int64),
        number,
        number if group is None else torch.tensor(group),
        {name: column([LN(p) for p in values]) for name, values in extra.items()},
        step,
    )


def both(loss, at):
    loss_N, _ = loss(at)
    (at.weight_N * loss_N).sum().backward()
    return loss_N.tolist(), at.logp_N.grad.tolist()


# ---------------------------------------------------------------- ppo, gppo, cispo


def test_delta_holds_the_free_ratio_for_both_signs():
    value, grad = both(partial(ppo_clip, delta=2.0), tokens([3.0, 3.0, 1.5], [-1.0, 1.0, -1.0]))
    assert value == pytest.approx([2.0, -1.2, 1.5])
    assert grad == pytest.approx([0.0, 0.0, 1.5])
    metrics = ppo_clip(tokens([3.0, 3.0, 1.5], [-1.0, 1.0, -1.0]), delta=2.0).metrics
    assert metrics["clip_fraction"].tolist() == [1, 1, 0]


def test_gppo_with_the_dual_clip_of_the_released_code():
    at = tokens([4.0, 0.5, 2.0], [-1.0, -1.0, 1.0])
    value, grad = both(partial(gppo, dual_clip=3.0), at)
    assert value == pytest.approx([3.0, 0.8, -1.28])
    assert grad == pytest.approx([0.0, 0.8, -1.28])


def test_the_two_meanings_of_cispos_eps():
    ratio, advantage = [3.0, 9.0, 0.5], [1.0, 1.0, -1.0]
    assert both(cispo, tokens(ratio, advantage))[1] == pytest.approx([-3.0, -5.0, 0.5])
    verl = partial(cispo, form="verl", eps_low=0.2)
    assert both(verl, tokens(ratio, advantage))[1] == pytest.approx([-1.28, -1.28, 0.8])


# ---------------------------------------------------------------- whole trajectories


def test_gspo_takes_the_mean_over_a_trajectory_in_pieces():
    # log-ratios .1, 0, 0 with A = -1: s = e^(1/30), the gradient is s / 3 per token
    at = replace(
        tokens([math.exp(0.1), 1.0, 1.0, 1.0], [-1.0, -1.0, -1.0, 5.0], [0, 1, 0, 0]),
        weight_N=column([1 / 3, 1.0, 1 / 3, 1 / 3]),
    )
    at = replace(at, advantage_N=column([-1.0, 5.0, -1.0, -1.0]))
    value, grad = both(gspo, at)
    s = math.exp(1 / 30)
    assert value == pytest.approx([s, -5.0, s, s])
    assert grad == pytest.approx([s / 3, -5.0, s / 3, s / 3])


def test_gspo_says_no_to_an_advantage_that_varies_unless_told():
    at = tokens([1.0, 1.0], [1.0, -1.0], [0, 0])
    with pytest.raises(Bug, match='use level="token"'):
        gspo(at)
    assert both(partial(gspo, level="token"), at)[1] == pytest.approx([-1.0, 1.0])
    assert needs_of(gspo).credit == "trajectory"
    assert needs_of(partial(gspo, level="token")).credit == "token"


def test_pacs_pulls_success_and_failure_apart():
    at = tokens([1.0, 1.0, 1.0, 1.0], [1.0, 0.0, 1.0, 1.0], [0, 1, 2, 3], [0, 0, 1, 1])
    value, grad = both(pacs, replace(at, weight_N=column([0.25] * 4)))
    assert value == pytest.approx([LN(2)] * 4)
    # q = (-1/8, 1/8) in the mixed group: dL/ds = q_i - q_j; the unanimous group has equal q
    assert grad == pytest.approx([-0.25, 0.25, 0.0, 0.0])


def test_pacs_balances_classes_and_leaves_a_lone_trajectory_alone():
    at = tokens([2.0, 1.0, 1.0, 1.0], [1.0, 0.0, 0.0, 1.0], [0, 1, 2, 3], [0, 0, 0, 1])
    value, grad = both(pacs, at)
    # RLOO of (ln 2, 0, 0): (ln 2, -ln 2 / 2, -ln 2 / 2); weights 3/2, 3/4, 3/4
    expected = [1.5 * LN(1.5), 0.75 * LN(1 + 2**-0.5), 0.75 * LN(1 + 2**-0.5), LN(2)]
    assert value == pytest.approx(expected)
    assert grad[3] == 0


def test_pacs_other_baselines():
    at = tokens([2.0, 1.0], [1.0, 0.0], [0, 1], [0, 0])
    assert pacs(at, baseline="none", beta=2.0).loss_N[0].item() == pytest.approx(LN(1.25))
    # scores (ln 2, 0): centred +-ln 2 / 2, deviation ln 2 / sqrt 2
    grpo = pacs(at, baseline="grpo").loss_N[0].item()
    assert grpo == pytest.approx(LN(1 + math.exp(-(0.5**0.5))), abs=1e-5)
    same = tokens([2.0, 2.0], [1.0, 0.0], [0, 1], [0, 0])
    assert all(map(math.isfinite, both(partial(pacs, baseline="grpo"), same)[1]))


# ---------------------------------------------------------------- bounds that move


def test_bapo_moves_as_its_variant_says():
    assert Range(0.8, 0.95, 0.05).moves == 3
    assert Range(0.8, 0.95, 0.1).at(2) == 0.95
    # positive 1 min(2, high), negative max(.9, low) + max(1.1, low), times 2
    at = tokens([2.0, 0.9, 1.1], [1.0, -2.0, -2.0])
    assert bapo(at).metrics["clip_low"].tolist() == pytest.approx([0.95] * 3)
    assert bapo(at).metrics["clip_high"].tolist() == pytest.approx([2.0] * 3)
    own = partial(bapo, low=[0.5, 0.9, 0.1], high=[1.0, 1.5, 0.5], target=10.0, dual_clip=None)
    assert own(at).metrics["clip_low"].tolist() == pytest.approx([0.9] * 3)
    with pytest.raises(ConfigError, match=r"low = \[start, end, step\] going up"):
        bapo(at, low=(0.9, 0.5, 0.1))


def test_clip_cov_draws_by_step_and_never_more_than_there_are():
    n = 200
    at = tokens([1.0] * n, [3.0] + [-1.0] * (n - 1))
    at = replace(at, logp_N=column(np.linspace(-1, -3, n)), old_N=column(np.linspace(-1, -3, n)))
    wide = partial(clip_cov, lower=-1.0, upper=99.0)
    dropped = [
        np.flatnonzero(wide(replace(at, step=s), share=0.05).metrics["cov_clip_fraction"]).tolist()
        for s in (1, 1, 2)
    ]
    assert len(dropped[0]) == 10
    assert dropped[0] == dropped[1] != dropped[2]
    assert wide(at, share=0.0).metrics["cov_clip_fraction"].sum() == 1
    assert clip_cov(at, lower=1e3, upper=1e4).metrics["cov_clip_fraction"].sum() == 0
    loss_N = wide(at, share=1.0).loss_N
    assert (loss_N == 0).sum() == wide(at, share=1.0).metrics["cov_clip_fraction"].sum()


# ---------------------------------------------------------------- off-policy


def test_decoupled_filters_sequences_by_their_geometric_mean():
    # behaviour 1/2 and 1/8, proximal 1: weights 2 and 8, geometric mean 4
    at = tokens([1.0, 1.0], [1.0, 1.0], [0, 0], behaviour=[0.5, 0.125])
    assert decoupled(at, cap=5.0).metrics["importance"].tolist() == pytest.approx([2.0, 0.0])
    whole = partial(decoupled, level="sequence")
    assert whole(at, cap=5.0).metrics["importance"].tolist() == pytest.approx([2.0, 8.0])
    assert whole(at, cap=3.0).metrics["importance"].tolist() == [0.0, 0.0]
    held = whole(at, cap=3.0, filter="clamp").metrics["importance"]
    assert held.tolist() == pytest.approx([1.5, 6.0])
    assert needs_of(whole).whole == "trajectory"
    # k3 of log-ratio d is e^-d - 1 + d: 1/2 - 1 + ln 2 = .193, and 1/8 - 1 + ln 8 = 1.204
    by_k3 = partial(decoupled, by="k3", cap=1.0)
    assert by_k3(at).metrics["importance"].tolist() == pytest.approx([2.0, 0.0])
    with pytest.raises(ConfigError, match="can clamp only"):
        decoupled(at, by="k3", filter="clamp")


def test_loglinear_guesses_between_sampler_and_current():
    logp, old = column([-1.0, -1.0, -1.0]), column([-2.0, -2.0, -2.0])
    guess = loglinear(logp, old, column([3.0, 0.0, 3.0]), torch.tensor([6, 9, -1]))
    assert guess.tolist() == pytest.approx([-1.25, -2.0, -2.0])


def test_mix_ppg_clips_around_where_the_policy_was():
    # old 1 against behaviour 1/2: centre 2, band 1.8 to 2.2
    at = tokens([1.2, 0.8], [1.0, -1.0], behaviour=[0.5, 0.5])
    value, grad = both(mix_ppg, at)
    assert value == pytest.approx([-2.2, 1.8])
    assert grad == [0.0, 0.0]


def test_remix_changes_its_kl_and_then_its_loss():
    def at(step):
        # pi e, base 1, previous policy e^-1: distances 1 and 2
        return tokens(
            [math.e], [0.0], step=step, behaviour=[1.0], reference=[1.0], previous=[1 / math.e]
        )

    loss = partial(remix, kl_coef=1.0, reincarnate=0)
    assert loss(at(0)).loss_N.item() == pytest.approx(0.5)
    assert loss(at(60)).loss_N.item() == pytest.approx(0.9 * 0.5 + 0.1 * 2.0)
    assert loss(at(500)).loss_N.item() == pytest.approx(0.5 * 0.5 + 0.5 * 2.0)
    assert remix(at(500), kl_coef=1.0, reincarnate=50).loss_N.item() == pytest.approx(0.5)
    assert needs_of(partial(remix, reincarnate=100)).rebase == 100


def test_options_of_nested_partials():
    assert options_of(partial(partial(gspo, eps_low=1.0), eps_low=2.0, eps_high=3.0)) == {
        "eps_low": 2.0,
        "eps_high": 3.0,
    }


# ---------------------------------------------------------------- mismatch


def gap(*logs, trajectory=None, turn=None):
    zeros = np.zeros(len(logs), dtype=int)
    return Gap(
        np.array(logs, dtype=float),
        zeros if trajectory is None else np.array(trajectory),
        zeros if turn is None else np.array(turn),
    )


def test_the_example_of_the_spec():
    at = gap(0.0, 1.0, 0.1)
    e = math.e
    assert token_truncate(at) == pytest.approx([1, 2, 1.1051709])
    assert token_mask(at, low=0.5, high=2.0) == pytest.approx([1, 0, 1.1051709])
    assert sequence_truncate(at) == pytest.approx([2, 2, 2])
    assert sequence_mask(at, high=2.0) == pytest.approx([0, 0, 0])
    assert sequence_mask(at, high=4.0) == pytest.approx([math.exp(1.1)] * 3)
    assert geometric_mask(at) == pytest.approx([1, e, 1.1051709])
    assert geometric_mask(at, high=1.4) == pytest.approx([0, 0, 0])


def test_a_turn_can_be_the_sequence():
    at = gap(0.0, 1.0, 0.1, 2.0, trajectory=[0, 0, 0, 1], turn=[0, 1, 1, 1])
    product = math.exp(1.1)
    assert sequence_mask(at, per="turn", high=4.0) == pytest.approx([1, product, product, 0])


def test_normalised_weights_have_mean_one():
    assert token_truncate(gap(0.0, LN(2.0)), high=9.0, normalise=True) == pytest.approx(
        [2 / 3, 4 / 3]
    )
    assert token_truncate(gap(), normalise=True).shape == (0,)


def test_rejection_by_divergence():
    at = gap(0.0, 1.0, 0.0, trajectory=[0, 0, 1])
    # k3 = e^d - 1 - d = .718, mean .359
    assert reject(at, high=0.4).tolist() == [1, 1, 1]
    assert reject(at, high=0.3).tolist() == [0, 0, 1]
    assert reject(at, high=0.4, over="max").tolist() == [0, 0, 1]
    assert reject(at, high=0.6, over="sum", by="k2").tolist() == [1, 1, 1]
    assert reject(at, high=0.4, over="token", by="k2").tolist() == [1, 0, 1]
    assert reject(at, low=-0.4, high=1.0, by="k1").tolist() == [0, 0, 1]
    with pytest.raises(ConfigError, match="k1 has either sign"):
        reject(at, high=1.0, by="k1")
    with pytest.raises(ConfigError, match="low <= high"):
        token_mask(at, low=2.0, high=1.0)


@pytest.mark.parametrize(
    ("loss", "options"),
    [
        (ppo_clip, {"delta": 1.1}),
        (ppo_clip, {"delta": 3.0, "dual_clip": 3.0}),
        (gspo, {"eps_low": -1.0}),
        (gppo, {"dual_clip": 0.5}),
        (cispo, {"eps_high": -1.0}),
        (clip_cov, {"share": 2.0}),
        (clip_cov, {"lower": 5.0, "upper": 1.0}),
        (mix_ppg, {"eps": -1.0}),
        (decoupled, {"cap": 0.0}),
    ],
)
def test_options_that_make_no_sense_are_refused(loss, options):
    with pytest.raises(ConfigError, match=f"{loss.__name__} needs"):
        loss(tokens([1.0], [1.0], behaviour=[1.0]), **options)
