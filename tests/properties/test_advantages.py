"""What holds for every registered advantage and reward term, whatever the episodes look like.

The registries are enumerated: a new entry is covered by being there. One that has options without
a default also needs a line in `OPTIONS`.
"""

# the small functions in place of judges and readers need no types
# pyright: reportUnknownLambdaType=false, reportGeneralTypeIssues=false
# pyright: reportArgumentType=false

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foldgym.errors import ConfigError, NotFinite
from foldgym.rewards import REWARDS, Rubric, Term
from foldgym.rewards.information_gain import Moment
from foldgym.rewards.rubric import needs
from foldgym.trainers.advantages import ADVANTAGES, ALONG_TRAJECTORY, estimate
from foldgym.trainers.advantages.inputs import flat
from foldgym.types import (
    Credits,
    Group,
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

OPTIONS: dict[str, dict[str, Any]] = {
    "g_ra": {"thresholds": (-0.5, 0.0, 0.0)},
    "hicra": {"spans": "actions"},
    "igpo_curriculum": {"total": 10},
    "l_grpo": {"max_tokens": 50},
    "pear": {"close": 3},
    "rule_share": {"rules": ("short", "polite")},
}
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("clpo", {"base": "rloo", "others": 0.25}),
    ("empg", {"bonus_on_ties": False, "base": "dr_grpo"}),
    ("gae", {"gamma": 0.9}),
    ("egae", {"gamma": 0.9, "lam": 0.5}),
    ("gigpo", {"statistics": "code", "norm_std": True, "anchor": "plain"}),
    ("grpo", {"singleton": "raw", "ddof": 0}),
    ("igpo", {"mode": "joint", "gamma": 0.9, "w_ig": 0.5}),
    ("igpo", {"norm_std": False}),
    ("odsw", {"stage": "hard"}),
    ("odsw", {"stage": "easy", "binary": True}),
    ("reinforce_pp", {"ddof": 0}),
    ("toolpo", {"terms": ("r",), "spans": "tool_calls"}),
    ("turn_loo", {"ended": "zero", "gamma": 0.9}),
    ("turn_loo", {"anchor": "exact"}),
]
CASES = [
    *(pytest.param(name, OPTIONS.get(name, {}), id=name) for name in ADVANTAGES),
    *(pytest.param(name, more, id=f"{name}-{'-'.join(more)}") for name, more in VARIANTS),
]
ENDS = [stop for stop in Stop if stop is not Stop.ERROR]
REWARD = st.one_of(st.sampled_from([0.0, 1.0]), st.floats(-5, 5))

# ---------------------------------------------------------------- episodes


@dataclass(frozen=True)
class Token:
    """One id of an episode: the turn that sampled it (-1: context), and its columns."""

    id: int
    turn: int
    columns: tuple[float, float, float, float]  # log-prob, reference, entropy, value


COLUMNS = ("logprob", "reference", "entropy", "value")


def stream_of(turns: int, rng: random.Random) -> tuple[Token, ...]:
    """What was shown and sampled, in order; a turn may have sampled nothing."""
    out: list[Token] = []
    for turn in range(turns):
        for owner in (-1, turn):
            for _ in range(rng.randrange(4)):
                logs = (-rng.expovariate(1.0), -rng.expovariate(1.0))
                columns = (*logs, rng.expovariate(1.0), rng.gauss(0.0, 1.0))
                out.append(Token(rng.randrange(10), owner, columns))
    return tuple(out)


def segments(stream: Sequence[Token], cuts: Sequence[int]) -> tuple[list[Segment], Any]:
    """The stream cut at places; every segment repeats a context id first. Columns beside them."""
    bounds = [0, *sorted({cut for cut in cuts if 0 < cut < len(stream)}), len(stream)]
    parts = [stream[a:b] for a, b in pairwise(bounds)]
    head = Token(0, -1, (0.0, 0.0, 0.0, 0.0))
    built: list[Segment] = []
    columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    for part in parts:
        row = [head, *part]
        inside = [token.turn >= 0 for token in row]
        built.append(
            Segment(
                tuple(token.id for token in row),
                tuple(token.turn for token in row),
                tuple(t.columns[0] if s else 0.0 for t, s in zip(row, inside, strict=True)),
                (0,) * len(row),
            )
        )
        for place, name in enumerate(COLUMNS):
            values = [t.columns[place] if s else 0.0 for t, s in zip(row, inside, strict=True)]
            columns[name].append(np.array(values))
    return built, columns


