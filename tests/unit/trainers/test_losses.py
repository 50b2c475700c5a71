import math

import pytest
import torch

from foldgym.errors import ConfigError, UnknownName
from foldgym.trainers.losses import LOSSES, Tokens, k1, k2, k3, policy_gradient, ppo_clip
from foldgym.trainers.losses.kl import kl_loss


def tokens(logp, old, advantage):
    column = torch.tensor(logp, dtype=torch.float64, requires_grad=True)
    zeros = torch.zeros(len(logp), dtype=torch.int64)
    return Tokens(
        column,
        torch.tensor(old, dtype=torch.float64),
        torch.tensor(advantage, dtype=torch.float64),
        torch.ones(len(logp), dtype=torch.float64),
        zeros,
        zeros,
        zeros,
        zeros,
    )


def gradient(loss, at, **options):
    loss_N, metrics = loss(at, **options)
    loss_N.sum().backward()
    return loss_N.tolist(), at.logp_N.grad.tolist(), {k: v.tolist() for k, v in metrics.items()}


LN = math.log


def test_ppo_clip_by_hand():
    at = tokens([LN(1.5), LN(0.5), LN(1.5), LN(0.5)], [0.0] * 4, [2.0, 2.0, -2.0, -2.0])
    value, grad, metrics = gradient(ppo_clip, at)
    assert value == pytest.approx([-2.4, -1.0, 3.0, 1.6])
    assert grad == pytest.approx([0.0, -1.0, 3.0, 0.0])
    assert metrics["clip_fraction"] == [1, 0, 0, 1]


def test_clip_higher_moves_only_the_upper_bound():
    at = tokens([LN(1.25), LN(0.75)], [0.0, 0.0], [1.0, -1.0])
    value, grad, _ = gradient(ppo_clip, at, eps_low=0.2, eps_high=0.28)
    assert value == pytest.approx([-1.25, 0.8])
    assert grad == pytest.approx([-1.25, 0.0])


def test_dual_clip_bounds_what_a_bad_token_can_cost():
    at = tokens([LN(10.0), LN(10.0)], [0.0, 0.0], [-1.0, 1.0])
    value, grad, metrics = gradient(ppo_clip, at, dual_clip=3.0)
    assert value == pytest.approx([3.0, -1.2])
    assert grad == [0.0, 0.0]
    assert metrics["clip_fraction"] == [1, 1]


@pytest.mark.parametrize(
    "name", ["policy_gradient", "ppo_clip", "gppo", "cispo", "bapo", "clip_cov"]
)
def test_on_policy_a_token_loss_has_the_gradient_of_the_policy_gradient(name):
    advantage = [0.5, -2.0, 0.0, 3.0]
    at = tokens([-1.0, -2.0, -0.1, -30.0], [-1.0, -2.0, -0.1, -30.0], advantage)
    assert gradient(LOSSES[name], at)[1] == pytest.approx([-a for a in advantage])


def test_policy_gradient_is_likelihood_when_the_advantage_is_one():
    assert gradient(policy_gradient, tokens([-1.5], [0.0], [1.0]))[0] == [1.5]


def test_a_huge_log_ratio_stays_finite():
    value, grad, _ = gradient(ppo_clip, tokens([0.0, -2000.0], [-2000.0, 0.0], [-1.0, 1.0]))
    assert all(map(math.isfinite, value + grad))


def test_kl_estimators_by_hand():
    logp, reference = torch.tensor([LN(0.5)]), torch.tensor([LN(0.25)])
    assert k1(logp, reference).item() == pytest.approx(LN(2))
    assert k2(logp, reference).item() == pytest.approx(LN(2) ** 2 / 2)
    assert k3(logp, reference).item() == pytest.approx(0.5 + LN(2) - 1)


def test_k1_is_refused_as_a_loss():
    with pytest.raises(ConfigError, match="zero gradient in expectation"):
        kl_loss("k1")
    with pytest.raises(UnknownName, match="did you mean 'k2'"):
        kl_loss("k22")
    assert kl_loss("k2") is k2


@pytest.mark.parametrize("options", [{"eps_low": -0.1}, {"eps_high": -1.0}, {"dual_clip": 1.0}])
def test_bounds_that_make_no_sense_are_refused(options):
    with pytest.raises(ConfigError, match="ppo_clip needs"):
        ppo_clip(tokens([0.0], [0.0], [1.0]), **options)
