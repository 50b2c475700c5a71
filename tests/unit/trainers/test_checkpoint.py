import json
import subprocess
import sys
import textwrap

import pytest
import torch

from foldgym.errors import CheckpointError
from foldgym.trainers.checkpoint import latest, load, save, verify

TENSORS = {"exp_avg": torch.arange(6.0).reshape(2, 3), "steps": 7}
STATE = {"sampler": {"step": 3}, "offsets": {"metrics.jsonl": 120}}


def write_model(path):
    (path / "config.json").write_text("{}")
    (path / "model.safetensors").write_bytes(b"weights" * 1000)


def test_what_was_saved_comes_back(tmp_path):
    path = save(tmp_path, 40, write_model, STATE, TENSORS)
    assert path == latest(tmp_path) == tmp_path / "step-000040"
    assert sorted(p.name for p in path.iterdir()) == [
        "config.json",
        "manifest.json",
        "model.safetensors",
        "optimizer.pt",
        "state.json",
    ]
    back = load(path)
    assert back.step == 40
    assert {k: back.state[k] for k in STATE} == STATE
    assert torch.equal(back.tensors["exp_avg"], TENSORS["exp_avg"])
    assert back.tensors["steps"] == 7


def test_only_the_newest_are_kept(tmp_path):
    for step in (5, 10, 999_999, 1_000_000):
        save(tmp_path, step, write_model, STATE, TENSORS, keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-1000000", "step-999999"]
    assert latest(tmp_path).name == "step-1000000"
    save(tmp_path, 1_000_001, write_model, STATE, TENSORS)
    assert len(list(tmp_path.iterdir())) == 3


def test_latest_looks_into_a_run_folder(tmp_path):
    save(tmp_path / "checkpoints", 5, write_model, STATE, TENSORS)
    assert latest(tmp_path).name == "step-000005"
    with pytest.raises(CheckpointError, match="no checkpoint in"):
        latest(tmp_path / "nowhere")


def test_saving_a_step_again_replaces_it(tmp_path):
    save(tmp_path, 5, write_model, {"a": 1}, TENSORS)
    save(tmp_path, 5, write_model, {"a": 2}, TENSORS)
    assert load(latest(tmp_path)).state["a"] == 2


FILES = ["config.json", "model.safetensors", "optimizer.pt", "state.json", "manifest.json"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("harm", ["cut", "flip", "gone", "empty"])
def test_a_torn_checkpoint_is_one_clear_error(tmp_path, name, harm):
    path = save(tmp_path, 40, write_model, STATE, TENSORS)
    file = path / name
    data = file.read_bytes()
    if harm == "gone":
        file.unlink()
    elif harm == "flip":
        at = len(data) // 2
        file.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    else:
        file.write_bytes(data[: len(data) // 2] if harm == "cut" else b"")
    with pytest.raises(CheckpointError) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    # a bit of the manifest may be the digest of another file: then that file is blamed
    if (name, harm) != ("manifest.json", "flip"):
        assert name in str(caught.value)


@pytest.mark.parametrize("name", ["manifest.json", "state.json"])
def test_no_byte_can_change_or_be_missing_unseen(tmp_path, name):
    """Whatever is then still taken for a checkpoint is the one that was saved."""
    file = save(tmp_path, 40, write_model, STATE, {}) / name
    data = file.read_bytes()
    places = range(len(data))
    harmed = [data[:at] for at in places]
    harmed += [data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :] for at in places]
    found = 0
    for text in harmed:
        file.write_bytes(text)
        try:
            back = load(file.parent)
        except CheckpointError:
            found += 1
        else:
            assert (back.step, {k: back.state[k] for k in STATE}) == (40, STATE)
    assert found > len(data)


def test_numbers_that_json_lacks_come_back(tmp_path):
    """Worlds may measure them, and a replay buffer keeps what they measured."""
    kept = {"facts": [float("inf"), {"x": -float("inf")}], "zeta": 1, "alpha": float("nan")}
    back = load(save(tmp_path, 1, write_model, {"replay": kept}, {})).state["replay"]
    assert back["facts"] == kept["facts"]
    assert back["alpha"] != back["alpha"]
    assert list(back) == list(kept)  # tables are gone through in this order


def test_a_newer_format_is_refused(tmp_path):
    path = save(tmp_path, 40, write_model, STATE, TENSORS)
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps(manifest | {"format": 2}))
    with pytest.raises(CheckpointError, match="has format 2, this foldgym reads 1"):
        verify(path)


def test_what_a_killed_run_left_behind_is_swept_and_never_taken_for_a_checkpoint(tmp_path):
    (tmp_path / ".step-000080.4242").mkdir(parents=True)
    with pytest.raises(CheckpointError, match="no checkpoint"):
        latest(tmp_path)
    save(tmp_path, 5, write_model, STATE, TENSORS)
    assert [p.name for p in tmp_path.iterdir()] == ["step-000005"]


def test_a_bug_while_writing_is_not_mistaken_for_the_disk(tmp_path):
    def broken(path):
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        save(tmp_path, 5, broken, STATE, TENSORS)
    assert list(tmp_path.iterdir()) == []


WRITE = """
    import resource, sys, torch
    from pathlib import Path
    from safetensors.torch import save_file
    from foldgym.errors import DataError
    from foldgym.trainers.checkpoint import save

    root, who = Path(sys.argv[1]), sys.argv[2]
    big = {"x": torch.zeros(100_000)}
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
    try:
        if who == "model":
            save(root, 2, lambda path: save_file(big, path / "model.safetensors"), {}, {})
        elif who == "optimizer":
            save(root, 2, lambda path: None, {}, big)
        else:
            save(root, 2, lambda path: None, {"a": "x" * 100_000}, {})
    except DataError as problem:
        print(problem)
"""


@pytest.mark.parametrize("who", ["model", "optimizer", "state"])
def test_a_write_that_fails_loses_nothing(tmp_path, who):
    """A limit on file size stands in for a full disk: the same calls fail with an OSError."""
    save(tmp_path, 1, write_model, STATE, TENSORS)
    command = [sys.executable, "-c", textwrap.dedent(WRITE), str(tmp_path), who]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "cannot write checkpoint" in out
    assert "File too large" in out
    assert len(out.splitlines()) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["step-000001"]
    assert load(latest(tmp_path)).step == 1
