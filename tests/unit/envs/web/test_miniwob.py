"""MiniWoB++: every page, seeded, in virtual time, with its own rewards; the scripted players."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from foldgym.containers.browser import Seat, Setting, open_seat
from foldgym.containers.gateway import Response
from foldgym.envs.registry import make, maker
from foldgym.envs.web.miniwob import MiniWoB, tasks
from foldgym.envs.web.miniwob_experts import EXPERTS
from foldgym.envs.web.world import script
from foldgym.errors import UnknownName, UserError
from foldgym.seeding import generator
from foldgym.tools import call
from foldgym.types import Message, Step

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def world() -> Iterator[MiniWoB]:
    made = MiniWoB("all")
    yield made
    made.close()


def digest(env: MiniWoB) -> str:
    shown = json.dumps([env.utterance, env.view.nodes], sort_keys=True)
    return hashlib.blake2b(shown.encode(), digest_size=8).hexdigest()


def begin(world: MiniWoB, name: str, seed: int) -> str:
    world.names = (name,)
    world.reset(seed=seed)
    return digest(world)


_DIGESTS = """
import sys
sys.path.insert(0, sys.argv[1])
from test_miniwob import MiniWoB, begin
world = MiniWoB("all")
for name in sys.argv[2].split(","):
    print(name, *(begin(world, name, seed) for seed in (1, 2)))
