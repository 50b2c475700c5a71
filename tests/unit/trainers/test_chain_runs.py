"""The comparison of memories on a chain: its run files, and that its page shows its results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.suites import memory_chain
from foldgym.config import SftRun, TrainRun, load
from foldgym.trainers.wiring import memory_of

RUNS = memory_chain.ROOT / "runs"


@pytest.mark.parametrize("arm", memory_chain.ARMS)
def test_arms_differ_in_the_memory_alone(arm: str) -> None:
    memory = memory_chain.ARMS[arm]
    given = [f"memory={memory}"] if memory else []
    for kind, name in ((SftRun, "clone"), (TrainRun, "train")):
        path = RUNS / f"chain_{name}.toml"
        run, fold = load(kind, path, given), load(kind, path, [])
        assert run.model_copy(update={"memory": None}) == fold.model_copy(update={"memory": None})
        assert run.memory is not None
        assert (run.memory.max_context, run.memory.reserve) == (104, 26)
        memory_of(run.memory)()
    clone, train = (
        load(kind, RUNS / f"chain_{name}.toml", given)
        for kind, name in ((SftRun, "clone"), (TrainRun, "train"))
    )
    assert clone.memory == train.memory


def part(seed: int, fold: list[float], other: list[float]) -> dict[str, object]:
    sides = {"fold": fold, **dict.fromkeys(memory_chain.OTHERS, other)}
    return {
        "seed": seed,
        "arms": {
            arm: {
                when: {mode: {"outcomes": v, "scores": v} for mode in memory_chain.MODES}
                for when, v in (("before", other), ("after", values))
            }
            for arm, values in sides.items()
        },
    }


def test_differences_are_paired_over_all_seeds() -> None:
    parts = [part(0, [1, 1, 0, 0], [0, 1, 0, 0]), part(1, [1, 0, 1, 1], [0, 0, 0, 1])]
    differences = memory_chain.differences(parts)
    assert set(differences) == {*memory_chain.OTHERS, memory_chain.CLONED}
    found = differences["window"]["greedy"]
    assert differences[memory_chain.CLONED]["greedy"] == found
    assert found["success"]["mean"] == 3 / 8  # wins of tasks 0; 0, 2
    assert (found["success"]["wins"], found["success"]["losses"], found["success"]["n"]) == (
        3,
        0,
        8,
    )
    assert [each["mean"] for each in found["by_seed"]] == [0.25, 0.5]
    low, high = found["success"]["bootstrap"]
    assert 0 <= low < 3 / 8 < high <= 1


def test_the_page_shows_the_result_file() -> None:
    result = json.loads(Path(memory_chain.RESULTS).read_text(encoding="utf-8"))
    assert memory_chain.tables(result) in memory_chain.PAGE.read_text(encoding="utf-8")
    for seed in result["seeds"]:
        for arm in seed["arms"].values():
            assert len(arm["after"]["sampled"]["outcomes"]) == memory_chain.TASKS
