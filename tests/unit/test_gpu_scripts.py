"""The scripts for a GPU, at a size that a CPU carries: they run, and their figures add up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.gpu import learning, throughput


@pytest.mark.slow
def test_throughput_of_rollouts_updates_and_trl(tmp_path: Path) -> None:
    words = ["--size", "tiny", "--device", "cpu", "--contexts", "64", "--rows", "4"]
    words += ["--sessions", "3", "--sample", "8", "--rounds", "1"]
    assert throughput.main([*words, "--output", str(tmp_path / "found.json")]) == 0
    found = json.loads((tmp_path / "found.json").read_text())["64"]
    assert found["rollout"]["sampled_per_second"] > 0
    assert found["update"]["mfu"] is None  # a CPU has no peak that we know
    for name in ("update", "trl"):
        rate = 4 * 64 / found[name]["seconds"]
        assert found[name]["tokens_per_second"] == pytest.approx(rate)


@pytest.mark.slow
def test_a_learning_curve(tmp_path: Path) -> None:
    words = ["--size", "tiny", "--device", "cpu", "--seeds", "3", "--clone", "2", "--steps", "2"]
    words += ["--groups", "1", "--tasks", "2", "--episodes", "50", "--folder", str(tmp_path)]
    assert learning.main([*words, "--output", str(tmp_path / "found.json")]) == 0
    found = json.loads((tmp_path / "found.json").read_text())["seeds"]["3"]
    assert [step for step, _ in found["held_out_success"]] == [1, 2]
    assert len(found["timings"]) == len(found["played_success"]) == 2


@pytest.mark.parametrize("script", [throughput, learning])
def test_without_a_gpu_they_say_so(
    script: object, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert script.main([]) == 2  # type: ignore[attr-defined]
    assert "torch sees no GPU" in capsys.readouterr().err
