from dataclasses import replace

import numpy as np
import pytest
import torch

from foldgym.errors import NotFinite
from foldgym.trainers.advantages import dr_grpo
from foldgym.trainers.batch import make_batch
from foldgym.trainers.heads import Form
from foldgym.trainers.learner import TorchLearner
from foldgym.trainers.losses import k2, k3, policy_gradient, ppo_clip
from foldgym.trainers.optim import Optim
from foldgym.trainers.reading import Reader

PLAIN = Optim(lr=1e-2, warmup=0, clip=1e9)


def batch_of(by_hand, policy=None, temperature=1.0, **options):
    """Two groups with folds; old log-probs are the policy's own, so the batch is on-policy."""
    groups = [
        by_hand.group(
            [1.0, 0.0],
            by_hand.trajectory([-1, -1, 0, 0, -1, 1], [-1, 2, 2], name="a"),
            by_hand.trajectory([-1, 0, -1, -1, 1, 1, 1, 1], name="b"),
        ),
        by_hand.group(
            [0.0, 3.0],
            by_hand.trajectory([-1, 0], name="c"),
            by_hand.trajectory([-1, -1, -1, 0, 0], [-1, 1, -1, 2], name="d"),
        ),
    ]
    batch = make_batch(groups, dr_grpo(groups), **options)
    if policy is None:
        return batch
    return replace(batch, logprob_BT=Reader(policy.model, temperature).logprobs(batch, 10**6))


def slow_logprobs(model, batch, temperature):
    """Row by row without padding, from the model's full logits."""
    out = np.zeros(batch.ids_BT.shape)
    for row, length in enumerate(batch.length_B):
        ids = torch.tensor(batch.ids_BT[row, :length])
        with torch.no_grad():
            all_logp = (model(ids[None]).logits[0] / temperature).log_softmax(-1)
        for at in range(1, length):
            if batch.weight_BT[row, at]:
                out[row, at] = all_logp[at - 1, ids[at]]
    return out


@pytest.mark.parametrize("temperature", [1.0, 0.5])
@pytest.mark.parametrize("plain", [True, False])
def test_log_probs_are_those_of_each_row_alone(by_hand, temperature, plain):
    policy, batch = by_hand.tiny(), batch_of(by_hand)
    reader = Reader(policy.model, temperature)
    assert reader.scorer.form == Form()
    if not plain:
        reader.scorer.form = None
    expected = slow_logprobs(policy.model, batch, temperature)
    assert reader.logprobs(batch, 10**6) == pytest.approx(expected, abs=1e-12)
    assert reader.logprobs(batch, 1) == pytest.approx(expected, abs=1e-12)


def test_a_model_that_scales_its_logits_is_noticed(by_hand):
    policy = by_hand.tiny()
    forward = policy.model.forward

    def scaled(*args, **kwargs):
        out = forward(*args, **kwargs)
        out.logits = out.logits * 2
        return out

    policy.model.forward = scaled
    reader, batch = Reader(policy.model), batch_of(by_hand)
    expected = slow_logprobs(policy.model, batch, 1.0)
    assert reader.logprobs(batch, 10**6) == pytest.approx(expected, abs=1e-12)


def test_a_greedy_policy_has_no_log_probs(by_hand):
    with pytest.raises(ValueError, match="temperature above 0"):
        Reader(by_hand.tiny().model, 0.0)


def test_the_first_step_of_adamw_by_hand(by_hand):
    """Bias-corrected AdamW moves every weight by lr times the sign of its gradient at step one."""
    policy = by_hand.tiny()
    batch = batch_of(by_hand, policy)
    before = by_hand.weights(policy)
    TorchLearner(policy, ppo_clip, PLAIN).update(batch)
    reading = Reader(by_hand.tiny().model)
    tokens = reading.read(batch).tokens
    (-tokens.weight_N * tokens.advantage_N * tokens.logp_N).sum().backward()
    for (name, p), q in zip(
        policy.model.named_parameters(), reading.model.parameters(), strict=True
    ):
        moved = p.detach() - before[name]
        big = q.grad.abs() > 1e-4  # below, AdamW's eps shows
        assert torch.allclose(moved[big], -1e-2 * q.grad[big].sign(), rtol=1e-3)


def test_numbers_of_an_on_policy_update(by_hand):
    policy = by_hand.tiny()
    batch = batch_of(by_hand, policy)
    metrics = TorchLearner(policy, ppo_clip, PLAIN).update(batch)
    sampled = batch.turn_BT >= 0
    assert metrics["loss"] == pytest.approx(-(batch.weight_BT * batch.advantage_BT).sum())
    assert metrics["logprob_gap_max"] < 1e-12
    assert metrics["approx_kl"] == pytest.approx(0, abs=1e-12)
    assert metrics["ratio"] == pytest.approx(1)
    assert metrics["nll"] == pytest.approx(-batch.logprob_BT[sampled].mean())
    assert 0 < metrics["entropy"] < np.log(64)
    assert metrics["tokens"] == sampled.sum() == 15
    assert (metrics["clip_fraction"], metrics["skipped_updates"]) == (0, 0)
    assert metrics["lr"] == 1e-2
    assert metrics["grad_norm"] > 0
    assert policy.version == 1


