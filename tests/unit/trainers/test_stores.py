"""Training with a memory that keeps something: one snapshot a step, merged afterwards, resumed."""

from __future__ import annotations

import json
from pathlib import Path

import odd_runs
import pytest
from odd_runs import metrics, stopped, weights

from foldgym.cli.main import main
from foldgym.config import TrainRun
from foldgym.errors import CheckpointError, ConfigError, DataError
from foldgym.memory import Store
from foldgym.records import RecordReader
from foldgym.trainers.checkpoint import latest
from foldgym.trainers.checkpoint import load as load_checkpoint
from foldgym.trainers.train import resume, train
from foldgym.types import Snapshot

SUMS = ("memory.use=recursive", "memory.max_tokens=6")
PAIRS = ("memory.use=cheatsheet_rs", "memory.max_tokens=6", "store.max_items=3")


def run_file(here: Path, output: Path, *overrides: str) -> TrainRun:
    return odd_runs.run_file(here, output, "train.steps=6", *overrides)


def reads(folder: Path) -> dict[int, set[str]]:
    """The snapshots that the episodes of each step read."""
    found: dict[int, set[str]] = {}
    for record in RecordReader(folder / "trajectories.jsonl"):
        assert record.trajectory.proposal is not None
        found.setdefault(record.notes["step"], set()).add(record.trajectory.proposal.read)
    return found


def test_all_episodes_of_a_step_read_one_snapshot_and_the_next_step_the_next(here, tmp_path):
    """Hazard 15, in a whole run."""
    folder = train(run_file(here, tmp_path / "run", *SUMS))
    store = Store()
    store.read(folder / "store.json")
    assert [len(seen) for seen in reads(folder).values()] == [1] * 6
    path = [address for seen in reads(folder).values() for address in seen]
    assert path[0] == Snapshot().address
    assert len({*path, store.head.address}) == 7  # a summary a step
    for address in path:
        assert store.at(address).address == address
    (item,) = store.head.items
    assert item.key == "summary"
    assert item.label_free
    assert item.born == 6
    assert item.source.endswith(":3")  # of the last task's members the last one wins
    rows = metrics(folder)
    assert [row["store/writers"] for row in rows] == [8.0] * 6
    assert rows[-1]["store/items"] == 1.0
    assert rows[-1]["store/chars"] == len(item.text)
    assert max(row["logprob_gap_max"] for row in rows) <= 1e-5


def test_who_fails_writes_nothing_where_the_best_write(here, tmp_path):
    """Hazard 10: noise never guesses the number, so nothing it believes is kept."""
    folder = train(run_file(here, tmp_path / "run", *SUMS, "store.writers=best"))
    rows = metrics(folder)
    assert [row["success"] for row in rows] == [0.0] * 6
    assert [row["store/items"] for row in rows] == [0.0] * 6


@pytest.mark.parametrize(("at", "more"), [(1, SUMS), (4, PAIRS)])
def test_a_stopped_run_resumes_bit_equal_with_its_store(here, tmp_path, at, more):
    whole = train(run_file(here, tmp_path / "whole", *more))
    broken = resume(stopped(run_file(here, tmp_path / "broken", *more), at))
    assert weights(whole) == weights(broken)
    for name in ("metrics.jsonl", "store.json"):
        assert (whole / name).read_bytes() == (broken / name).read_bytes()
    assert reads(whole) == reads(broken)
    assert metrics(whole)[-1]["store/items"] > 0


def test_a_run_may_start_from_what_another_kept_and_leave_it(here, tmp_path):
    first = train(run_file(here, tmp_path / "a", *SUMS, "train.steps=2"))
    file = first / "store.json"
    before = file.read_bytes()
    path = f"store.path={json.dumps(str(file))}"
    second = train(run_file(here, tmp_path / "b", SUMS[0], SUMS[1], path, "store.frozen=true"))
    store = Store()
    store.read(file)
    assert set().union(*reads(second).values()) == {store.head.address}
    assert file.read_bytes() == before
    assert json.loads((second / "store.json").read_text())["snapshots"][-1]["address"] == (
        store.head.address
    )
    file.unlink()  # no longer needed
    resume(second, overrides=["train.steps=7"])
    assert len(metrics(second)) == 7


def test_an_evaluation_takes_the_store_of_the_checkpoint(here, tmp_path, capsys):
    folder = train(run_file(here, tmp_path / "run", *SUMS, "train.keep=0"))
    lines = tmp_path / "t.jsonl"
    words = ["eval", "--env", "foldgym/GuessNumber-v0", "--episodes", "2", "--max-turns", "2"]
    for where in (folder, folder / "checkpoints" / "step-000002"):
        kept = Store()
        kept.load(load_checkpoint(latest(folder) if where == folder else where).state["store"])
        assert main([*words, "--policy", str(where), "--trajectories", str(lines)]) == 0
        read = {r.trajectory.proposal.read for r in RecordReader(lines)}  # type: ignore[union-attr]
        assert read == {kept.head.address}
        lines.unlink()
    capsys.readouterr()


def test_a_store_that_nothing_uses_is_refused_before_anything_is_written(here, tmp_path):
    (tmp_path / "mine.py").write_text("from foldgym.memory import FullHistory as Mine")
    use = f"memory.use={json.dumps(str(tmp_path / 'mine.py') + ':Mine')}"
    with pytest.raises(ConfigError, match="store: has no effect: the memory FullHistory"):
        train(run_file(here, tmp_path / "run", use, "store.max_items=3"))
    with pytest.raises(DataError, match=r"cannot read the store none\.json"):
        train(run_file(here, tmp_path / "run", *SUMS, "store.path=none.json"))
    assert not (tmp_path / "run").exists()
    with pytest.raises(CheckpointError):
        latest(tmp_path / "run")
