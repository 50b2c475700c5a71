"""What the learner adds to a batch, and what the objective does with it."""

import json
from copy import deepcopy
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from foldgym.errors import NotFinite
from foldgym.trainers.advantages import dr_grpo
from foldgym.trainers.advantages.gae import value_targets
from foldgym.trainers.batch import make_batch
from foldgym.trainers.columns import Columns
from foldgym.trainers.learner import TorchLearner
from foldgym.trainers.losses import Needs, decoupled, gspo, needs, ppo_clip, remix
from foldgym.trainers.mismatch import token_mask, token_truncate
from foldgym.trainers.optim import Optim
from foldgym.trainers.reading import Reader
from foldgym.trainers.samplers.slots import Arm, Pick
from foldgym.trainers.selection import d3s
from foldgym.trainers.values import ValueHead, ValuePredictor
from foldgym.types import Stop

STILL = Optim(lr=0.0, warmup=0, clip=1e9)
MOVING = Optim(lr=1e-2, warmup=0, clip=1e9)


def batch_of(by_hand, **options):
    groups = [
        by_hand.group(
            [1.0, 0.0],
            by_hand.trajectory([-1, -1, 0, 0, -1, 1], [-1, 2, 2], name="a"),
            by_hand.trajectory([-1, 0, -1, 1, 1, 1], name="b"),
        )
    ]
    return make_batch(groups, dr_grpo(groups), **options)


def fill(reader, batch, wanted=None, version=0, step=0, **options):
    columns = Columns(reader, wanted or Needs(), options.pop("reference", None), **options)
    return columns.fill(batch, step, version, 10**6)


def test_recomputing_moves_the_sampler_aside(by_hand):
    policy, batch = by_hand.tiny(), batch_of(by_hand)
    reader = Reader(policy.model)
    filled = fill(reader, batch, recompute=True)
    assert filled.extra["behaviour"] is batch.logprob_BT
    assert filled.logprob_BT == pytest.approx(reader.logprobs(batch, 10**6))
    assert fill(reader, batch) == batch


def test_staleness_counts_updates(by_hand):
    reader = Reader(by_hand.tiny().model)
    batch = batch_of(by_hand)  # sampled at version 0
    filled = fill(reader, batch, Needs(columns=("staleness",)), version=3)
    assert set(filled.extra["staleness"][batch.turn_BT >= 0]) == {3.0}


def test_mismatch_weights_multiply_the_policy_loss_only(by_hand):
    policy, batch = by_hand.tiny(), batch_of(by_hand)
    reader = Reader(policy.model)
    own_BT, entropy_BT = reader.scores(batch, 10**6)
    w_BT = np.minimum(np.exp(own_BT - batch.logprob_BT), 0.05)
    expected = -(batch.weight_BT * w_BT * batch.advantage_BT).sum()
    expected -= 0.1 * (batch.weight_BT * entropy_BT).sum()
    learner = TorchLearner(
        policy, ppo_clip, STILL, mismatch=partial(token_truncate, high=0.05), entropy=0.1
    )
    metrics = learner.update(batch)
    assert metrics["loss"] == pytest.approx(expected)
    assert metrics["loss_scale"] == pytest.approx(w_BT[batch.turn_BT >= 0].mean())
    # the gap is that to the sampler, although ratios are against the recomputed policy
    gap = np.abs(own_BT - batch.logprob_BT)[batch.turn_BT >= 0].max()
    assert metrics["logprob_gap_max"] == pytest.approx(gap)
    assert metrics["ratio"] == pytest.approx(1)


def test_when_everything_is_masked_nothing_is_learned(by_hand):
    policy, batch = by_hand.tiny(), batch_of(by_hand)
    before = by_hand.weights(policy)
    learner = TorchLearner(
        policy, ppo_clip, MOVING, mismatch=partial(token_mask, low=1e6, high=1e7)
    )
    assert learner.update(batch)["grad_norm"] == 0
    after = by_hand.weights(policy)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_entropy_bonus_raises_the_entropy(by_hand):
    policy = by_hand.tiny()
    with torch.no_grad():  # a new policy is nearly uniform; make it less so
        policy.model.get_input_embeddings().weight.mul_(40)
    batch = replace(batch_of(by_hand), advantage_BT=np.zeros((3, 6)))
    learner = TorchLearner(policy, ppo_clip, MOVING, entropy=1.0)
    values = [learner.update(batch)["entropy"] for _ in range(20)]
    assert values[-1] > values[0] + 0.1


