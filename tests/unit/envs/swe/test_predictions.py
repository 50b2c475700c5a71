"""Predictions are read in every form, graded, and reported in SWE-bench's words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from foldgym.cli.main import main
from foldgym.containers import available
from foldgym.envs.swe.miniatures import miniatures
from foldgym.envs.swe.predictions import Prediction, read_predictions
from foldgym.envs.swe.task import save_tasks
from foldgym.errors import DataError

ROW = {"instance_id": "a", "model_name_or_path": "m", "model_patch": "diff"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.jsonl", json.dumps(ROW) + "\n"),
        ("p.json", json.dumps([ROW])),
        ("p.json", json.dumps({"a": {"model_name_or_path": "m", "model_patch": "diff"}})),
    ],
)
def test_every_form(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    assert read_predictions(path) == (Prediction("a", "m", "diff"),)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[", "is no JSON"),
        ("3", "not a list or an object"),
        ("[]", "holds no prediction"),
        ('[{"model_patch": ""}]', "entry 1: instance_id is None"),
        ('[{"instance_id": "a", "model_patch": 3}]', "model_patch is 3"),
        ('[{"instance_id": "a"}, {"instance_id": "a"}]', "entry 2: 'a' is there twice"),
        ("[7]", "7 is no prediction"),
    ],
)
def test_wrong_files(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "p.json"
    path.write_text(text)
    with pytest.raises(DataError, match=says):
        read_predictions(path)
    with pytest.raises(DataError, match="cannot read"):
        read_predictions(tmp_path / "missing.json")


@pytest.mark.skipif(bool(available("bubblewrap")), reason="needs boxes of bubblewrap")
def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second, third, fourth = tasks = miniatures()[:4]
    save_tasks(tmp_path / "tasks.jsonl", [*tasks, miniatures()[4]])
    wrong = second.gold_patch.replace("sign = -1 if", "sign = -2 if")
    rows = [
        {"instance_id": first.id, "model_patch": first.gold_patch},
        {"instance_id": second.id, "model_patch": wrong},
        {"instance_id": third.id, "model_patch": "I have repaired it."},
        {"instance_id": fourth.id, "model_patch": None},
    ]
    path = tmp_path / "predictions.json"
    path.write_text(json.dumps(rows))
    words = ["swe", "grade", str(tmp_path / "tasks.jsonl"), str(path)]
    assert main([*words, "--json", str(tmp_path / "report.json")]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["total_instances"] == 5
    assert report["resolved_ids"] == [first.id]
    assert report["unresolved_ids"] == [second.id]
    assert report["error_ids"] == [third.id]
    assert report["empty_patch_ids"] == [fourth.id]
    assert report["incomplete_ids"] == [miniatures()[4].id]
    one = report["instances"][first.id]
    assert (one["resolved"], one["patch_successfully_applied"], one["checked"]) == (True,) * 3
    assert one["tests_status"]["FAIL_TO_PASS"] == {
        "success": list(first.fail_to_pass),
        "failure": [],
    }
    assert report["instances"][third.id]["patch_successfully_applied"] is False
    path.write_text(json.dumps([{"instance_id": "nobody", "model_patch": ""}]))
    assert main(words) == 2
    assert "unknown task 'nobody'" in capsys.readouterr().err
