"""Asynchronous runs: equal to synchronous ones without staleness, honest about it with."""

from __future__ import annotations

import asyncio
import copy
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from odd_runs import Stopped, metrics, run_file, stopped_and_resumed, weights

from foldgym.errors import Bug, ConfigError
from foldgym.records import RecordReader
from foldgym.trainers.checkpoint import latest, load
from foldgym.trainers.train import build, improve, train

ASYNC = 'train.mode="async"'
TIS = ('algorithm.mismatch.use="tis"', 'algorithm.old="recompute"')
DECOUPLED = ('algorithm.loss.use="decoupled"', 'algorithm.old="recompute"')
SLOTS = (
    'sampler.use="curriculum"',
    'sampler.arms=[{name="few",kwargs={high=4}},{name="many",kwargs={high=60}}]',
    'sampler.selector={use="sec",tau=0.3}',
    'sampler.source="fixed"',
    'sampler.rescue={use="fission",n=2,members=1}',
    "sampler.rescue_share=1.0",
)
REMIX = (*DECOUPLED, 'replay.use="remix"')


def episodes(folder: Path) -> list[Any]:
    return list(RecordReader(folder / "trajectories.jsonl"))


# ---------------------------------------------------------------- staleness 0


@pytest.mark.parametrize(
    "more",
    [
        ("train.eval_every=2", "train.eval_episodes=2"),
        ('memory.use="summarise"', 'memory.trigger="turns"', "memory.every=1"),
        SLOTS,
        REMIX,
    ],
    ids=["plain", "folding", "curriculum", "replay"],
)
def test_without_staleness_the_run_is_the_synchronous_one_bit_for_bit(
    here: Path, tmp_path: Path, more: tuple[str, ...]
) -> None:
    sync = train(run_file(here, tmp_path / "sync", *more))
    run = run_file(here, tmp_path / "async", ASYNC, "train.staleness=0", *more)
    same = train(run)
    assert weights(sync) == weights(same)
    assert (sync / "metrics.jsonl").read_bytes() == (same / "metrics.jsonl").read_bytes()
    assert episodes(sync) == episodes(same)  # all but the seconds they took
    assert metrics(sync)[-1]["tokens"] > 0
    assert all(row["overlap"] == 0 and row["queued"] == 0 for row in metrics(same, "timings.jsonl"))


@pytest.mark.parametrize("at", [1, 3])
def test_without_staleness_a_stopped_run_resumes_bit_equal(
    here: Path, tmp_path: Path, at: int
) -> None:
    more = (ASYNC, "train.staleness=0", *SLOTS, *REMIX)
    whole = train(run_file(here, tmp_path / "whole", *more))
    broken = stopped_and_resumed(here, tmp_path / "broken", at, *more)
    assert weights(whole) == weights(broken)
    assert (whole / "metrics.jsonl").read_bytes() == (broken / "metrics.jsonl").read_bytes()
    assert episodes(whole) == episodes(broken)


# ---------------------------------------------------------------- staleness above 0


@pytest.mark.parametrize("batching", ["rounds", "dynamic"])
@pytest.mark.parametrize("order", ["asked", "finished"])
def test_every_token_has_the_log_prob_of_the_version_beside_it(
    here: Path, tmp_path: Path, order: str, batching: str
) -> None:
    more = (ASYNC, "train.staleness=2", f'train.order="{order}"', f'policy.batching="{batching}"')
    limits = ("train.steps=6", "train.checkpoint_every=0", "rollout.max_tokens=16")
    job = build(run_file(here, tmp_path / "run", *more, *limits, *DECOUPLED), tmp_path / "run")
    kept = {0: copy.deepcopy(job.actor.policy.model)}

    def keep(step: int, steps: int, line: str) -> None:
        kept[job.actor.policy.version] = copy.deepcopy(job.actor.policy.model)

    async def go() -> None:
        async with job.actor:
            await improve(job, keep)

    asyncio.run(go())
    job.log.close()
    found = metrics(tmp_path / "run")
    assert [row["step"] for row in found] == [1, 2, 3, 4, 5, 6]
    assert max(row["staleness/max"] for row in found) == 2
    for row in found:
        shares = [value for name, value in row.items() if name.startswith("staleness/share_")]
        assert sum(shares) == pytest.approx(1)
        assert row["staleness/max"] <= 2
    for record in episodes(tmp_path / "run"):
        for segment in record.trajectory.segments:
            ids = torch.tensor([segment.token_ids])
            for version in {v for v in segment.versions if v >= 0}:
                with torch.inference_mode():
                    table = torch.log_softmax(kept[version](ids).logits[0].double(), -1)
                at = [i for i, v in enumerate(segment.versions) if v == version]
                want = [float(table[i - 1, segment.token_ids[i]]) for i in at]
                got = [segment.logprobs[i] for i in at]
                np.testing.assert_allclose(got, want, atol=2e-5)