def test_selection_keeps_the_top_tokens(by_hand):
    batch = replace(batch_of(by_hand), advantage_BT=np.ones((3, 6)))
    entropy_BT = np.arange(18.0).reshape(3, 6)
    at = np.flatnonzero(batch.weight_BT)  # the trained tokens
    assert len(at) == 9
    start = d3s(batch, entropy_BT, 0, percent=(25.0, 100.0), steps=10)
    assert np.flatnonzero(start).tolist() == at[-2:].tolist()  # int(9 * 0.25)
    assert d3s(batch, entropy_BT, 10, percent=(25.0, 100.0), steps=10).sum() == 9
    halfway = d3s(batch, entropy_BT, 5, percent=(25.0, 100.0), steps=10)
    assert halfway.sum() == 5  # int(9 * 0.625)


def test_a_loss_says_what_it_needs_and_an_unknown_column_is_refused(by_hand):
    policy = by_hand.tiny()
    assert TorchLearner(policy, gspo, STILL).whole == "trajectory"
    assert TorchLearner(policy, ppo_clip, STILL).whole == "row"

    @needs(Needs(columns=("weather",)))
    def odd(tokens):
        return ppo_clip(tokens)

    with pytest.raises(ValueError, match=r"columns \['weather'\]; known: \['behaviour'"):
        TorchLearner(policy, odd, STILL)
    with pytest.raises(ValueError, match="needs a reference"):
        TorchLearner(policy, remix, STILL)


def test_remix_remembers_the_previous_policy_and_reincarnates(by_hand):
    policy, batch = by_hand.tiny(), batch_of(by_hand)
    first = by_hand.weights(policy)
    reference = by_hand.tiny()
    loss = partial(remix, reincarnate=2, kl_coef=0.1)
    learner = TorchLearner(policy, loss, MOVING, reference=reference.model)

    def same(model, weights):
        return all(torch.equal(p, weights[name]) for name, p in model.named_parameters())

    learner.update(batch)
    second = by_hand.weights(policy)
    assert same(learner.columns.previous.model, first)
    assert same(reference.model, first)
    learner.update(batch)
    assert same(learner.columns.previous.model, second)
    assert same(reference.model, by_hand.weights(policy))

    # a resumed run has both again
    other = by_hand.policy(by_hand.tiny(5).model)
    other.model.load_state_dict(policy.model.state_dict())
    resumed = TorchLearner(other, loss, MOVING, reference=by_hand.tiny().model)
    resumed.load(deepcopy(learner.state()))
    metrics, again = learner.update(batch), resumed.update(batch)
    assert again == metrics
    assert same(other.model, by_hand.weights(policy))


def test_decoupled_needs_no_second_pass_when_it_guesses(by_hand):
    policy, batch = by_hand.tiny(), batch_of(by_hand)
    fresh = replace(batch, logprob_BT=Reader(policy.model).logprobs(batch, 10**6))
    loss = partial(decoupled, proximal="loglinear")
    guessed = TorchLearner(policy, loss, STILL).update(fresh)
    plain = TorchLearner(by_hand.tiny(), ppo_clip, STILL).update(fresh)
    assert guessed["loss"] == pytest.approx(plain["loss"])
    assert guessed["grad_norm"] == pytest.approx(plain["grad_norm"])


def test_a_bad_log_prob_names_its_trajectory_before_anything_moves(by_hand):
    policy, batch = by_hand.tiny(), batch_of(by_hand)
    before = by_hand.weights(policy)
    for loss in (ppo_clip, gspo, partial(decoupled, cap=5.0)):
        bad = replace(batch, logprob_BT=np.where(batch.turn_BT == 2, np.nan, batch.logprob_BT))
        bad = replace(bad, advantage_BT=np.where(batch.turn_BT >= 0, 1.0, 0.0))
        with pytest.raises(NotFinite, match="in trajectory a"):
            TorchLearner(policy, loss, MOVING).update(bad)
    after = by_hand.weights(policy)
    assert all(torch.equal(before[name], after[name]) for name in before)


# ---------------------------------------------------------------- values


def episodes(by_hand):
    return [
        by_hand.group(
            [1.0, 0.0, 0.0],
            by_hand.trajectory([-1, 0, 0, -1, 1], name="won"),
            by_hand.trajectory([-1, -1, 0, -1, 1, 1], name="lost"),
            by_hand.trajectory([-1, 0, 0], name="cut", stop=Stop.MAX_TURNS),
        )
    ]


