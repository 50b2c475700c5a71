"""Whoever speaks: each sampled id is trained once, in its context, and nothing else ever is."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scaffold_play import RENDERERS, Troupe, staged

from foldgym.agents.scaffolds import SCAFFOLDS
from foldgym.agents.stage import role_of
from foldgym.config import resolve
from foldgym.memory import MEMORIES
from foldgym.records import to_table
from foldgym.testing.doubles import ByteTokenizer, PrefixHash, witness
from foldgym.types import Budget

OPTIONS: dict[str, list[dict[str, Any]]] = {
    "react": [{}],
    "deepagent": [
        {"max_actions": 3, "max_observation": 60},
        {"always": ["buy"], "top_k": 1, "max_result": 200, "condense": "policy"},
        {"tools": "closed", "repeatable": ["*"], "max_observation": 50, "condense": "aux"},
    ],
    "pdr": [
        {"drafts": (2, 1), "kappa": 20, "draft_tokens": 30},
        {"drafts": (3,), "kappa": 12, "distil": "extract", "each_turn": True},
        {"drafts": (2,), "distil": "sample", "keep": 1, "each_turn": True},
    ],
    "refine": [{"rounds": 2, "kappa": 16}, {"rounds": 1, "each_turn": True}],
    "leap": [
        {"paths": 3, "every": 6, "pauses": 2, "summary_tokens": 8, "peers": 1},
        {"paths": 2, "every": 9, "peers": 1, "router": "hybrid", "trim": False},
    ],
    "operator": [
        {"every": 2, "cooldown": 1, "plan": "policy"},
        {"reflector": "aux", "trajectory": "off", "finish": "aux", "confidence": -0.5},
        {"memories": {"reflector": "window"}, "finish": "off"},
    ],
    "egur": [
        {"tokens": 60, "consolidate": "policy"},
        {"guide": "aux", "consolidate": "aux", "most": 2, "turns": 2},
    ],
    "rein": [
        {"limit": 2, "recovery": {"give_up": "noted"}},
        {"by": "policy", "tokens": 30, "closing": ""},
        {"by": "aux"},
    ],
    "region_vote": [{"n": 3}, {"n": 1, "size": (50.0, 50.0)}],
}
AUX_VERSION = 99


def makers(name: str) -> list[partial[Any]]:
    make = resolve("scaffold", name, SCAFFOLDS)
    return [partial(make, **options) for options in OPTIONS[name]]


def test_every_scaffold_is_played_here() -> None:
    assert sorted(OPTIONS) == sorted(SCAFFOLDS)


@pytest.mark.parametrize("name", sorted(SCAFFOLDS))
@settings(max_examples=100)
@given(
    seed=st.integers(0, 2**32),
    variant=st.integers(0, 2),
    renderer=st.sampled_from(sorted(RENDERERS)),
    memory=st.sampled_from(sorted(MEMORIES)),
    overflow=st.sampled_from(["stop", "squeeze"]),
    quiet=st.booleans(),
)
def test_every_sampled_id_is_trained_once_in_its_context(
    name: str, seed: int, variant: int, renderer: str, memory: str, overflow: Any, quiet: bool
) -> None:
    make = makers(name)[variant % len(OPTIONS[name])]
    render = RENDERERS[renderer](ByteTokenizer())
    policy, aux = Troupe(render), Troupe(render, version=AUX_VERSION)
    budget = Budget(2600, 100, 0.3, overflow)
    untrained = frozenset(make().roles[1:]) if quiet else frozenset()
    group = staged(
        policy,
        make,
        seed,
        n=2,
        memory=MEMORIES[memory],
        renderer=render,
        budget=budget,
        aux=aux,
        untrained=untrained,
    )
    assert not group.failures, group.failures[0].error
    sampled = sum(len(ids) for _, ids in policy.calls)
    assert sum(witness(trajectory) for trajectory in group.trajectories) == sampled
    recorded: Counter[tuple[int, float]] = Counter()
    for trajectory in group.trajectories:
        assert [turn.index for turn in trajectory.turns] == list(range(len(trajectory.turns)))
        for segment in trajectory.segments:
            assert segment.trainable == (role_of(segment.lineage) not in untrained)
            assert AUX_VERSION not in segment.versions
            for position, turn in enumerate(segment.turn_ids):
                if turn >= 0:
                    assert trajectory.turns[turn].lineage == segment.lineage
                    recorded[segment.token_ids[position], segment.logprobs[position]] += 1
        roles = {role_of(turn.lineage) for turn in trajectory.turns}
        assert roles <= set(make().roles)
    expected: Counter[tuple[int, float]] = Counter()
    for context, ids in policy.calls:
        prefix = PrefixHash(context)
        expected.update((token, prefix.push(token)) for token in ids)
    assert recorded == expected
    for context, ids in [*policy.calls, *aux.calls]:
        assert len(context) + len(ids) <= budget.max_context


def digests() -> list[str]:
    """One digest for each way of playing each scaffold."""
    found: list[str] = []
    for name in sorted(SCAFFOLDS):
        for make in makers(name):
            render = RENDERERS["compact"](ByteTokenizer())
            policy, aux = Troupe(render), Troupe(render, version=AUX_VERSION)
            group = staged(policy, make, 11, n=2, aux=aux)
            tables = [to_table(trajectory) for trajectory in group.trajectories]
            for table in tables:
                table.pop("seconds")
            text = json.dumps(tables, sort_keys=True, default=str)
            found.append(hashlib.sha256(text.encode()).hexdigest())
    return found


def test_the_same_seed_is_the_same_episode_in_a_new_process() -> None:
    here = Path(__file__).parent
    code = "import test_scaffolds as t; print(' '.join(t.digests()))"
    paths = [
        str(here),
        str(here.parent / "support"),
        os.environ.get("PYTHONPATH", str(here.parents[1])),
    ]
    env = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == digests()
