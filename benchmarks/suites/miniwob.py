"""MiniWoB++ in one Chromium: resets, and episodes a second by coordinates and by element.

One process, one context, `click-test` (whose button fills much of the page) and `click-button`.
The figures published for others are cited, not measured: Selenium's environment 10.8 episodes a
second, BrowserGym 2.7 s for a reset.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

from foldgym.containers.browser import unavailable
from foldgym.envs.web.miniwob import MiniWoB
from foldgym.seeding import generator
from foldgym.tools import call

EPISODES, WARM = 200, 10


def middle(env: MiniWoB) -> tuple[float, float]:
    """Where the button of `click-test` is, read by an environment that sees elements."""
    x, y, width, height = next(n["box"] for n in env.view.nodes if n["tag"] == "button")
    return x + width / 2, y + height / 2


def by_point(task: str) -> dict[str, float]:
    """Episodes of one click at known coordinates: nothing but the page's verdict is read."""
    seen, env = MiniWoB(task), MiniWoB(task, text="none", act_by="point")
    points: list[tuple[float, float]] = []
    for seed in range(EPISODES + WARM):
        seen.reset(seed=seed)
        points.append(middle(seen))
    seen.close()
    resets: list[float] = []
    began = 0.0
    for seed, (x, y) in enumerate(points):
        if seed == WARM:
            began = time.perf_counter()
        start = time.perf_counter()
        env.reset(seed=seed)
        resets.append(time.perf_counter() - start)
        assert env.step(call("mouse_click", x=x, y=y)).reward == 1.0
    took = time.perf_counter() - began
    env.close()
    return {"episodes_per_second": round(EPISODES / took, 1), **spread(resets[WARM:])}


def by_ref(task: str, **options: Any) -> dict[str, float]:
    """Episodes of the scripted player, who is shown the page as text after every action."""
    env = MiniWoB(task, **options)
    resets: list[float] = []
    began = 0.0
    for seed in range(EPISODES + WARM):
        if seed == WARM:
            began = time.perf_counter()
        start = time.perf_counter()
        env.reset(seed=seed)
        resets.append(time.perf_counter() - start)
        over = False
        while not over:
            step = env.step(env.expert("optimal", generator(seed)))
            over = step.terminated or step.truncated
    took = time.perf_counter() - began
    env.close()
    return {"episodes_per_second": round(EPISODES / took, 1), **spread(resets[WARM:])}


def spread(seconds: list[float]) -> dict[str, float]:
    """The middle and the slowest of twenty, in milliseconds."""
    cuts = statistics.quantiles(seconds, n=20)
    return {
        "reset_p50_ms": round(statistics.median(seconds) * 1000, 1),
        "reset_p95_ms": round(cuts[-1] * 1000, 1),
    }


def run() -> dict[str, Any]:
    if why := unavailable():
        return {"left out": why}
    return {
        "by point, click-test": by_point("click-test"),
        "by element, click-test": by_ref("click-test"),
        "by element, click-button": by_ref("click-button"),
        "by element, click-checkboxes": by_ref("click-checkboxes"),
        "by element with pictures, click-test": by_ref("click-test", image="raw"),
    }