def test_a_value_head_learns_the_return_without_touching_the_policy(by_hand):
    policy, groups = by_hand.tiny(), episodes(by_hand)
    before = by_hand.weights(policy)
    head = ValueHead(Reader(policy.model), lr=0.1, epochs=20, warmup=2)
    batch = make_batch(groups)
    assert (head.values(batch) == 0).all()
    first = head.fit(groups)
    assert head.warm
    # three tokens of the won and three of the lost episode; the cut one teaches nothing
    assert first == {"value_loss": pytest.approx(0.5), "value_explained": pytest.approx(-1.0)}
    for _ in range(20):
        last = head.fit(groups)
    assert last["value_explained"] > 0.99
    assert not head.warm
    values = head.values(batch)
    targets = make_batch(groups, value_targets(groups)).advantage_BT
    assert values[:2] == pytest.approx(targets[:2], abs=0.05)
    after = by_hand.weights(policy)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_value_head_continues_from_its_state(by_hand):
    groups = episodes(by_hand)
    one = ValueHead(Reader(by_hand.tiny().model))
    one.fit(groups)
    two = ValueHead(Reader(by_hand.tiny().model))
    two.load(deepcopy(one.state()))
    assert two.fit(groups) == one.fit(groups)
    assert (two.values(make_batch(groups)) == one.values(make_batch(groups))).all()
    assert two.fits == 2


def test_a_value_head_reads_the_state_before_the_id(by_hand):
    """What comes after an id cannot change its value."""
    head = ValueHead(Reader(by_hand.tiny().model))
    torch.nn.init.ones_(head.layer.weight)
    batch = make_batch(episodes(by_hand))
    changed = replace(batch, ids_BT=batch.ids_BT.copy())
    changed.ids_BT[0, 2] += 1
    a, b = head.values(batch)[0], head.values(changed)[0]
    assert a[[1, 2]] == pytest.approx(b[[1, 2]])
    assert abs(a[4] - b[4]) > 1e-6


ARMS = [Arm("easy", "w", {"n": 3}), Arm("hard", "w", {"n": 9}), Arm("broken", "w", {"n": 0})]
PROMPTS = {3: (1, 2, 3), 9: (40, 41, 42), 0: ()}


def predictor_of(by_hand, warmup=0):
    head = ValueHead(Reader(by_hand.tiny().model), warmup=warmup)
    return ValuePredictor(head, lambda requests: [PROMPTS[r.kwargs["n"]] for r in requests])


def test_a_value_predictor_tells_tasks_apart_by_their_prompts(by_hand):
    predictor = predictor_of(by_hand)
    picks = [Pick(arm, 7) for arm in ARMS]
    assert predictor.predict(picks) == [0.0, 0.0, 0.0]
    for _ in range(60):
        predictor.learn(picks, [0.9, 0.1, 0.5])
    easy, hard, broken = predictor.predict(picks)
    assert (easy, hard) == pytest.approx((0.9, 0.1), abs=0.05)
    assert broken == 0.0  # nobody knows what it says, so nothing was learned from it
    # a setting of the task goes over that of its arm, as in the request that is played
    assert predictor.predict([Pick(ARMS[0], 7, {"n": 9})]) == [hard]


def test_a_value_predictor_continues_exactly_from_its_json(by_hand):
    predictor, other = predictor_of(by_hand), predictor_of(by_hand)
    picks = [Pick(arm, 7) for arm in ARMS[:2]]
    predictor.learn(picks, [0.9, 0.1])
    other.load(json.loads(json.dumps(predictor.state())))
    for each in (predictor, other):  # moments of the optimiser count too
        each.learn(picks, [0.8, 0.3])
    assert other.predict(picks) == predictor.predict(picks)
    assert other.state() == predictor.state()


def test_a_value_predictor_knows_nothing_while_its_head_warms_up(by_hand):
    predictor = predictor_of(by_hand, warmup=2)
    picks = [Pick(arm, 7) for arm in ARMS[:2]]
    said = []
    for _ in range(3):
        said.append(predictor.predict(picks))
        predictor.learn(picks, [1.0, 0.0])
    assert said[:2] == [[0.5, 0.5]] * 2
    assert said[2][0] > said[2][1]
