"""Grounding: what is right, how it is written, and the world around it."""

from __future__ import annotations

import io
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import foldgym
from foldgym.envs.grounding import GuiStep, judge, region_vote
from foldgym.envs.grounding.answers import point, ui_r1, ui_r1_nothink
from foldgym.envs.grounding.steps import Said
from foldgym.errors import DataError, UnknownName, UserError
from foldgym.rewards import REWARDS
from foldgym.testing.contracts import check_env
from foldgym.tools import call
from foldgym.types import Image, Message, Stop, Task, Trajectory, Turn

pillow = pytest.importorskip("PIL.Image")
NAME = "foldgym/Grounding-v0"
STEP = GuiStep("1", "tap", "a.png", box=(10, 10, 20, 20))


@pytest.mark.parametrize(
    ("said", "scale", "right"),
    [
        (Said("click", (10, 20)), (1, 1), True),  # both edges
        (Said("click", (20.9, 10)), (1, 1), True),  # cut to 20
        (Said("click", (21, 10)), (1, 1), False),
        (Said("click", (5, 10)), (2, 2), True),
        (Said("click", (5, 10.5)), (2, 2), False),
        (Said("click"), (1, 1), False),
        (Said("click", (float("nan"), 10)), (1, 1), False),
        (Said("long_press", (15, 15)), (1, 1), False),
    ],
)
def test_a_click_is_right_inside_the_box(said: Said, scale: Any, right: bool):
    assert judge(STEP, said, scale).right is right


def test_without_a_box_distance_decides():
    step = GuiStep("1", "tap", "a.png", point=(100, 100))
    assert judge(step, Said("click", (100, 251))).right  # 151 < 151.2
    assert not judge(step, Said("click", (100, 251.3))).right
    assert not judge(step, Said("click", (100, 105)), near=5).right


def test_arguments_count_where_the_step_has_one():
    step = GuiStep("1", "scroll", "a.png", action="scroll", argument="down")
    assert judge(step, Said("scroll", argument=" Down")).right
    wrong = judge(step, Said("scroll", argument="up"))
    assert (wrong.action, wrong.coord, wrong.argument, wrong.right) == (True, True, False, False)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "<think>a</think> <answer>[{'action': 'click', 'coordinate': [3, 4]}]</answer>",
            Said("click", (3, 4), "", True),
        ),
        (
            "so: <think>a</think><answer>[{'action': 'click', 'coordinate': [3, 4]}]</answer>",
            Said("click", (3, 4), "", False),
        ),
        (
            '<answer>{"action": "scroll", "direction": "up", "coordinate": [0.5, 2], "x": [1, 1]}'
            "</answer>",
            Said("scroll", (0.5, 2), "up", False),
        ),
        ("<think>a</think><answer>click</answer>", Said("", None, "", True)),
        ("click [3, 4]", Said()),
    ],
)
def test_ui_r1_answers(text: str, said: Said):
    assert ui_r1(text) == said


def test_ui_r1_without_thinking():
    text = "<answer>[{'action': 'click', 'coordinate': [3, 4]}]</answer>"
    assert ui_r1_nothink(text).formed
    assert not ui_r1(text).formed


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("(12, 40)", (12, 40)),
        ("at [0.5,0.25].", (0.5, 0.25)),
        ("<point>12 40</point>", (12, 40)),
        ("[10, 20, 30, 60]", (20, 40)),
        ("nowhere", None),
        ("7", None),
    ],
)
def test_bare_points(text: str, place: Any):
    assert point(text).point == place


@given(st.text(max_size=60))
def test_no_answer_breaks_a_reader(text: str):
    for read in (ui_r1, ui_r1_nothink, point):
        assert isinstance(read(text), Said)
    assert isinstance(ui_r1(f"<think></think><answer>{text}</answer>").action, str)


# ---------------------------------------------------------------- the world


@pytest.mark.parametrize("units", ["pixels", "unit", "thousand"])
@pytest.mark.parametrize("action_format", ["tools", "point", "ui-r1", "ui-r1-nothink"])
def test_the_expert_is_right_and_well_formed(units: Any, action_format: str):
    env = foldgym.make(NAME, units=units, action_format=action_format, split="test")
    for seed in range(40):
        env.reset(seed=seed)
        env.step(env.expert("optimal", random.Random(seed)))
        facts = env.measure()
        assert (facts["score"], facts["format_ok"]) == (1.0, 1.0)


def test_the_picture_shows_the_shapes():
    env = foldgym.make(NAME, shapes=1, shows="both")
    (message,), _ = env.reset(seed=3)
    picture = next(part for part in message.content if isinstance(part, Image))
    box = env.task.answer["box"]
    x, y = int(box[0] + box[2]) // 2, int(box[1] + box[3]) // 2
    image = pillow.open(io.BytesIO(picture.data))
    assert image.size == (320, 240)
    assert image.getpixel((x, y)) != (255, 255, 255)
    assert image.getpixel((int(box[2]) + 2, int(box[3]) + 2)) == (255, 255, 255)
    colour, kind = message.text.split("\n")[1].split()[:2]
    assert f"Click the {colour} {kind}." in message.text