def test_the_gap_shows_a_wrong_temperature(by_hand):
    policy = by_hand.tiny()
    batch = batch_of(by_hand, policy, temperature=0.5)
    gap = TorchLearner(policy, ppo_clip, PLAIN, temperature=0.5).update(batch)["logprob_gap_max"]
    assert gap < 1e-12
    policy = by_hand.tiny()
    wrong = TorchLearner(policy, ppo_clip, PLAIN, temperature=1.0).update(batch)["logprob_gap_max"]
    assert wrong > 1e-3


def test_fp32_agrees_to_a_hundred_thousandth(by_hand):
    policy = by_hand.tiny(dtype=torch.float32)
    batch = batch_of(by_hand)
    batch = replace(batch, logprob_BT=slow_logprobs(policy.model, batch, 1.0))
    assert TorchLearner(policy, ppo_clip, PLAIN).update(batch)["logprob_gap_max"] <= 1e-5


@pytest.mark.parametrize("whole", ["row", "trajectory", "group"])
def test_micro_batches_make_the_same_step(by_hand, whole):
    one, many = by_hand.tiny(), by_hand.tiny()
    batch = batch_of(by_hand, one)
    first = TorchLearner(one, ppo_clip, PLAIN).update(batch)
    tight = replace(PLAIN, microbatch_tokens=8)
    second = TorchLearner(many, ppo_clip, tight, whole=whole).update(batch)
    assert first == pytest.approx(second, abs=1e-9)
    for a, b in zip(one.model.parameters(), many.model.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-9)


@pytest.mark.parametrize("kl", [k2, k3])
def test_kl_pulls_back_to_the_reference(by_hand, kl):
    policy, reference = by_hand.tiny(0), by_hand.tiny(1)
    batch = replace(batch_of(by_hand, policy), advantage_BT=np.zeros((6, 8)))
    learner = TorchLearner(policy, ppo_clip, PLAIN, kl=kl, kl_coef=0.5, reference=reference.model)
    values = [learner.update(batch)["kl"] for _ in range(30)]
    theirs = Reader(reference.model).logprobs(batch, 10**6)
    gap = (batch.logprob_BT - theirs)[batch.turn_BT >= 0]
    by_definition = gap**2 / 2 if kl is k2 else np.exp(-gap) + gap - 1
    assert values[0] == pytest.approx(by_definition.mean())
    assert values[-1] < values[0] / 2
    with pytest.raises(ValueError, match="needs a reference"):
        TorchLearner(policy, ppo_clip, PLAIN, kl=kl)


def test_epochs_and_minibatches_count_as_optimiser_steps(by_hand):
    policy = by_hand.tiny()
    batch = batch_of(by_hand, policy)
    learner = TorchLearner(policy, ppo_clip, replace(PLAIN, epochs=2, minibatches=2))
    metrics = learner.update(batch)
    assert (learner.steps, policy.version) == (4, 1)
    assert metrics["logprob_gap_max"] < 1e-12  # of the first step only
    assert metrics["approx_kl"] > 1e-6  # the later ones are off-policy


# ---------------------------------------------------------------- what must not happen


def state_of(by_hand, policy, learner):
    optimizer = learner.optimizer.state_dict()["state"]
    return by_hand.weights(policy), [v.clone() for s in optimizer.values() for v in s.values()]


def unchanged(before, after):
    assert before[0].keys() == after[0].keys()
    assert all(torch.equal(before[0][name], after[0][name]) for name in before[0])
    assert all(torch.equal(a, b) for a, b in zip(before[1], after[1], strict=True))


def bad_loss(tokens):
    out = ppo_clip(tokens)
    return out._replace(loss_N=torch.where(tokens.trajectory_N == 1, torch.nan, out.loss_N))


def bad_gradient(tokens):
    # finite forwards, infinite backwards: the derivative of sqrt at 0
    out = ppo_clip(tokens)
    return out._replace(loss_N=out.loss_N + (tokens.logp_N - tokens.logp_N.detach()).sqrt())


@pytest.mark.parametrize("tokens", [10**6, 8])
@pytest.mark.parametrize(
    ("loss", "message"),
    [(bad_loss, "loss nan in trajectory b"), (bad_gradient, "gradient norm .* in model")],
)
def test_what_is_not_finite_changes_nothing(by_hand, loss, message, tokens):
    policy = by_hand.tiny()
    batch = batch_of(by_hand, policy)
    learner = TorchLearner(policy, ppo_clip, replace(PLAIN, microbatch_tokens=tokens))
    learner.update(batch)
    before = state_of(by_hand, policy, learner)
    learner.loss = loss
    with pytest.raises(NotFinite, match=message):
        learner.update(batch)
    unchanged(before, state_of(by_hand, policy, learner))
    assert (learner.steps, policy.version) == (1, 1)
    assert all(p.grad is None for p in policy.model.parameters())