@dataclass(frozen=True)
class Episode:
    """A trajectory before it is cut into segments."""

    bare: Trajectory
    stream: tuple[Token, ...]
    reward: Reward

    def cut(self, cuts: Sequence[int]) -> tuple[Trajectory, Any]:
        built, columns = segments(self.stream, cuts)
        return replace(self.bare, segments=tuple(built)), columns


VERDICTS = [(ToolCall("judge", json.dumps({"verdict": said})),) for said in ("Yes", "No")]
SEARCHES = [(ToolCall("search"),)]
CALLS = [(), (ToolCall("look"),), *SEARCHES, *VERDICTS]


def episode(name: str, count: int, dense: bool, rewards: Sequence[float], seed: int) -> Episode:
    """An episode of `count` turns; all that is not a reward is made from the seed."""
    rng = random.Random(seed)
    calls = [rng.choice(CALLS) for _ in range(count)]
    turns = tuple(
        Turn(
            k,
            Message("assistant", "say", tool_calls=calls[k]),
            (
                Message(
                    "tool",
                    rng.choice(["a lamp", "a door", "step 3", ""]),
                    name=calls[k][0].name if calls[k] else "",
                ),
            ),
            purpose=rng.choice(["act", "act", "fold"]),
            problem=rng.choice(["", "", "unreadable"]),
            prompt_tokens=rng.randrange(1, 20),
            sampled_tokens=rng.randrange(9),
        )
        for k in range(count)
    )
    outcome = rewards[-1]
    per_turn = tuple(rewards[k % len(rewards)] for k in range(count)) if dense else ()
    total = outcome + sum(per_turn)
    facts = {
        "success": rng.random() < 0.5,
        "score": outcome,
        "answer": rng.choice(["7", "8", "nine"]),
        "supporting": ["a", "b"],
        "queries": [rng.choice(["lamp", "a lamp", "door"]) for said in calls if said in SEARCHES],
        "retrieved": [rng.sample("abcd", 2) for said in calls if said in SEARCHES],
        "submitted": seed % 3 > 0,
        "modified": seed % 2 > 0,
        "resolved": seed % 5 == 0,
        "partial": seed % 5 == 1,
        "patch": "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-1\n+7\n",
    }
    task = Task(
        "q",
        (Message("user", "where is the lamp?"),),
        "7",
        {
            "calls": [{"name": "look", "arguments": {}}],
            "rubric": [{"criterion": "kind", "points": 2}, {"criterion": "rude", "points": -1}],
        },
    )
    bare = Trajectory(name, "w", task, 0, turns, (), rng.choice(ENDS), facts)
    return Episode(bare, stream_of(count, rng), Reward(total, outcome, per_turn, {"r": total}))


@st.composite
def batches(draw: st.DrawFn) -> list[list[Episode]]:
    """Groups of episodes; also empty groups, singletons and groups that all score the same."""
    dense, alike = draw(st.booleans()), draw(st.booleans())
    sizes = draw(st.lists(st.integers(0, 4), max_size=3))
    turns = draw(st.integers(0, 4))
    one = st.lists(REWARD, min_size=1, max_size=3)
    return [
        [
            episode(
                f"{g}.{i}",
                turns if alike else draw(st.integers(0, 4)),
                dense,
                shared if alike else draw(one),
                draw(st.integers(0, 2**20)),
            )
            for i in range(size)
        ]
        for g, size in enumerate(sizes)
        for shared in [draw(one)]
    ]


Cuts = Callable[[Episode], Sequence[int]]


def never(episode: Episode) -> Sequence[int]:
    return ()


def credit(
    name: str,
    batch: Sequence[Sequence[Episode]],
    cuts: Cuts = never,
    options: dict[str, Any] | None = None,
) -> Any:
    """`(groups, credits)` of a registered estimator, everything that it needs given."""
    fn = partial(ADVANTAGES[name], **(OPTIONS.get(name, {}) if options is None else options))
    groups: list[Group] = []
    columns: dict[str, list[Any]] = {column: [] for column in COLUMNS}
    for number, members in enumerate(batch):
        cut = [episode.cut(cuts(episode)) for episode in members]
        groups.append(
            Group(
                Request("w", number, len(members)),
                tuple(trajectory for trajectory, _ in cut),
                tuple(episode.reward for episode in members),
            )
        )
        for column in COLUMNS:
            columns[column].append(tuple(tuple(given[column]) for _, given in cut))
    providers: dict[str, Any] = {
        column: lambda groups, column=column: tuple(columns[column]) for column in COLUMNS
    }
    providers["step"] = lambda groups: 3
    return groups, estimate(fn, groups, providers)


