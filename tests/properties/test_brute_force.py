"""An update of the learner against its definition, a trajectory and a token at a time.

What is expected knows nothing of batches, layouts, micro-batches or rows: it walks through
episodes, runs the model on one segment alone, and adds up what the formulas say.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM
from wide_norms import widen

from foldgym.trainers.batch import make_batch
from foldgym.trainers.layout import layout_of
from foldgym.trainers.learner import TorchLearner
from foldgym.trainers.losses import KLS, gppo, gspo, policy_gradient, ppo_clip
from foldgym.trainers.losses.aggregation import AGGREGATIONS, CONSTANT
from foldgym.trainers.optim import Optim
from foldgym.trainers.reading import Reader
from foldgym.trainers.values import ValueHead
from foldgym.types import (
    Credits,
    Group,
    Message,
    Request,
    Reward,
    Segment,
    Stop,
    Task,
    Trajectory,
    Turn,
)

few = settings(max_examples=8, suppress_health_check=list(HealthCheck))
VOCAB, NORM = 24, 7.0
WINDOW = {"sliding_window": 3, "layer_types": ["sliding_attention", "full_attention"]}
LLAMA = {"intermediate_size": 32, "num_key_value_heads": 1, "head_dim": 16}
MODELS: dict[str, dict[str, Any]] = {
    "qwen3": {**LLAMA, **WINDOW, "use_sliding_window": True},
    "llama": LLAMA,
    "gpt2": {},  # a table of positions, and dropout that must not act
}
LOSSES: dict[str, Any] = {
    "ppo_clip": partial(ppo_clip, eps_high=0.28),
    "gppo": gppo,
    "gspo": gspo,
    "policy_gradient": policy_gradient,
}


@cache
def fresh(family: str, seed: int) -> Any:
    torch.set_num_threads(1)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    ids = {"vocab_size": VOCAB, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = AutoConfig.for_model(family, **shape, **ids, **MODELS[family])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
        for p in made.parameters():  # far from the small weights of a new model
            torch.nn.init.normal_(p, std=0.15)
    return widen(made).eval()


def net(family: str) -> Any:
    """The policy as it was before any update."""
    made = fresh(family, 1)
    first = weights_of(family)
    with torch.no_grad():
        for name, p in made.named_parameters():
            p.copy_(first[name])
            p.grad = None
    return made


@cache
def weights_of(family: str) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in fresh(family, 1).named_parameters()}


def all_logps(model: Any, segment: Segment) -> torch.Tensor:
    """Log-probs [T, V] behind each id of a segment, which is alone in the model."""
    return model(torch.tensor([segment.token_ids]), use_cache=False).logits[0].log_softmax(-1)


# ---------------------------------------------------------------- random episodes


@st.composite
def segments(draw: Any, heads: list[tuple[int, ...]], turn: int) -> Segment:
    """One that begins like another of the batch for none, some or all of its ids."""
    before = draw(st.sampled_from(heads)) if heads and draw(st.integers(0, 2)) else ()
    head = before[: draw(st.integers(0, len(before)))] or (draw(st.integers(0, 2)),)
    turns = [-1] * len(head)
    for number in range(draw(st.integers(0, 2))):
        turns += [turn + number] * draw(st.integers(1, 3)) + [-1] * draw(st.integers(0, 2))
    more = len(turns) - len(head)
    ids = (*head, *draw(st.lists(st.integers(0, 2), min_size=more, max_size=more)))
    heads.append(ids)
    return Segment(
        ids,
        tuple(turns),
        (0.0,) * len(ids),
        tuple(0 if k >= 0 else -1 for k in turns),
        draw(st.sampled_from(["main", "main", "helper", "mute"])),
        draw(st.sampled_from([True, True, True, False])),
    )


@st.composite
def episodes(draw: Any) -> list[Group]:
    """Folded, of several lineages, some equal to others, some with nothing to train."""
    groups: list[Group] = []
    heads: list[tuple[int, ...]] = []
    for g in range(draw(st.integers(1, 3))):
        members: list[Trajectory] = []
        for m in range(draw(st.integers(1, 3))):
            if members and draw(st.integers(0, 4)) == 0:
                members.append(replace(draw(st.sampled_from(members)), id=f"g{g}m{m}"))
                continue
            parts: list[Segment] = []
            turn = 0
            for _ in range(draw(st.integers(1, 3))):
                parts.append(draw(segments(heads, turn)))
                turn = max([turn, *(k + 1 for k in parts[-1].turn_ids)])
            turns = tuple(Turn(k, Message("assistant", "x")) for k in range(turn))
            task = Task("q", ())
            members.append(Trajectory(f"g{g}m{m}", "w", task, 0, turns, tuple(parts), Stop.DONE))
        rewards = (Reward(0.0, 0.0),) * len(members)
        groups.append(Group(Request("w", g, len(members)), tuple(members), rewards))
    return groups


def sampled_near(model: Any, groups: Sequence[Group], seed: int, apart: float) -> list[Group]:
    """The episodes with log-probs of a sampler that is `apart` from the model."""
    rng = np.random.default_rng(seed)

    @torch.no_grad()
    def heard(s: Segment) -> Segment:
        all_TV = all_logps(model, s)
        own = [
            float(all_TV[t - 1, s.token_ids[t]]) + apart * rng.normal() if k >= 0 else 0.0
            for t, k in enumerate(s.turn_ids)
        ]
        return replace(s, logprobs=tuple(own))

    return [
        replace(
            group,
            trajectories=tuple(
                replace(t, segments=tuple(map(heard, t.segments))) for t in group.trajectories
            ),
        )
        for group in groups
    ]


def random_credit(groups: Sequence[Group], seed: int, by_turn: bool) -> Credits:
    rng = np.random.default_rng(seed)

    def one(t: Trajectory) -> tuple[Any, ...]:
        values = rng.normal(size=len(t.turns)) if by_turn else np.full(len(t.turns), rng.normal())
        table = np.append(values, 0.0)
        return tuple(table[np.array(s.turn_ids)] * s.trainable for s in t.segments)

    return tuple(tuple(one(t) for t in group.trajectories) for group in groups)


# ---------------------------------------------------------------- the definition


class Token(NamedTuple):
    logp: torch.Tensor
    entropy: torch.Tensor
    reference: torch.Tensor
    old: float
    credit: float
    share: float


class Wanted(NamedTuple):
    loss: str
    mode: str
    kl: str
    kl_coef: float
    bonus: float
    roles: dict[str, float]


def tokens_of(model: Any, reference: Any, t: Trajectory, credit: Any, roles: Any) -> list[Token]:
    found: list[Token] = []
    for s, credit_T in zip(t.segments, credit, strict=True):
        share = roles.get(s.lineage, 1.0) if s.trainable else 0.0
        if share == 0:
            continue
        ours, theirs = all_logps(model, s), all_logps(reference, s).detach()
        for at, (said, k) in enumerate(zip(s.token_ids, s.turn_ids, strict=True)):
            if k >= 0:
                row = ours[at - 1]
                entropy = -(row.exp() * row).sum()
                numbers = s.logprobs[at], float(credit_T[at]), share
                found.append(Token(row[said], entropy, theirs[at - 1, said], *numbers))
    return found


def scale_of(mode: str, size: float, sizes: Sequence[float]) -> float:
    """What one token of a trajectory of this size weighs, before its share."""
    filled = sum(each > 0 for each in sizes)
    return {
        "token-mean": 1 / sum(sizes),
        "seq-mean-token-mean": 1 / filled / size,
        "seq-mean-token-sum": 1 / filled,
        "seq-mean-token-sum-norm": 1 / NORM,
        "dr-grpo": 1 / NORM / len(sizes),
    }[mode]


def loss_of(name: str, t: Token, row: Sequence[Token]) -> tuple[Any, bool, Any]:
    """Its value, whether it was clipped, and the ratio."""
    low, high, ratio = 0.8, 1.28, torch.exp(t.logp - t.old)
    if name == "policy_gradient":
        return -t.credit * t.logp, False, ratio
    if name == "gspo":
        ratio = torch.exp(sum((each.logp - each.old for each in row), torch.zeros(())) / len(row))
        low, high = 1 - 3e-4, 1 + 4e-4
    now = float(ratio.detach())
    held = min(max(now, low), high)
    if -t.credit * held <= -t.credit * now:
        return -t.credit * ratio, False, ratio
    return (-t.credit * held * (ratio / now if name == "gppo" else 1.0)), True, ratio


def expected(rows: Sequence[Sequence[Token]], wanted: Wanted) -> tuple[Any, dict[str, float]]:
    """The value with its gradient, and the numbers that are logged."""
    value: Any = torch.zeros((), dtype=torch.float64)
    sums: Counter[str] = Counter()
    sizes = [sum(t.share for t in row) for row in rows]
    every = [(t, row, size) for row, size in zip(rows, sizes, strict=True) for t in row]
    for t, row, size in every:
        loss, clipped, ratio = loss_of(wanted.loss, t, row)
        d = t.logp - t.reference
        kl = d * d / 2 if wanted.kl == "k2" else torch.exp(-d) + d - 1
        scale = scale_of(wanted.mode, size, sizes) * t.share
        value = value + scale * (loss + wanted.kl_coef * kl - wanted.bonus * t.entropy)
        gap = float(t.logp.detach()) - t.old
        sums["kl"] += float(kl.detach())
        sums["entropy"] += float(t.entropy.detach())
        sums["nll"] -= float(t.logp.detach())
        sums["approx_kl"] += math.exp(gap) - 1 - gap
        if wanted.loss != "policy_gradient":
            sums["clip_fraction"] += clipped
            sums["ratio"] += float(ratio.detach())
    numbers = {name: total / len(every) for name, total in sums.items()}
    gaps = [abs(float(t.logp.detach()) - t.old) for t, _, _ in every]
    return value, numbers | {"logprob_gap_max": max(gaps), "tokens": len(every)}


@st.composite
def wishes(draw: Any) -> Wanted:
    loss = draw(st.sampled_from([*LOSSES]))
    mode = "seq-mean-token-mean" if loss == "gspo" else draw(st.sampled_from(AGGREGATIONS))
    roles = [{}, {"mute": 0.0}]
    if loss != "gspo":  # whose tokens carry their own share of one gradient
        roles += [{"helper": 0.5}, {"helper": 3.0, "mute": 0.0}]
    return Wanted(
        loss,
        mode,
        draw(st.sampled_from(["k2", "k3"])),
        draw(st.sampled_from([0.0, 0.3])),
        draw(st.sampled_from([0.0, 0.1])),
        draw(st.sampled_from(roles)),
    )


@pytest.mark.parametrize("family", MODELS)
@few
@given(
    groups=episodes(),
    wanted=wishes(),
    layout=st.sampled_from(["padded", "packed", "shared", "auto"]),
    budget=st.sampled_from([1, 5, 12, 30, 10**6]),
    chunk=st.sampled_from([0, 1, 4]),
    apart=st.sampled_from([0.0, 0.3]),
    seed=st.integers(0, 999),
)
def test_an_update_is_what_its_definition_says(
    family: str, groups: Any, wanted: Wanted, layout: Any, budget: int, chunk: int, apart: float,
    seed: int,
) -> None:  # fmt: skip
    model, reference = net(family), fresh(family, 2)
    groups = sampled_near(model, groups, seed, apart)
    credits = random_credit(groups, seed, wanted.loss != "gspo")
    rows = [
        tokens_of(model, reference, t, credit, wanted.roles)
        for group, per_group in zip(groups, credits, strict=True)
        for t, credit in zip(group.trajectories, per_group, strict=True)
    ]
    assume(any(rows))
    value, numbers = expected(rows, wanted)
    value.backward()
    slope = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    norm = math.sqrt(sum(float((g**2).sum()) for g in slope.values()))

    batch = make_batch(
        groups,
        credits,
        wanted.mode,
        norm=NORM if wanted.mode in CONSTANT else None,
        weigh=lambda s: wanted.roles.get(s.lineage, 1.0),
    )
    learner = TorchLearner(
        SimpleNamespace(model=model, version=0, advance=lambda: None),
        LOSSES[wanted.loss],
        Optim(lr=1.0, warmup=0, clip=1e9, layout=layout, microbatch_tokens=budget,
              logprob_chunk=chunk),
        kl=KLS[wanted.kl],
        kl_coef=wanted.kl_coef,
        reference=reference,
        entropy=wanted.bonus,
    )  # fmt: skip
    moving: Any = torch.optim.SGD(learner.params, lr=1.0)  # a step is the gradient itself
    learner.optimizer = moving
    found = learner.update(batch)
    numbers |= {"loss": float(value.detach()), "grad_norm": norm}
    got = {name: x for name, x in found.items() if name not in ("lr", "skipped_updates")}
    assert got == pytest.approx(numbers, rel=1e-8, abs=1e-10)
    for name, p in model.named_parameters():
        moved = weights_of(family)[name] - p.detach()
        assert torch.allclose(moved, slope.get(name, torch.zeros_like(p)), rtol=0,
                              atol=1e-9 * (1 + norm)), name  # fmt: skip


@pytest.mark.parametrize("family", MODELS)
@pytest.mark.parametrize("layout", ["padded", "shared"])
@few
@given(groups=episodes(), budget=st.sampled_from([1, 9, 10**6]))
def test_values_and_scores_are_those_of_each_segment_alone(
    family: str, layout: Any, groups: Any, budget: int
) -> None:
    model, batch = net(family), make_batch(groups)
    reader = Reader(model, layout=layout_of(layout, model))
    head = ValueHead(reader, max_tokens=budget)
    with torch.no_grad():
        head.layer.weight.copy_(torch.cos(torch.arange(32.0))[None])
    values_BT, (logp_BT, entropy_BT) = head.values(batch), reader.scores(batch, budget)
    parts = [s for g in groups for t in g.trajectories for s in t.segments if s.trained]
    assert batch.rows == len(parts)
    with torch.no_grad():
        for b, s in enumerate(parts):
            states = model.base_model(torch.tensor([s.token_ids]), use_cache=False)
            value_T = head.layer(states.last_hidden_state[0]).squeeze(-1)
            all_TV = all_logps(model, s)
            for t, k in enumerate(s.turn_ids):
                got = values_BT[b, t], logp_BT[b, t], entropy_BT[b, t]
                row = all_TV[t - 1]
                want = value_T[t - 1], row[s.token_ids[t]], -(row.exp() * row).sum()
                assert got == pytest.approx(tuple(map(float, want)) if k >= 0 else (0,) * 3,
                                            abs=1e-10)  # fmt: skip
