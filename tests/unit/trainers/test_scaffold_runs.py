"""Scaffolds in training: every trainable lineage gets its credit, a role of weight 0 none."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import odd_runs
import pytest
import torch

from foldgym.agents.stage import role_of
from foldgym.config import TrainRun, dump, parse
from foldgym.errors import ConfigError, UserError
from foldgym.records import JsonlReader, RecordReader
from foldgym.trainers.advantages.gae import gae
from foldgym.trainers.advantages.inputs import flat, turn_of_tokens, unflat
from foldgym.trainers.advantages.spans import marked
from foldgym.trainers.batch import make_batch
from foldgym.trainers.train import Job, build, collect, train
from foldgym.types import Group, Message, Request, Reward, Segment, Stop, Task, Trajectory, Turn

OWN = """
from foldgym.types import Message


class Forewarned:
    roles = ("main", "critic")

    async def run(self, stage):
        main = await stage.lineage("main", memory=stage.memory())
        voices = [stage.voice(f"critic/{place}") for place in range(2)]
        warnings = await stage.together([main.aside("warn", "Well?", 5, v) for v in voices])
        for warning in warnings:
            main.show(Message("user", warning.text if warning else "nothing"))
        return await stage.converse(main)
"""


def run_file(here: Path, output: Path, *overrides: str, scaffold: str = "") -> TrainRun:
    own = output.with_name("own.py")
    own.write_text(OWN)
    few = ("train.steps=2", "train.checkpoint_every=0", "optim.warmup=0")
    use = f"scaffold.use={scaffold or f'{own}:Forewarned'}"
    return odd_runs.run_file(here, output, use, *few, *overrides)


def played(run: TrainRun, folder: Path) -> tuple[Job, list[Group]]:
    job = build(run, folder)
    groups = asyncio.run(collect(job, 1)).accepted
    return job, groups


def lineages(groups: list[Group]) -> list[str]:
    """The role of each row of a batch, in its order."""
    return [
        role_of(segment.lineage)
        for group in groups
        for trajectory in group.trajectories
        for segment in trajectory.segments
        if segment.trained
    ]


def test_one_grpo_step_trains_every_lineage(here: Path, tmp_path: Path) -> None:
    run = run_file(here, tmp_path / "run", "algorithm.zero=keep")
    job, groups = played(run, tmp_path)
    batch, _ = job.credit.batch(groups, 0)
    roles = np.array(lineages(groups))
    assert set(roles) == {"main", "critic"}
    for role in ("main", "critic"):
        rows = roles == role
        assert (np.abs(batch.advantage_BT[rows]) * batch.weight_BT[rows]).sum() > 0
    by_trajectory = [
        {float(a) for a in batch.advantage_BT[batch.row_trajectory_B == n].ravel() if a}
        for n in range(len(batch.names))
    ]
    assert all(len(values) <= 1 for values in by_trajectory)  # all lineages share the outcome
    assert batch.weight_BT.sum() == pytest.approx(1.0)
    before = [weight.detach().clone() for weight in job.actor.policy.model.parameters()]
    metrics = job.learner.update(batch)
    assert metrics["logprob_gap_max"] <= 1e-5  # each was sampled in the context it is trained in
    pairs = zip(before, job.actor.policy.model.parameters(), strict=True)
    assert any(not torch.equal(old, new) for old, new in pairs)


def test_a_role_of_weight_zero_is_not_trained(here: Path, tmp_path: Path) -> None:
    run = run_file(here, tmp_path / "run", "scaffold.roles.critic=0", "algorithm.zero=keep")
    job, groups = played(run, tmp_path)
    batch, _ = job.credit.batch(groups, 0)
    assert set(lineages(groups)) == {"main"}
    assert batch.rows == 8
    for trajectory in groups[0].trajectories:
        quiet = [s for s in trajectory.segments if role_of(s.lineage) == "critic"]
        assert len(quiet) == 2
        assert not any(segment.trained for segment in quiet)
    assert batch.weight_BT.sum() == pytest.approx(1.0)


def test_a_role_of_half_weight_counts_half(here: Path, tmp_path: Path) -> None:
    job, groups = played(run_file(here, tmp_path / "a", "algorithm.zero=keep"), tmp_path)
    half = run_file(here, tmp_path / "b", "scaffold.roles.critic=0.5", "algorithm.zero=keep")
    other = build(half, tmp_path)
    whole, _ = job.credit.batch(groups, 0)
    batch, _ = other.credit.batch(groups, 0)
    critic = np.array([role == "critic" for role in lineages(groups)])
    rows = {"critic": critic, "main": ~critic}
    tokens = {name: (whole.turn_BT[these] >= 0).sum() for name, these in rows.items()}
    each = 1 / (tokens["main"] + 0.5 * tokens["critic"])
    assert np.allclose(batch.weight_BT[critic].sum(), 0.5 * tokens["critic"] * each)
    assert np.allclose(batch.weight_BT[~critic].sum(), tokens["main"] * each)
    assert np.array_equal(batch.advantage_BT, whole.advantage_BT)


@pytest.mark.parametrize(
    ("scaffold", "options"),
    [
        ("pdr", ["scaffold.drafts=[2]", "scaffold.kappa=8", "scaffold.draft_tokens=6"]),
        ("leap", ["scaffold.paths=2", "scaffold.peers=1", "scaffold.every=3"]),
        ("operator", ["scaffold.role_tokens=5", "scaffold.every=1", "scaffold.finish=off"]),
    ],
)
def test_a_scaffold_in_a_run_file(
    here: Path, tmp_path: Path, scaffold: str, options: list[str]
) -> None:
    """Played twice: several sessions of an episode block no round, and the runs are equal."""
    options = [*options, "train.steps=1", "train.groups=1"]
    runs = [
        train(run_file(here, tmp_path / name, *options, scaffold=scaffold)) for name in ("a", "b")
    ]
    first, second = ((run / "metrics.jsonl").read_bytes() for run in runs)
    assert first == second
    rows = list(JsonlReader(runs[0] / "metrics.jsonl"))
    assert max(row["logprob_gap_max"] for row in rows) <= 1e-5
    records = list(RecordReader(runs[0] / "trajectories.jsonl"))
    assert len(records) == 4
    assert len({turn.lineage for turn in records[0].trajectory.turns}) > 1
    again = parse(TrainRun, (runs[0] / "run.toml").read_text())
    assert again.scaffold == run_file(here, tmp_path / "c", *options, scaffold=scaffold).scaffold


def test_an_auxiliary_policy_in_a_run_file(here: Path, tmp_path: Path) -> None:
    aux = f"aux.path={here / 'sft'}"
    options = ("scaffold.reflector=aux", "scaffold.trajectory=off", "scaffold.finish=off")
    few = ("train.steps=1", "train.groups=1")
    run = run_file(here, tmp_path / "run", *options, aux, *few, scaffold="operator")
    assert parse(TrainRun, dump(run)) == run
    folder = train(run)
    (record, *_) = RecordReader(folder / "trajectories.jsonl")
    spoke = {turn.lineage for turn in record.trajectory.turns}
    assert spoke == {"operator", "reflector"}
    assert {segment.lineage for segment in record.trajectory.segments} == {"operator"}
    with pytest.raises(ConfigError, match=r"add \[aux\]"):
        run_file(here, tmp_path / "x", *options, scaffold="operator")
    with pytest.raises(ConfigError, match=r'aux: has no effect: no option of .* is "aux"'):
        run_file(here, tmp_path / "x", aux, scaffold="operator")
    with pytest.raises(ConfigError, match=r"aux\.renderer: has no effect"):
        run_file(here, tmp_path / "x", *options, aux, "aux.renderer=chatml", scaffold="operator")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["scaffold.roles.critik=0.5"], "roles.critik: .* no such role; roles: main, critic"),
        (["scaffold.roles.main=0", "scaffold.roles.critic=0"], "nothing would be trained"),
        (["scaffold.roles.main=-1"], r"scaffold\.roles\.main: -1 is not allowed"),
        (["scaffold.use=reakt"], "unknown scaffold 'reakt'; did you mean 'react'"),
        (["scaffold.use=react", "scaffold.roles.main=0.5"], "react has one role only"),
        (["scaffold.use=pdr", "scaffold.kapa=3"], r"scaffold\.kapa: unknown option .* 'kappa'"),
        (["scaffold.use=pdr", "scaffold.kappa=0"], "scaffold: kappa"),
        (["scaffold.use=pdr", "scaffold.drafts=[1.5]"], "drafts.* is not allowed"),
        (["store.path=x.json"], "store.path|store: has no effect"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    here: Path, tmp_path: Path, overrides: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        build(run_file(here, tmp_path / "run", *overrides), tmp_path)


# ---------------------------------------------------------------- turns of several lineages


def two_voices() -> Trajectory:
    """A critic's turn 0, the speaker's turn 1, the critic's turn 2, the speaker's turn 3."""

    def segment(lineage: str, turns: tuple[int, ...]) -> Segment:
        ids = tuple(range(10, 10 + len(turns)))
        logprobs = tuple(-0.1 * (turn + 1) if turn >= 0 else 0.0 for turn in turns)
        return Segment(ids, turns, logprobs, (0,) * len(turns), lineage)

    turns = tuple(
        Turn(k, Message("assistant"), purpose=purpose, lineage=lineage, reward=float(k == 1))
        for k, (lineage, purpose) in enumerate([("critic", "warn"), ("main", "act")] * 2)
    )
    segments = (
        segment("critic", (-1, 0, 0, -1, 2)),
        segment("main", (-1, 1, -1, -1, 3, 3)),
    )
    return Trajectory("t", "world", Task("q", ()), 0, turns, segments, Stop.DONE)


def test_columns_are_flat_in_the_order_of_turns() -> None:
    trajectory = two_voices()
    column = tuple(np.asarray(segment.logprobs) for segment in trajectory.segments)
    assert turn_of_tokens(trajectory).tolist() == [0, 0, 1, 2, 3, 3]
    assert flat(trajectory, column).tolist() == pytest.approx([-0.1, -0.1, -0.2, -0.3, -0.4, -0.4])
    back = unflat(trajectory, flat(trajectory, column))
    assert all(np.array_equal(a, b) for a, b in zip(back, column, strict=True))
    spans = marked(trajectory, lambda _, turn, ids: [i == 11 for i in ids])
    assert spans.tolist() == [True, False, True, False, False, False]


def test_values_run_through_the_lineages_in_time() -> None:
    """gamma = lam = 1: A is what is still earned less V. Turn 1 earns 1, the outcome is 2."""
    trajectory = two_voices()
    groups = [Group(Request("world", 1), (trajectory,), (Reward(3.0, 2.0, (0.0, 1.0, 0.0, 0.0)),))]
    value = ((tuple(np.full(len(s.turn_ids), 0.5) for s in trajectory.segments),),)
    ((credit,),) = gae(groups, value, gamma=1.0, lam=1.0)
    assert credit[0].tolist() == pytest.approx([0, 2.5, 2.5, 0, 1.5])
    assert credit[1].tolist() == pytest.approx([0, 2.5, 0, 0, 1.5, 1.5])


def test_a_trajectory_weighs_the_same_however_many_lineages_it_has() -> None:
    one, two = two_voices(), two_voices()
    alone = Trajectory("u", "world", Task("q", ()), 0, two.turns, two.segments[1:], Stop.DONE)
    groups = [Group(Request("world", 1), (one, alone), (Reward(1.0, 1.0), Reward(0.0, 0.0)))]
    weigh = {"critic": 0.25}
    for aggregation in ("seq-mean-token-mean", "token-mean"):
        batch = make_batch(
            groups, None, aggregation, weigh=lambda s: weigh.get(role_of(s.lineage), 1.0)
        )
        assert batch.weight_BT.sum() == pytest.approx(1.0)
        shares = [batch.weight_BT[batch.row_trajectory_B == n].sum() for n in (0, 1)]
        if aggregation == "seq-mean-token-mean":
            assert shares == pytest.approx([0.5, 0.5])
            critic = batch.weight_BT[0].sum() / batch.weight_BT[1].sum()
            assert critic == pytest.approx(0.25 * 3 / 3)