world.close()
"""


def check(world: MiniWoB, names: list[str]) -> None:
    """Each begins the same after other episodes and in a new process, and ends by its own clock."""
    found: dict[str, list[str]] = {}
    for name in names:
        found[name] = [begin(world, name, seed) for seed in (1, 2)]
        for node in [node for node in world.view.nodes if node["ref"]][3:6]:
            if world.step(call("click", ref=node["ref"])).terminated:
                break
        world.limit_ms = 400  # which no page shows
        try:
            assert begin(world, name, 1) == found[name][0], name
            assert world.utterance, name
            step = world.step(call("noop"))
        finally:
            world.limit_ms = 10_000
        assert (step.reward, step.terminated) == (-1.0, True), name
        facts = world.measure()
        assert (facts["reason"], facts["score"], facts["success"]) == ("timed out", 0.0, False)
    assert sum(len(set(each)) for each in found.values()) > 1.8 * len(names)  # seeds matter
    here = os.path.dirname(__file__)
    told = subprocess.run(
        [sys.executable, "-c", _DIGESTS, here, ",".join(names)],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONHASHSEED": "7"},
    ).stdout
    assert told.splitlines() == [" ".join([name, *found[name]]) for name in names]


def test_there_are_130_tasks() -> None:
    assert len(tasks()) == 130
    assert set(tasks()) >= EXPERTS.keys()
    assert len(EXPERTS) >= 30


SOME = tasks()[::13]


def test_some_tasks_load_and_repeat(world: MiniWoB) -> None:
    check(world, list(SOME))


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_all_others_load_and_repeat(world: MiniWoB, part: int) -> None:
    others = [each for each in tasks() if each not in SOME]
    check(world, others[part::10])


def play(world: MiniWoB, name: str, seed: int) -> bool:
    begin(world, name, seed)
    for _ in range(20):
        step = world.step(EXPERTS[name](world.scene()))
        if step.terminated or step.truncated:
            break
    return bool(world.measure()["success"])


@pytest.mark.parametrize("name", sorted(EXPERTS)[::4])
def test_an_expert_solves_its_task(world: MiniWoB, name: str) -> None:
    assert all(play(world, name, seed) for seed in range(1000, 1003))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(EXPERTS))
def test_an_expert_solves_95_of_100(world: MiniWoB, name: str) -> None:
    solved = sum(play(world, name, seed) for seed in range(20))
    assert solved >= 19, f"{solved} of 20"


# ---------------------------------------------------------------- rewards and time


def solve(reward: str, step_ms: int, waits: int) -> Step:
    env = MiniWoB("click-test", reward=reward, step_ms=step_ms)
    env.reset(seed=0)
    for _ in range(waits):
        env.step(call("noop"))
    step = env.step(env.expert("optimal", generator(0)))
    env.close()
    return step


def test_the_reward_falls_with_the_pages_clock_alone() -> None:
    # the click comes after 0, 1 or 3 waits of 500 ms; the page's limit is 10,000 ms
    assert solve("time", 500, 0).reward == 1.0
    assert solve("time", 500, 1).reward == 0.95
    assert solve("time", 500, 3).reward == 0.85
    assert solve("time", 2000, 3).reward == pytest.approx(0.4)
    assert solve("raw", 2000, 3).reward == 1.0


def test_a_wrong_click_costs_what_the_page_says(world: MiniWoB) -> None:
    begin(world, "click-test-2", 0)
    wrong = next(n for n in world.view.nodes if n.get("text") == "TWO")
    step = world.step(call("click", ref=wrong["ref"]))
    right = "button TWO" in world.utterance
    assert (step.reward, world.measure()["score"]) == ((1.0, 1.0) if right else (-1.0, 0.0))


def test_waiting_takes_as_long_as_it_says(world: MiniWoB) -> None:
    begin(world, "click-test", 0)
    world.step(call("noop", ms=9_499))
    assert world.view.state
    assert world.view.state["time"] == 9_999
    assert world.step(call("noop")).reward == -1.0


_CLOCK = """async () => {
  const seen = [];
  const note = (what) => seen.push(`${what}@${Date.now() - start}`);
  const start = Date.now();
  setTimeout(note, 30, "late");
  setTimeout(() => { note("soon"); Promise.resolve().then(() => note("promise")); }, 10);
  const every = setInterval(() => { note("tick"); if (seen.length > 6) clearInterval(every); }, 20);
  clearTimeout(setTimeout(note, 5, "never"));
  requestAnimationFrame((at) => note(`frame${at - (performance.now() - 0)}`));
  await new Promise((done) => {
    const channel = new MessageChannel();
    channel.port1.onmessage = done;
    channel.port2.postMessage(0);
  });
  const before = seen.length;
  await __clock.advance(100);
  return { before, seen, now: Date.now() - start, year: new Date().getFullYear(),
    kind: new Date() instanceof Date, given: new Date(2020, 1, 29).getDate() };
}"""


def test_the_virtual_clock_runs_timers_in_order() -> None:
    seat = open_seat(Setting({"a.test": lambda _: Response(200, "hi")}, scripts=(script("clock"),)))

    async def work(seat: Seat) -> dict[str, object]:
        await seat.page.goto("http://a.test/")
        return await seat.page.evaluate(_CLOCK)

    try:
        found = seat.run(work)
    finally:
        seat.close()
    assert found == {
        "before": 0,
        "seen": [
            *("soon@10", "promise@10", "frame0@16", "tick@20", "late@30", "tick@40", "tick@60"),
        ],
        "now": 100,
        "year": 2017,
        "kind": True,
        "given": 29,
    }


# ---------------------------------------------------------------- playing


def png_size(data: bytes) -> tuple[int, int]:
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def test_pictures_of_an_episode_repeat_whatever_came_before() -> None:
    env = MiniWoB("click-button", image="raw")
    shots: list[bytes] = []
    for seed in (1, 2, 1):
        env.reset(seed=seed)
        shots.append(env.screenshot())
        env.step(env.expert("optimal", generator(0)))
    env.close()
    assert shots[0] == shots[2] != shots[1]


def test_actions_by_point_and_as_text() -> None:
    for actions, form in (
        ("browsergym", "mouse_click({x}, {y})"),
        (
            "ui-r1",
            "<think/><answer>[{{'action': 'click', 'coordinate': [{x}, {y}]}}]</answer>",
        ),
    ):
        env = MiniWoB("click-test", actions=actions, act_by="point", text="none", image="raw")
        observation, _ = env.reset(seed=3)
        text, picture = observation[0].content
        assert "Click the button." in str(text)
        assert png_size(picture.data) == (160, 210)  # type: ignore[union-attr]
        other = MiniWoB("click-test")
        other.reset(seed=3)
        x, y, width, height = next(n["box"] for n in other.view.nodes if n["tag"] == "button")
        said = form.format(x=x + width / 2, y=y + height / 2)
        step = env.step(Message("assistant", said))
        assert (step.reward, step.terminated) == (1.0, True)
        env.close()
        other.close()


def test_episodes_side_by_side_are_those_played_alone() -> None:
    def episode(number: int) -> tuple[float, int]:
        env = maker("foldgym/MiniWoB-v0", task="click-option")()
        env.reset(seed=number % 3)
        total, steps, over = 0.0, 0, False
        while not over:
            _, reward, terminated, truncated, _ = env.step(env.expert("optimal", generator(0)))
            total, steps, over = total + float(reward), steps + 1, terminated or truncated
        env.close()
        return total, steps

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(episode, range(6)))
    assert together == [episode(number) for number in range(6)]
    assert {total for total, _ in together} == {1.0}


def test_a_snapshot_is_played_again(world: MiniWoB) -> None:
    begin(world, "click-option", 5)
    world.step(EXPERTS["click-option"](world.scene()))
    before, kept = digest(world), world.snapshot()
    world.step(EXPERTS["click-option"](world.scene()))
    assert world.measure()["success"]
    world.restore(kept)
    assert digest(world) == before
    world.step(EXPERTS["click-option"](world.scene()))
    assert world.measure()["success"]


def test_splits_have_pages_of_their_own() -> None:
    seeds = {}
    for split in ("train", "val", "test"):
        env = make("foldgym/MiniWoB-v0", split=split)
        env.reset(seed=1)
        seeds[split] = env.task.metadata["page_seed"] // 2**30
        env.close()
    assert seeds == {"train": 0, "val": 1, "test": 2}


def test_options_are_checked() -> None:
    with pytest.raises(UnknownName, match="did you mean 'click-button'"):
        MiniWoB("click-buton")
    with pytest.raises(UserError, match="step_ms=-1"):
        MiniWoB(step_ms=-1)
    env = MiniWoB()
    with pytest.raises(UserError, match="page_seed must be a whole number"):
        env.reset(seed=0, options={"page_seed": "x"})
    with pytest.raises(UnknownName, match="expert"):
        MiniWoB("bisect-angle").expert("optimal", generator(0))
