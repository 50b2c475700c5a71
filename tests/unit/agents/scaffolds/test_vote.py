"""Voting by regions as a way to answer: what is heard, in which of the written forms."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

import pytest
from scaffold_play import staged

import foldgym
from foldgym.agents.engines.scripted import FunctionPolicy
from foldgym.agents.scaffolds.vote import RegionVote, vote
from foldgym.envs.grounding import Grounding
from foldgym.tools import Parsed, call
from foldgym.types import Message, Prompt, Stop, Trajectory


def texts(*written: str) -> list[Parsed]:
    return [Parsed(Message("assistant", text)) for text in written]


def clicks(*points: tuple[float, float], name: str = "click") -> list[Parsed]:
    return [Parsed(call(name, x=x, y=y)) for x, y in points]


def arguments(said: Parsed) -> dict[str, Any]:
    return json.loads(said.message.tool_calls[0].arguments)


def test_calls_meet_in_the_middle_of_their_region() -> None:
    # squares of 10 around (100,100), (104,100), (300,40): two overlap in x 99..105, y 95..105
    said, share = vote(clicks((300, 40), (100, 100), (104, 100)), 10)
    assert arguments(said) == {"x": 102, "y": 100}
    assert share == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("form", "digits"),
    [
        ("({}, {})", ("100", "104")),
        ('mouse_click({}, {}, "left")', ("100", "104")),
        ("<think>at (1, 2)</think><answer>[{{'coordinate': [{}, {}]}}]</answer>", ("100", "104")),
        ("[{},{}]", ("0.100", "0.104")),
    ],
)
def test_texts_keep_their_form(form: str, digits: tuple[str, str]) -> None:
    side = 10 if digits[0] == "100" else 0.01
    first, second = (texts(form.format(x, digits[0]))[0] for x in digits)
    said, share = vote([first, second], side)
    middle = "102" if side == 10 else "0.102"
    assert said.message.text == form.format(middle, digits[0].rstrip("0") if side < 1 else "100")
    assert share == 1.0


def test_what_is_done_is_voted_on_before_where() -> None:
    pressed = clicks((10, 10), (12, 10), name="long_press")
    said, share = vote([*clicks((300, 300)), *pressed], 50)
    assert said.message.tool_calls[0].name == "long_press"
    assert (arguments(said), share) == ({"x": 11, "y": 10}, pytest.approx(2 / 3))


def test_where_most_name_no_place_the_first_of_these_is_taken() -> None:
    waits = [Parsed(call("wait")), Parsed(Message("assistant"), "error: empty")]
    said, share = vote([waits[1], *clicks((5, 5)), waits[0]], 50)
    assert (said, share) == (waits[0], pytest.approx(2 / 3))
    assert vote([waits[1]], 50) == (waits[1], 1.0)
    assert vote([*clicks((5, 5)), waits[0]], 50)[0].message.tool_calls[0].name == "click"


def test_points_off_the_screen_do_not_vote() -> None:
    inside, outside = clicks((5, 5)), clicks((900, 5), (900, 5))
    assert arguments(vote([*inside, *outside], 2, (400, 400))[0]) == {"x": 5, "y": 5}
    assert arguments(vote(outside, 2, (400, 400))[0]) == {"x": 900, "y": 5}


@pytest.mark.parametrize("given", [{"n": 0}, {"side": 0.0}, {"size": (0.0, 3.0)}])
def test_wrong_options_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        RegionVote(**given)


# ---------------------------------------------------------------- in an episode


def grounded(answers: Sequence[str], **given: Any) -> Trajectory:
    """One screen, on which the drafts say `answers`, one after another."""
    left = list(answers)

    def speak(prompt: Prompt, rng: random.Random) -> str:
        return left.pop(0)

    def world() -> foldgym.Env:
        return Grounding(shows="text", action_format="point")

    def make() -> RegionVote:
        return RegionVote(n=len(answers), **given)

    group = staged(FunctionPolicy(speak), make, world=world)
    assert not group.failures, group.failures[0].error
    return group.trajectories[0]


def test_the_world_hears_the_voted_point_once() -> None:
    played = grounded(["(10, 10)", "(200, 90)", "(12, 14)"], side=20)
    assert played.facts["answer"]["point"] == (11.0, 12.0)
    assert played.facts["votes"] == [pytest.approx(2 / 3)]
    acted = [turn for turn in played.turns if turn.purpose == "act"]
    assert [turn.message.text for turn in acted] == ["(11, 12)"]
    assert [turn.lineage for turn in played.turns] == ["draft/0", "draft/1", "draft/2", "main"]
    assert played.counters["drafts"] == 3
    assert played.stop is Stop.DONE


def test_voting_turns_a_wobbly_hand_into_a_steady_one() -> None:
    """Two of three answers hit the shape; a single one would miss every third time."""
    world = Grounding(shows="text", action_format="point")
    world.reset(seed=0)
    left, top, right, bottom = world.task.answer["box"]  # type: ignore[index,call-overload]
    x, y = (left + right) / 2, (top + bottom) / 2
    played = grounded([f"({x}, {y})", "(0, 0)", f"({x + 1}, {y})"], side=6)
    assert played.facts["score"] == 1.0


@pytest.mark.browser
def test_a_page_is_clicked_where_most_points_are() -> None:
    """`click-test` has one button; two of three answers lie on it."""
    from foldgym.envs.web.miniwob import MiniWoB

    world = MiniWoB("click-test", act_by="point")
    world.reset(seed=0)
    left, top, wide, high = next(n["box"] for n in world.view.nodes if n["tag"] == "button")
    world.close()
    x, y = round(left + wide / 2), round(top + high / 2)
    answers = [call("mouse_click", x=a, y=b) for a, b in ((x - 1, y), (1, 205), (x + 1, y))]

    def speak(prompt: Prompt, rng: random.Random) -> Message:
        return answers.pop(0)

    def make() -> RegionVote:
        return RegionVote(n=3, side=8)

    group = staged(FunctionPolicy(speak), make, world=lambda: MiniWoB("click-test", act_by="point"))
    assert not group.failures, group.failures[0].error
    assert group.trajectories[0].facts["success"] is True
    (act,) = (turn for turn in group.trajectories[0].turns if turn.purpose == "act")
    assert arguments(Parsed(act.message)) == {"x": x, "y": y}