def test_a_wrong_click_a_missed_tool_and_silence():
    env = foldgym.make(NAME, split="val")
    env.reset(seed=1)
    observation, reward, terminated, _, _ = env.step(call("click", x=-5, y=-5))
    assert (reward, terminated, observation[0].text) == (0.0, True, "Done.")
    assert [env.measure()[k] for k in ("action_ok", "coord_ok", "format_ok")] == [1.0, 0.0, 1.0]
    env.reset(seed=1)
    env.step(Message("assistant", ""))
    assert [env.measure()[k] for k in ("score", "action_ok", "format_ok")] == [0.0, 0.0, 0.0]
    env.reset(seed=1)
    assert env.step(call("fly")).truncated
    assert env.measure()["score"] == 0.0


def test_the_contract():
    assert check_env(NAME) == []


def test_a_file_of_steps(tmp_path: Path):
    (tmp_path / "pictures").mkdir()
    pillow.new("RGB", (200, 100)).save(tmp_path / "pictures" / "a.png")
    rows = [
        {"img_filename": "a.png", "bbox": [10, 20, 30, 40], "instruction": f"tap {n}"}
        for n in range(100)
    ]
    (tmp_path / "s.json").write_text(json.dumps(rows))
    options = {"file": str(tmp_path / "s.json"), "images": str(tmp_path / "pictures")}
    seen: dict[str, set[str]] = {}
    for split in ("train", "val", "test"):
        env = foldgym.make(NAME, **options, split=split)
        seen[split] = set()
        for seed in range(40):
            env.reset(seed=seed)
            seen[split].add(env.task.id)
    assert not seen["train"] & seen["test"]
    assert not seen["train"] & seen["val"]
    env = foldgym.make(NAME, **options, split="all", units="thousand", action_format="point")
    env.reset(seed=0)
    # the middle, (25, 40) of 200 x 100 pixels, is (125, 400) thousandths
    assert env.step("(125, 400)").reward == 1.0
    env.reset(seed=0)
    assert env.step("(25, 40)").reward == 0.0


def test_what_cannot_be_played_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="no effect without a file"):
        foldgym.make(NAME, split="all")
    with pytest.raises(UserError, match="1 to 18"):
        foldgym.make(NAME, shapes=19)
    with pytest.raises(UnknownName, match="thousand"):
        foldgym.make(NAME, units="thousands")
    row = {"img_filename": "none.png", "bbox": [1, 2, 3, 4], "instruction": "tap"}
    (tmp_path / "s.json").write_text(json.dumps([row]))
    with pytest.raises(DataError, match=r"none\.png.*images="):
        foldgym.make(NAME, file=str(tmp_path / "s.json"), split="all")
    (tmp_path / "none.png").write_bytes(b"GIF89a")
    with pytest.raises(DataError, match="no PNG, JPEG or WebP"):
        foldgym.make(NAME, file=str(tmp_path / "s.json"), split="all")


def test_a_new_process_draws_the_same_screens():
    code = (
        "import foldgym, hashlib\n"
        f"env = foldgym.make({NAME!r}, shows='both')\n"
        "print(hashlib.sha256(repr([env.reset(seed=s)[0] for s in range(5)]).encode()).hexdigest())"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": number},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for number in ("1", "2")
    }
    assert len(seen) == 1


# ---------------------------------------------------------------- rewards


def episode(sampled: int = 0, **facts: Any) -> Trajectory:
    from foldgym.types import Segment

    segment = Segment((1,) * sampled, (0,) * sampled, (0.0,) * sampled, (0,) * sampled)
    return Trajectory("t", "w", Task("q", ()), 0, (), (segment,), Stop.DONE, facts)


def test_the_terms_of_screens():
    right = episode(action_ok=1.0, coord_ok=1.0, argument_ok=0.0, format_ok=1.0)
    assert REWARDS["ui_r1"](right) == 3.0
    assert REWARDS["ui_r1"](episode()) == 0.0
    weighed = REWARDS["gui_components"](right, action=0.5, coord=2.0, argument=7.0, format=0.25)
    assert weighed == 2.75


def test_the_length_term_asks_for_less_the_more_succeed():
    good = {"action_ok": 1.0, "coord_ok": 1.0, "format_ok": 1.0}
    group = [episode(100, **good), episode(300, **good), episode(200, format_ok=1.0)]
    # p = 2/3, mean of the right ones 200, longest 300: budget 2/3 * 200 + 1/3 * 300 = 700/3
    budget = 700 / 3
    term = REWARDS["dast_length"]
    assert term(group[0], group) == pytest.approx(max(-0.5 * (100 - budget) / budget + 0.5, 0.1))
    assert term(group[1], group) == pytest.approx(max(-0.5 * (300 - budget) / budget + 0.5, 0.1))
    assert term(group[2], group) == pytest.approx(min(0.9 * (200 - budget) / budget - 0.1, -0.1))