@pytest.mark.parametrize("more", [TIS, DECOUPLED], ids=["tis", "decoupled"])
def test_a_stale_run_learns_as_a_synchronous_one_does(
    here: Path, tmp_path: Path, more: tuple[str, ...]
) -> None:
    limits = ("train.steps=24", "train.checkpoint_every=0", "train.staleness=2")
    found = metrics(train(run_file(here, tmp_path / "run", ASYNC, *limits, *more)))
    assert sum(row["reward"] for row in found[-5:]) > sum(row["reward"] for row in found[:5]) + 0.5
    assert {"queued", "overlap", "rollouts_idle", "rollout", "publish"} <= metrics(
        tmp_path / "run", "timings.jsonl"
    )[-1].keys()


def test_tasks_are_those_of_the_synchronous_run_also_over_a_resume(
    here: Path, tmp_path: Path
) -> None:
    """As they were asked for: no task is lost, none is played twice, whatever was queued."""
    more = ("train.steps=8", "train.checkpoint_every=3")
    sync = train(run_file(here, tmp_path / "sync", *more))
    stale = (*more, ASYNC, "train.staleness=2", *DECOUPLED)
    resumed = stopped_and_resumed(here, tmp_path / "run", 5, *stale)

    def tasks(folder: Path) -> Counter[tuple[int, str]]:
        return Counter((r.notes["step"], r.trajectory.id) for r in episodes(folder))

    assert tasks(resumed) == tasks(sync)
    assert set(tasks(sync).values()) == {1}
    assert [row["step"] for row in metrics(resumed)] == list(range(1, 9))


def test_a_checkpoint_holds_what_is_queued(here: Path, tmp_path: Path) -> None:
    more = (ASYNC, "train.staleness=2", "train.steps=9", "train.checkpoint_every=1", *DECOUPLED)

    def stop(step: int, steps: int, line: str) -> None:
        if step == 2:
            raise Stopped

    run = run_file(here, tmp_path / "run", *more)
    with pytest.raises(Stopped):
        train(run, stop)
    job = build(run, tmp_path / "run", load(latest(tmp_path / "run")))
    assert job.feed.queued == 4  # two steps of two groups were played ahead
    job.log.close()


# ---------------------------------------------------------------- what fails


BAD = """
from foldgym.trainers.losses import TokenLoss
updates = 0


def late(tokens):
    global updates
    updates += 1
    if updates == 3:
        raise RuntimeError("a loss that fails")
    return TokenLoss(-tokens.advantage_N * tokens.logp_N, {})


calls = 0


def sometimes(trajectory):
    global calls
    calls += 1
    if calls == 30:
        raise RuntimeError("a reward that fails")
    return float(calls % 3)
"""


@pytest.mark.parametrize(
    ("part", "error", "message"),
    [
        ('algorithm.loss.use="{bad}:late"', RuntimeError, "a loss that fails"),
        ('reward.terms=[{{name="r", use="{bad}:sometimes"}}]', Bug, "a reward that fails"),
    ],
    ids=["learner", "rollouts"],
)
def test_a_failure_of_either_side_ends_the_run(
    here: Path, tmp_path: Path, part: str, error: type[Exception], message: str
) -> None:
    (tmp_path / "bad.py").write_text(BAD)
    more = (ASYNC, "train.steps=20", "train.uncorrected=true", 'policy.batching="dynamic"')
    run = run_file(here, tmp_path / "run", *more, part.format(bad=tmp_path / "bad.py"))
    with pytest.raises(error, match=message):
        train(run)
    assert not [t.name for t in threading.enumerate() if t.name.startswith("foldgym-learner")]
    assert metrics(tmp_path / "run")  # the steps before
    last = episodes(tmp_path / "run")[-1].notes["step"]
    assert last >= metrics(tmp_path / "run")[-1]["step"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("train.staleness=2",), r"train.staleness: has no effect: train.mode is \"sync\""),
        (('train.order="finished"',), r"train.order: has no effect: train.mode is \"sync\""),
        (
            (ASYNC, "train.staleness=0", 'train.order="finished"'),
            r"train.order: has no effect: train.staleness is 0",
        ),
        (
            (ASYNC, "train.staleness=0", "train.uncorrected=true"),
            r"train.uncorrected: has no effect: train.staleness is 0",
        ),
        ((ASYNC, "engine.use=vllm", "engine.sleep=true"), r"engine.sleep: has no effect"),
        ((ASYNC, "engine=scripted"), r"reads the weights that are being changed"),
    ],
)
def test_options_without_effect_are_refused(
    here: Path, tmp_path: Path, more: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        run_file(here, tmp_path / "run", *more)
