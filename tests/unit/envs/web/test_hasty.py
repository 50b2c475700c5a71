"""The hasty player of MiniWoB: the right tool, too often on the first element of its kind."""

from __future__ import annotations

import json
from typing import Any

from foldgym.envs.web.miniwob_scene import HASTE, Scene, in_haste
from foldgym.seeding import generator
from foldgym.tools import call
from foldgym.types import Message


def node(ref: int, tag: str) -> dict[str, Any]:
    return {"ref": ref, "tag": tag, "attributes": {}, "name": "", "text": ""}


SCENE = Scene("Press it", (node(4, "div"), node(5, "button"), node(6, "input"), node(7, "button")))


def ref(message: Message) -> int:
    return json.loads(message.tool_calls[0].arguments)["ref"]


def test_haste_takes_the_first_of_the_same_tag_as_often_as_it_says() -> None:
    rng = generator(3)
    taken = [ref(in_haste(SCENE, call("click", ref=7), rng)) for _ in range(2000)]
    assert set(taken) == {5, 7}
    # 2,000 draws: a standard deviation is 0.011
    assert abs(taken.count(5) / 2000 - HASTE) < 0.045


def test_haste_changes_nothing_else() -> None:
    rng = generator(0)
    filled = [in_haste(SCENE, call("fill", ref=6, text="ada"), rng) for _ in range(20)]
    assert {each.tool_calls[0].arguments for each in filled} == {'{"ref": 6, "text": "ada"}'}
    waits = [in_haste(SCENE, call("noop"), rng) for _ in range(20)]
    assert all(each == call("noop") for each in waits)
