"""TensorBoard and Weights & Biases say what JSONL says; speeds, memory and MFU by hand."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from odd_runs import run_file, stopped_and_resumed
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoConfig, AutoModelForCausalLM
from wandb.proto import wandb_internal_pb2

from foldgym.agents.engines.models import init_model
from foldgym.config import LogSection
from foldgym.errors import ConfigError, MissingExtra
from foldgym.records import JsonlReader
from foldgym.trainers.batch import make_batch
from foldgym.trainers.layout import layout_of
from foldgym.trainers.reading import Reader
from foldgym.trainers.sinks import Watched, open_sinks
from foldgym.trainers.throughput import Meter, Size, Work
from foldgym.trainers.train import train


def events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Steps and values by name, as TensorBoard reads them, orphans included."""
    reader = EventAccumulator(str(folder / "tensorboard"), purge_orphaned_data=False)
    reader.Reload()
    return {
        name: [(each.step, each.value) for each in reader.Scalars(name)]
        for name in reader.Tags()["scalars"]
    }


def test_tensorboard_shows_every_family_and_nothing_twice_after_a_resume(here, tmp_path):
    folder = stopped_and_resumed(
        here, tmp_path / "run", 3, "log.tensorboard=true",
        'reward.terms.1={name="env_score"}', "train.eval_every=4", "train.eval_episodes=2",
    )  # fmt: skip
    found = events(folder)
    for name, file in (("metrics", ""), ("timings", "time/")):
        for row in JsonlReader(folder / f"{name}.jsonl"):
            for key, value in row.items():
                if key not in ("step", "at") and value is not None:
                    values = [x for step, x in found[f"{file}{key}"] if step == row["step"]]
                    assert values == pytest.approx([value], rel=1e-6), key
    wanted = {
        "reward", "reward/odd", "reward/env_score", "success", "entropy", "clip_fraction",
        "logprob_gap_max", "approx_kl", "failures", "degenerate", "grad_norm",
        "time/rollout", "time/update", "time/memory_gib", "time/sampled_per_second",
        "time/computed_per_second", "eval/foldgym/GuessNumber-v0/success",
    }  # fmt: skip
    assert wanted <= found.keys()
    assert [step for step, _ in found["reward"]] == [1, 2, 3, 4]
    assert [step for step, _ in found["time/memory_gib"]] == [1, 2, 3, 4]


def test_every_stop_is_counted(here, tmp_path):
    folder = train(run_file(here, tmp_path / "run", "train.steps=2", "train.checkpoint_every=0"))
    row = next(iter(JsonlReader(folder / "metrics.jsonl")))
    stops = {key: value for key, value in row.items() if key.startswith("stop/")}
    assert sum(stops.values()) == pytest.approx(1)
    assert stops  # names of `Stop`, each with its share of the episodes
    assert all(0 < share <= 1 for share in stops.values())


def leveldb_records(data: bytes, at: int) -> Iterator[bytes]:
    """Records of a log of LevelDB, whose blocks of 32 KiB are counted from `at` bytes before."""
    place, record = 0, b""
    while place + 7 <= len(data):
        left = 32768 - (at + place) % 32768
        if left < 7:
            place += left
            continue
        size, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        if place + 7 + size > len(data):
            return
        record += data[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # whole, or the last part
            yield record
            record = b""


def test_wandb_writes_one_offline_run_with_every_number_also_after_a_resume(
    here, tmp_path, monkeypatch
):
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
    folder = stopped_and_resumed(here, tmp_path / "run", 3, "log.wandb=offline")
    (offline,) = (folder / "wandb").glob("offline-run-*")
    (file,) = offline.glob("*.wandb")

    logged: list[dict[str, float]] = []
    deadline, kind = time.monotonic() + 60, ""
    while kind != "exit":  # the service may still be writing when `finish` has returned
        assert time.monotonic() < deadline
        time.sleep(0.02)
        logged.clear()
        for data in leveldb_records(file.read_bytes()[7:], 7):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            kind = record.WhichOneof("record_type")
            if kind == "history":
                items = record.history.item
                logged.append({i.key or "/".join(i.nested_key): float(i.value_json) for i in items})
    rows = list(JsonlReader(folder / "metrics.jsonl"))
    times = list(JsonlReader(folder / "timings.jsonl"))
    assert [row["_step"] for row in logged] == [1, 2, 3, 4]
    for found, row, seconds in zip(logged, rows, times, strict=True):
        ours = {k: v for k, v in row.items() if k != "step"}
        ours |= {f"time/{k}": v for k, v in seconds.items() if k not in ("step", "at")}
        ours = {k: v for k, v in ours.items() if v is not None}
        assert {k: v for k, v in found.items() if not k.startswith("_")} == pytest.approx(ours)


def test_a_sink_that_fails_is_given_up_and_said(tmp_path, capsys):
    class Full:
        def write(self, step, values, at):
            raise OSError(28, "No space left on device")

        def close(self):
            raise AssertionError("it is gone")

    sink = Watched("tensorboard", Full)
    sink.write(1, {"reward": 1.0}, {})
    sink.write(2, {"reward": 1.0}, {})
    sink.close()
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "tensorboard is given up: [Errno 28] No space left on device" in told
    (tmp_path / "tensorboard").write_text("in the way")
    (broken,) = open_sinks(LogSection(tensorboard=True), tmp_path, {})
    broken.write(1, {"reward": 1.0}, {})
    assert "tensorboard is given up" in capsys.readouterr().err


@pytest.mark.parametrize("extra", ["tensorboard", "wandb"])
def test_a_missing_extra_is_said_at_the_start(tmp_path, monkeypatch, extra):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n == extra else found(n))
    section = LogSection(tensorboard=extra == "tensorboard", wandb="offline")
    with pytest.raises(MissingExtra, match=rf"pip install 'foldgym\[{extra}\]'"):
        open_sinks(section, tmp_path, {})
    assert not list(tmp_path.iterdir())