# ---------------------------------------------------------------- voting


def test_the_region_of_most_votes_wins():
    # squares of 10 around (100,100), (104,100), (300,40): the overlap is x 99..105, y 95..105
    found = region_vote([(100, 100), (104, 100), (300, 40)], (400, 400), side=10)
    assert found is not None
    assert (found.point, found.votes, found.share) == ((102.0, 100.0), 2, 2 / 3)


def test_regions_are_cut_at_the_edges_and_outsiders_do_not_vote():
    found = region_vote([(0, 0), (500, 3)], (400, 400), side=10)
    assert found is not None
    assert (found.point, found.votes, found.share) == ((2.5, 2.5), 1, 0.5)
    assert region_vote([(500, 3)], (400, 400)) is None


def test_equal_votes_prefer_the_larger_then_the_upper_left_region():
    # the second pair overlaps in 8 x 10, the first in 2 x 10
    pairs = [(20, 20), (28, 20), (200, 200), (202, 200)]
    found = region_vote(pairs, (400, 400), side=10)
    assert found is not None
    assert found.point == (201.0, 200.0)
    alone = region_vote([(300, 300), (20, 20)], (400, 400), side=10)
    assert alone is not None
    assert alone.point == (20.0, 20.0)


@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=1, max_size=6),
    st.integers(1, 20),
)
def test_voting_agrees_with_counting_pixels(points: list[tuple[int, int]], half: int):
    found = region_vote(points, (60, 60), side=2.0 * half)
    assert found is not None
    centres = [(x + 0.5, y + 0.5) for x in range(60) for y in range(60)]
    votes = [
        sum(abs(x - px) <= half and abs(y - py) <= half for px, py in points) for x, y in centres
    ]
    assert found.votes == max(votes)


# ---------------------------------------------------------------- several screens


def test_several_screens_pay_their_shares_and_tell_their_parts() -> None:
    env = foldgym.make(NAME, shows="text", screens=3)
    env.reset(seed=4)
    rng = random.Random(0)
    first = env.step(env.expert("optimal", rng))
    assert (first.reward, first.terminated, first.truncated) == (pytest.approx(1 / 3), False, False)
    assert "The screen shows:" in first.observation[-1].text
    assert (first.info["action_ok"], first.info["coord_ok"]) == (1.0, 1.0)
    second = env.step(call("click", x=-1, y=-1))
    assert (second.reward, second.info["action_ok"], second.info["coord_ok"]) == (0.0, 1.0, 0.0)
    assert second.observation[-1].text != first.observation[-1].text
    last = env.step(env.expert("optimal", rng))
    assert (last.reward, last.terminated) == (pytest.approx(1 / 3), True)
    facts = env.measure()
    assert (facts["score"], facts["success"]) == (pytest.approx(2 / 3), False)
    assert (facts["action_ok"], facts["coord_ok"]) == (1.0, pytest.approx(2 / 3))


def test_what_cannot_be_read_is_a_screen_lost() -> None:
    env = foldgym.make(NAME, shows="text", screens=2)
    env.reset(seed=4)
    unread = env.step("click nowhere")
    assert (unread.reward, unread.terminated, unread.truncated) == (0.0, False, False)
    assert unread.info["action_ok"] == unread.info["format_ok"] == 0.0
    last = env.step(env.expert("optimal", random.Random(0)))
    assert (last.reward, last.terminated, env.measure()["score"]) == (0.5, True, 0.5)


def test_one_message_answers_one_screen() -> None:
    env = foldgym.make(NAME, shows="text", screens=2)
    env.reset(seed=4)
    (made,) = env.expert("optimal", random.Random(0)).tool_calls  # type: ignore[union-attr]
    twice = env.step(Message("assistant", tool_calls=(made, made)))
    assert (twice.reward, twice.terminated) == (0.5, False)
    assert "one action for each screen" in twice.observation[-1].text


def test_a_number_of_screens_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="screens=0"):
        foldgym.make(NAME, screens=0)
    row = {"img_filename": "none.png", "bbox": [1, 2, 3, 4], "instruction": "tap"}
    (tmp_path / "s.json").write_text(json.dumps([row]))
    with pytest.raises(UserError, match=r"screens=2: .* has 1 of 'all'"):
        foldgym.make(NAME, file=str(tmp_path / "s.json"), split="all", screens=2)


@pytest.mark.parametrize("name", ["ui_r1", "gui_components"])
def test_terms_pay_every_turn_for_its_own_action(name: str) -> None:
    infos = ({"action_ok": 1.0, "coord_ok": 1.0, "format_ok": 1.0}, {"action_ok": 1.0}, {})
    turns = tuple(Turn(i, Message("assistant"), info=dict(info)) for i, info in enumerate(infos))
    played = Trajectory("t", "e", Task("t", ()), 0, turns, (), Stop.DONE, {"action_ok": 1.0})
    assert REWARDS[name](played, by_turn=True) == [3.0, 1.0, 0.0]
    assert REWARDS[name](played) == 1.0
