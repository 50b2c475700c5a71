"""What a run writes: numbers, pictures, rewards with a KL in them."""

from dataclasses import replace

import pytest

from foldgym.config import EnvSection
from foldgym.errors import DataError, UnknownName
from foldgym.records import JsonlReader, RecordReader
from foldgym.trainers.batch import make_batch
from foldgym.trainers.listener import Listener
from foldgym.trainers.metrics import RunLog, headline, sampled_ids, summary
from foldgym.trainers.penalty import kl_per_id, penalised
from foldgym.trainers.plot import curve
from foldgym.trainers.wiring import worlds
from foldgym.types import Group, Request, Reward, Stop


def test_summary_by_hand(by_hand):
    one = by_hand.trajectory([-1, 0, 0], [-1, 1], name="a", success=True)
    two = by_hand.trajectory([-1, 0], name="b", success=False)
    lost = by_hand.trajectory([-1, 0], name="c", stop=Stop.ERROR)
    graded = by_hand.group([1.0, 0.0], one, two)
    equal = Group(Request("world", 2, 2), (two,), (Reward(0.5, 0.5),), (lost,))
    found = summary([graded, equal])
    assert found == {
        "reward": 0.5,
        "success": pytest.approx(1 / 3),
        "turns": pytest.approx(4 / 3),
        "segments": pytest.approx(4 / 3),
        "sampled_tokens": pytest.approx(5 / 3),
        "problems": 0.0,
        "degenerate": 0.5,
        "episodes": 3.0,
        "failures": 1.0,
        "stop/done": 1.0,
    }
    assert summary([Group(Request("world", 2, 1), (), (), (lost,))]) == {
        "episodes": 0.0,
        "failures": 1.0,
    }
    # a group in which all failed is not among those that are learned from
    gone = Group(Request("world", 3, 2), (), (), (lost, lost))
    assert summary([graded], [graded, equal, gone])["failures"] == 3.0
    assert summary([], [gone])["failures"] == 2.0
    assert headline({"reward": 0.5, "entropy": 1.25, "other": 3}) == "reward 0.5  entropy 1.25"


def test_every_sampled_id_is_counted_by_hand(by_hand):
    """Those of a lineage that is not trained, of rejected groups and of failures too."""

    def said(count, **more):
        return replace(by_hand.trajectory([-1, 0], **more), counters={"sampled_tokens": count})

    good = Group(Request("world", 1, 2), (said(3), said(4)), (Reward(0, 0),) * 2)
    bad = Group(Request("world", 2, 1), (), (), (said(5, stop=Stop.ERROR),))
    assert sampled_ids([good, bad]) == 12
    assert sampled_ids([]) == 0


def test_a_log_is_cut_back_to_its_offsets(by_hand, tmp_path):
    group = by_hand.group([1.0], by_hand.trajectory([-1, 0], name="a"))
    log = RunLog(tmp_path)
    log.trajectories(1, [group], kept=True)
    log.step(1, {"reward": 1.0}, {"rollout": 0.5})
    offsets = log.offsets()
    log.trajectories(2, [group], kept=False)
    log.step(2, {"reward": 2.0}, {"rollout": 0.5})
    log.close()
    RunLog(tmp_path, offsets).close()
    assert list(JsonlReader(tmp_path / "metrics.jsonl")) == [{"step": 1, "reward": 1.0}]
    records = list(RecordReader(tmp_path / "trajectories.jsonl"))
    assert [r.notes for r in records] == [{"step": 1, "group": 0, "kept": True}]
    with pytest.raises(DataError, match="no line starts there"):
        RunLog(tmp_path, {"metrics.jsonl": offsets["metrics.jsonl"] + 5})


def test_a_log_without_trajectories(by_hand, tmp_path):
    log = RunLog(tmp_path, trajectories=False)
    log.trajectories(1, [by_hand.group([1.0])], kept=True)
    log.close()
    found = sorted(p.name for p in tmp_path.iterdir())
    assert found == [".lock", "metrics.jsonl", "timings.jsonl"]


def test_kl_in_the_reward_by_hand(by_hand):
    """Sampled at log-prob -0.5 each; the reference says -0.75, so k1 is 0.25 a token."""
    folded = by_hand.trajectory([-1, 0, 0], [-1, 1], name="a")
    group = by_hand.group([1.0, 0.0], folded, by_hand.trajectory([-1, 0], name="b"))
    batch = make_batch([group])
    reference = 1.5 * batch.logprob_BT
    batch.extra["reference"] = reference  # pyright: ignore
    (cheaper,) = penalised([group], batch, coef=2.0)
    assert [r.total for r in cheaper.rewards] == [1.0 - 2 * 0.75, 0.0 - 2 * 0.25]
    assert [r.outcome for r in cheaper.rewards] == [-0.5, -0.5]
    assert [r.parts for r in cheaper.rewards] == [{"kl": -1.5}, {"kl": -0.5}]
    assert [r.total for r in group.rewards] == [1.0, 0.0]
    assert kl_per_id([cheaper], coef=2.0) == pytest.approx(0.25)


def test_the_curve_is_a_picture(tmp_path):
    log = RunLog(tmp_path)
    for step in range(1, 4):
        log.step(step, {"success": step / 4, "eval/w/success": 0.5, "entropy": 1.0}, {})
    log.close()
    picture = curve(tmp_path / "metrics.jsonl", tmp_path / "curve.png")
    assert picture.read_bytes().startswith(b"\x89PNG")
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(DataError, match="no numbers to draw"):
        curve(tmp_path / "empty.jsonl", tmp_path / "no.png")


def test_the_listener_hears_every_text_and_loses_none():
    listener = Listener()
    ids = (
        listener.control("<|user|>"),
        *listener.encode("wo ist é ?"),
        listener.control("<|end|>"),
    )
    assert (ids[0], ids[-1], listener.vocab_size) == (256, 257, 258)
    assert listener.control("<|user|>") == 256
    assert listener.decode(ids) == "wo ist é ?"
    assert listener.heard == ["wo ist é ?"]


def section(name, **more):
    return EnvSection.model_validate({"name": name, **more})


def test_worlds_by_label_weight_and_split():
    guess = "foldgym/GuessNumber-v0"
    mix = worlds([section(guess, weight=3.0), section(guess, kwargs={"high": 9})], "val")
    assert mix.weights == {guess: 3.0, f"{guess}#2": 1.0}
    assert mix.max_turns == 12
    with pytest.raises(UnknownName, match="option of foldgym/GuessNumber-v0"):
        worlds([section(guess, kwargs={"hihg": 9})])