def test_what_is_no_finite_number_is_left_out():
    seen = []

    class Sink:
        def write(self, step, values, at):
            seen.append((step, values, at))

        def close(self):
            seen.append("closed")

    sink = Watched("x", Sink)
    sink.write(7, {"a": 1, "b": float("nan"), "c": None, "d": "text"}, {"rollout": 0.5, "at": 9.0})
    sink.close()
    assert seen == [(7, {"a": 1.0, "time/rollout": 0.5}, 9.0), "closed"]


# ---------------------------------------------------------------- throughput


def test_flops_by_hand():
    """One layer, hidden 8, two heads of 4, mlp 16, 10 ids in the vocabulary, tied."""
    model = init_model(vocab_size=10, hidden=8, layers=1, heads=2, kv_heads=1, head_dim=4, mlp=16)
    # q 8*8, k and v 8*4, o 8*8, three matrices of the MLP 8*16
    body = 64 + 32 + 32 + 64 + 3 * 128
    assert Size.of(model) == Size(body, 80, body, 80, 8)
    work = Work(ids=5, pairs=15, scored=2)
    assert Size.of(model).flops(work) == 2 * (body * 5 + 80 * 2) + 4 * 8 * 15
    work = Work(trained_ids=5, trained_pairs=15, trained_scored=2)
    assert Size.of(model).flops(work) == 3 * (2 * (body * 5 + 80 * 2) + 4 * 8 * 15)
    for p in model.model.layers.parameters():
        p.requires_grad_(False)
    frozen = 2 * (2 * body * 5 + 3 * 80 * 2) + 3 * 4 * 8 * 15
    assert Size.of(model).flops(work) == frozen
    model.get_output_embeddings = lambda: None
    assert Size.of(model) == Size(body, 0, 0, 0, 8)


def test_positions_and_idle_experts_multiply_nothing():
    shape = {"vocab_size": 10, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    ids = {"bos_token_id": 1, "eos_token_id": 2}
    plain = AutoConfig.for_model("gpt2", **shape, **ids, n_positions=1000)
    # q, k and v 8*24, o 8*8, two matrices of the MLP 8*32; 8000 entries of positions
    body = 192 + 64 + 2 * 256
    assert Size.of(AutoModelForCausalLM.from_config(plain)) == Size(body, 80, body, 80, 8)
    mixture = AutoConfig.for_model(
        "qwen3_moe", **shape, num_key_value_heads=1, head_dim=4,
        moe_intermediate_size=16, num_experts=8, num_experts_per_tok=2,
    )  # fmt: skip
    # q 8*8, k and v 8*4, o 8*8, the router 8*8, and two experts of three matrices 8*16
    body = 64 + 32 + 32 + 64 + 64 + 2 * 3 * 128
    assert Size.of(AutoModelForCausalLM.from_config(mixture)).body == body


def test_work_counts_ids_and_pairs_without_padding(by_hand):
    groups = [
        by_hand.group([1.0, 0.0], by_hand.trajectory([-1, 0, 0]), by_hand.trajectory([-1, 0]))
    ]
    reader = Reader(by_hand.tiny().model)
    batch = make_batch(groups)
    reader.logprobs(batch, 10**6)
    assert reader.work == Work(ids=5, pairs=(1 + 2 + 3) + (1 + 2), scored=3)
    reader.read(batch)
    assert (reader.work.trained_ids, reader.work.trained_pairs) == (5, 9)
    seen = replace(reader.work)
    reader.hidden(batch)  # for a value head
    assert reader.work == replace(seen, ids=seen.ids + 5, pairs=seen.pairs + 9)
    reader.last_state([1, 2, 3])
    assert reader.work == replace(seen, ids=seen.ids + 8, pairs=seen.pairs + 9 + 6)
    reader.read(batch, counts=False)
    assert reader.work.trained_ids == 5
    shared = Reader(reader.model, layout=layout_of("shared", reader.model))
    shared.logprobs(batch, 10**6)  # nothing reads the last id of a row; the first is in both
    assert shared.work == Work(ids=2, pairs=1 + 2, scored=2)


def test_a_meter_by_hand(by_hand):
    model = by_hand.tiny().model
    work = Work()
    meter = Meter(model, lambda: replace(work), peak=1e6)
    work.trained_ids = 100
    found = meter(80, {"rollout": 2.0, "update": 0.5})
    assert found["sampled_per_second"] == 40
    assert found["computed_per_second"] == 200
    flops = Size.of(model).flops(Work(trained_ids=100))
    assert found["mfu"] == pytest.approx(flops / 0.5 / 1e6)
    assert 0.05 < found["memory_gib"] < 100  # torch alone takes more than 50 MiB
    again = meter(0, {"update": 0.5})
    assert again["computed_per_second"] == 0  # since the last step
    assert "sampled_per_second" not in again
    two = Meter(model, Work, peak=1e6, devices=2)
    two._work = lambda: work
    assert two(0, {"update": 0.5})["mfu"] == pytest.approx(found["mfu"] / 2)
    assert Meter(model, Work)(0, {"update": 1.0})["mfu"] is None  # on a CPU


def test_options_of_the_log(here, tmp_path):
    with pytest.raises(ConfigError, match=r"log\.wandb: .online. is not allowed"):
        run_file(here, tmp_path / "run", "log.wandb=online")
    folder = train(run_file(here, tmp_path / "run", "log.peak_flops=1e9", "train.steps=2"))
    row = next(iter(JsonlReader(folder / "timings.jsonl")))
    assert row["mfu"] == pytest.approx(row["flops_per_second"] / 1e9)