def values(groups: Sequence[Group], credits: Credits) -> dict[str, list[float]]:
    """Credit [N] at the sampled ids of every trajectory, by name."""
    return {
        trajectory.id: flat(trajectory, part).tolist()
        for group, credit_G in zip(groups, credits, strict=True)
        for trajectory, part in zip(group.trajectories, credit_G, strict=True)
    }


def assert_same(got: dict[str, list[float]], expected: dict[str, list[float]]) -> None:
    assert got.keys() == expected.keys()
    for name in expected:
        assert got[name] == pytest.approx(expected[name], rel=1e-6, abs=1e-6)


# ---------------------------------------------------------------- advantages


@pytest.mark.parametrize(("name", "options"), CASES)
@settings(max_examples=20)
@given(batch=batches(), seed=st.integers(0, 99))
def test_credit_is_finite_and_lies_on_sampled_ids_only(
    name: str, options: Any, batch: Any, seed: int
) -> None:
    groups, credits = credit(
        name, batch, lambda e: random.Random(seed).choices(range(9), k=2), options
    )
    assert len(credits) == len(groups)
    for group, credit_G in zip(groups, credits, strict=True):
        assert len(credit_G) == len(group.trajectories)
        for trajectory, part in zip(group.trajectories, credit_G, strict=True):
            assert [len(column) for column in part] == [
                len(segment.token_ids) for segment in trajectory.segments
            ]
            for segment, column in zip(trajectory.segments, part, strict=True):
                assert column.dtype == np.float64
                assert np.isfinite(column).all()
                assert not column[np.array(segment.turn_ids) < 0].any()


@pytest.mark.parametrize(("name", "options"), CASES)
@settings(max_examples=20)
@given(batch=batches(), rng=st.randoms(use_true_random=False))
def test_order_of_members_and_groups_does_not_matter(
    name: str, options: Any, batch: Any, rng: Any
) -> None:
    shuffled = [rng.sample(group, len(group)) for group in batch]
    numbered = list(enumerate(shuffled))
    rng.shuffle(numbered)
    mixed = [group for _, group in numbered]
    assert_same(
        values(*credit(name, mixed, options=options)), values(*credit(name, batch, options=options))
    )


@pytest.mark.parametrize(("name", "options"), CASES)
@settings(max_examples=20)
@given(batch=batches(), cuts=st.lists(st.integers(1, 20), min_size=1, max_size=4))
def test_where_a_trajectory_was_cut_does_not_matter(
    name: str, options: Any, batch: Any, cuts: Any
) -> None:
    whole = values(*credit(name, batch, options=options))
    assert_same(values(*credit(name, batch, lambda episode: cuts, options)), whole)


@pytest.mark.parametrize(("name", "options"), CASES)
@settings(max_examples=20)
@given(batch=batches(), filler=st.integers(1, 5))
def test_context_and_padding_do_not_matter(
    name: str, options: Any, batch: Any, filler: int
) -> None:
    pad = (Token(1, -1, (0.0, 0.0, 0.0, 0.0)),) * filler
    longer = [[replace(e, stream=(*pad, *e.stream, *pad)) for e in group] for group in batch]
    assert_same(
        values(*credit(name, longer, options=options)),
        values(*credit(name, batch, options=options)),
    )


def two(dense: bool = True) -> list[list[Episode]]:
    """Two members that act, fold and act again, with different scores and entropies."""
    batch: list[Episode] = []
    for i in range(2):
        turns = tuple(
            Turn(
                k,
                Message("assistant", "say", tool_calls=(ToolCall("look"),) if k == 0 else ()),
                (Message("tool", f"room {i}"),),
                purpose="fold" if k == 1 else "act",
            )
            for k in range(3)
        )
        facts = {"success": not i, "score": 1.0 - i, "answer": str(i)}
        bare = Trajectory(f"0.{i}", "w", Task("q", ()), 0, turns, (), Stop.DONE, facts)
        stream = tuple(
            token
            for k in range(3)
            for token in (
                Token(1, -1, (0.0,) * 4),
                Token(2, k, (-0.5, -0.3 * k, 0.2 * k + 0.1 * i, 0.1 * k)),
            )
        )
        per_turn = (0.5 * i, 0.0, 0.1) if dense else ()
        total = 1.0 - i + sum(per_turn)
        batch.append(Episode(bare, stream, Reward(total, 1.0 - i, per_turn, {"r": total})))
    return [batch]


