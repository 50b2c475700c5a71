"""The shop: loading a catalogue, steps per CPU second, and what one more episode weighs.

The official environment cannot be installed here (Python 3.8, Java, a spaCy model that is on no
package index), so nothing of it is run: its figures in the docs were measured elsewhere.
"""

from __future__ import annotations

import gc
import os
import resource
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

from foldgym.envs.shop.catalogue import Catalogue, in_memory, open_index, write_index
from foldgym.envs.shop.env import Shop
from foldgym.envs.shop.invent import write_catalogue
from foldgym.envs.shop.reading import find_files, read_products
from foldgym.envs.shop.session import Mode
from foldgym.envs.shop.webshop import WebShop
from foldgym.seeding import generator

LARGE, SMALL, EPISODES = 50_000, 1_000, 500
SECONDS = 1.0


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.process_time()
    found = work()
    return round(time.process_time() - started, 2), found


def walk(catalogue: Catalogue, mode: Mode) -> float:
    """Steps per CPU second of a random customer: searches for words of goals, clicks, buys."""
    goals = catalogue.goals("synthetic", 0)
    web, rng = WebShop(catalogue, goals, mode, seed=1), generator(mode, "walk")
    steps, started = 0, time.process_time()
    while time.process_time() - started < SECONDS:
        web.reset(session=rng.randrange(len(goals)))
        words = web.session.goal.instruction.replace(",", "").split()
        for _ in range(10):
            can = web.get_available_actions()
            if can["has_search_bar"] or rng.random() < 0.1:
                action = f"search[{' '.join(rng.sample(words, min(5, len(words))))}]"
            else:
                action = f"click[{rng.choice(can['clickables'])}]"
            steps += 1
            if web.step(action)[2]:
                break
    return round(steps / (time.process_time() - started))


def played(env: Shop) -> float:
    """Steps per CPU second of the environment: messages, infos and measures, by its expert."""
    steps, spent, rng = 0, 0.0, generator("played")
    seed = 0
    while spent < SECONDS:
        env.reset(seed=(seed := seed + 1))
        over = False
        while not over:
            action = env.expert("reading", rng)
            started = time.process_time()
            step = env.step(action)
            spent += time.process_time() - started
            steps, over = steps + 1, step.terminated or step.truncated
        env.measure()
    return round(steps / spent)


def weight() -> float:
    """Bytes of one more episode in play, at a page of results; what all share is there before."""
    seeds = range(EPISODES)

    def opened(seed: int) -> Shop:
        env = Shop()
        env.reset(seed=seed)
        env.step(f"search[{env.session.goal.query}]")
        return env

    for seed in seeds:
        opened(seed)
    gc.collect()
    tracemalloc.start()
    kept = [opened(seed) for seed in seeds]
    gc.collect()
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return round(size / len(kept))


OPEN = """
import sys
from pathlib import Path
from foldgym.envs.shop.reading import open_catalogue
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4
before = resident()
shop = open_catalogue(Path(sys.argv[1]))
goals = shop.goals("synthetic", 0)
shop.search("red lamp"), goals[0]
print(resident() - before)
"""


def process(catalogue: Path) -> float:
    """Megabytes that an open catalogue adds to a new process."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", OPEN, str(catalogue)]
    found = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    return round(int(found.stdout) / 1024, 1)


def run() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        files, index = Path(name) / "files", Path(name) / "index"
        making, _ = timed(lambda: write_catalogue(files, LARGE, 1))
        write_catalogue(Path(name) / "small", SMALL, 1)
        reading, large = timed(lambda: in_memory(read_products(find_files(files))))
        small = in_memory(read_products(find_files(Path(name) / "small")))
        indexing, _ = timed(lambda: write_index(index, read_products(find_files(files))))
        opening, mapped = timed(lambda: open_index(index))
        goals, _ = timed(lambda: large.goals("synthetic", 0))
        rates = {
            f"{size} products": {mode: walk(shop, mode) for mode in ("text", "text_rich", "html")}
            for size, shop in (("1,000", small), ("50,000", large), ("50,000 mapped", mapped))
        }
        rates["environment, 1,000 products"] = {"text": played(Shop())}
        return {
            "seconds": {
                "make 50,000": making,
                "read 50,000 from files": reading,
                "index 50,000": indexing,
                "open an index of 50,000": opening,
                "shuffle the goals": goals,
            },
            "goals": len(large.goals("synthetic", 0)),
            "steps_per_second": rates,
            "megabytes": {"files": process(files), "index": process(index)},
            "bytes_per_episode": weight(),
            "peak_megabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        }