def test_a_log_prob_that_is_not_finite_names_the_trajectory(by_hand):
    policy = by_hand.tiny()
    batch = batch_of(by_hand, policy)
    learner = TorchLearner(policy, ppo_clip, PLAIN)
    with torch.no_grad():
        policy.model.model.norm.weight[0] = torch.nan
    before = by_hand.weights(policy)
    with pytest.raises(NotFinite, match=r"log-prob nan in trajectory b \(row of 8 ids\)"):
        learner.update(batch)
    after = by_hand.weights(policy)
    assert all(torch.equal(before[n].nan_to_num(), after[n].nan_to_num()) for n in before)


def test_a_batch_without_trained_tokens_is_skipped_and_counted(by_hand):
    policy = by_hand.tiny()
    batch = batch_of(by_hand, policy)
    learner = TorchLearner(policy, ppo_clip, PLAIN)
    learner.update(batch)
    before = state_of(by_hand, policy, learner)
    masked = replace(batch, weight_BT=np.zeros_like(batch.weight_BT))
    assert learner.update(masked) == {"skipped_updates": 1.0}
    assert learner.update(make_batch([])) == {"skipped_updates": 2.0}
    unchanged(before, state_of(by_hand, policy, learner))
    assert learner.update(batch)["skipped_updates"] == 2.0


def test_state_continues_bit_equal(by_hand):
    optim = Optim(lr=1e-2, warmup=3, schedule="cosine", total=8, epochs=2, minibatches=2)
    straight, broken = by_hand.tiny(), by_hand.tiny()
    batch = batch_of(by_hand, straight)
    learner = TorchLearner(straight, ppo_clip, optim)
    for _ in range(2):
        learner.update(batch)
    first = TorchLearner(broken, ppo_clip, optim)
    first.update(batch)
    resumed = by_hand.policy(broken.model)
    second = TorchLearner(resumed, ppo_clip, optim)
    second.load(first.state())
    second.update(batch)
    for a, b in zip(straight.model.parameters(), broken.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_resumed_learner_decays_as_it_is_told_now(by_hand):
    policy = by_hand.tiny()
    first = TorchLearner(policy, ppo_clip, Optim(lr=1e-2))
    first.update(batch_of(by_hand, policy))
    second = TorchLearner(policy, ppo_clip, Optim(weight_decay=0.5, betas=(0.8, 0.9)))
    second.load(first.state())
    told = [(group["weight_decay"], group["betas"]) for group in second.optimizer.param_groups]
    assert told == [(0.5, (0.8, 0.9)), (0.0, (0.8, 0.9))]
    moments = [learner.state()["optimizer"]["state"][0]["exp_avg"] for learner in (first, second)]
    assert torch.equal(*moments)


def test_the_state_of_other_parameters_is_refused(by_hand):
    policy = by_hand.tiny()
    first = TorchLearner(policy, ppo_clip, Optim())
    next(policy.model.parameters()).requires_grad_(False)
    with pytest.raises(ValueError, match=r"parameters were trained, and now"):
        TorchLearner(policy, ppo_clip, Optim()).load(first.state())


def test_cloning_drives_the_likelihood_up(by_hand):
    policy = by_hand.tiny()
    batch = replace(batch_of(by_hand, zero="keep"), advantage_BT=np.ones((6, 8)))
    learner = TorchLearner(policy, policy_gradient, replace(PLAIN, clip=1.0))
    nll = [learner.update(batch)["nll"] for _ in range(40)]
    assert nll[0] == pytest.approx(np.log(64), abs=0.5)
    assert nll[-1] < 1.0


def test_schedule_by_hand():
    optim = Optim(lr=1.0, warmup=2, schedule="linear", floor=0.2, total=6)
    assert [optim.rate(s) for s in range(8)] == pytest.approx([0.5, 1, 1, 0.8, 0.6, 0.4, 0.2, 0.2])
    assert Optim(lr=1.0, warmup=0).rate(0) == 1.0


def test_weight_decay_spares_norms(by_hand):
    policy = by_hand.tiny()
    batch = replace(batch_of(by_hand, policy), advantage_BT=np.zeros((6, 8)))
    before = by_hand.weights(policy)
    TorchLearner(policy, ppo_clip, replace(PLAIN, weight_decay=0.5)).update(batch)
    for name, p in policy.model.named_parameters():
        factor = 1 - 1e-2 * 0.5 if p.ndim >= 2 else 1.0
        assert torch.allclose(p, before[name] * factor, rtol=1e-12), name