@pytest.mark.parametrize("name", ADVANTAGES)
def test_the_table_says_which_credit_is_equal_along_a_trajectory(name: str) -> None:
    equal = all(len(set(row)) <= 1 for row in values(*credit(name, two())).values())
    assert equal == (name in ALONG_TRAJECTORY)


@pytest.mark.parametrize("name", ADVANTAGES)
def test_some_batch_gives_credit(name: str) -> None:
    assert any(any(row) for row in values(*credit(name, two())).values())


@pytest.mark.parametrize("name", ADVANTAGES)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_bad_reward_names_trajectory_and_term(name: str, bad: float) -> None:
    batch = two(dense=False)
    batch[0][1] = replace(batch[0][1], reward=Reward(bad, bad, parts={"em": 1.0, "cost": bad}))
    with pytest.raises(NotFinite, match=r"trajectory 0\.1 .*\(term cost\)"):
        credit(name, batch)


@pytest.mark.parametrize("name", [name for name in ADVANTAGES if needs(ADVANTAGES[name])])
def test_a_bad_or_missing_input_is_refused(name: str) -> None:
    wanted = needs(ADVANTAGES[name])
    groups, _ = credit(name, two())
    with pytest.raises(ConfigError, match=f"needs {wanted[0]}, and this run provides nothing"):
        estimate(partial(ADVANTAGES[name], **OPTIONS.get(name, {})), groups, {})
    if set(wanted) & set(COLUMNS):
        broken = two()
        token = broken[0][1].stream[1]
        nan = replace(token, columns=(token.columns[0], math.nan, math.nan, math.nan))
        stream = (broken[0][1].stream[0], nan, *broken[0][1].stream[2:])
        broken[0][1] = replace(broken[0][1], stream=stream)
        with pytest.raises(NotFinite, match=rf"{wanted[0]} of trajectory 0\.1"):
            credit(name, broken)


# ---------------------------------------------------------------- rewards


def scored(name: str, batch: Sequence[Episode], cuts: Cuts = never) -> tuple[Reward, ...]:
    fn = partial(REWARDS[name], **OPTIONS.get(name, {}))
    trajectories: list[Trajectory] = []
    entropies: dict[str, Any] = {}
    for episode in batch:
        trajectory, columns = episode.cut(cuts(episode))
        trajectories.append(trajectory)
        entropies[trajectory.id] = columns["entropy"]

    return Rubric([Term(name, fn)]).score_group(
        trajectories,
        step=3,
        entropy=lambda t: entropies[t.id],
        judge=lambda t, criteria: [bool(t.facts["success"])] * len(criteria),
        answer_logprobs=lambda t, form: [
            Moment(turn.index, ((-0.1 * turn.prompt_tokens, -0.2), (-1.0 / (1 + turn.index),)))
            for turn in t.turns
        ],
    )


@pytest.mark.parametrize("name", REWARDS)
@settings(max_examples=20)
@given(batch=batches(), cuts=st.lists(st.integers(1, 20), max_size=4))
def test_rewards_are_finite_and_know_nothing_of_segments(name: str, batch: Any, cuts: Any) -> None:
    for group in batch:
        whole = scored(name, group)
        cut = scored(name, group, lambda episode: cuts)
        for one, other, episode in zip(whole, cut, group, strict=True):
            assert math.isfinite(one.total)
            assert one.total == pytest.approx(other.total)
            assert len(one.turns) in (0, len(episode.bare.turns))


@pytest.mark.parametrize("name", REWARDS)
@settings(max_examples=20)
@given(batch=batches(), rng=st.randoms(use_true_random=False))
def test_rewards_do_not_depend_on_the_order_of_a_group(name: str, batch: Any, rng: Any) -> None:
    for group in batch:
        mixed = rng.sample(group, len(group))
        got = {e.bare.id: r.total for e, r in zip(mixed, scored(name, mixed), strict=True)}
        for episode, reward in zip(group, scored(name, group), strict=True):
            assert got[episode.bare.id] == pytest.approx(reward.total)
