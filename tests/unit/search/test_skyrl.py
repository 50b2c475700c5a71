"""skyrl-gym's own search environment plays against our server, unchanged."""

from __future__ import annotations

import json
import subprocess

import pytest
from oracles import oracle_python

from foldgym.search import Bm25, Document
from foldgym.search.server import Server

pytestmark = pytest.mark.oracle

DOCUMENTS = [
    Document("0", "Ada Lovelace", "Ada Lovelace wrote the first program."),
    Document("1", "Charles Babbage", "Charles Babbage designed the engine."),
    Document("2", "", "The first steam engine pumped water."),
]

PLAY = """
import json, sys
import skyrl_gym
from omegaconf import OmegaConf
config = OmegaConf.create({
    "search_url": sys.argv[1], "topk": 2, "timeout": 10, "log_requests": False,
})
reward = {"method": "rule", "ground_truth": {"target": ["Ada Lovelace"]}}
extras = {"reward_spec": reward, "max_turns": 3}
env = skyrl_gym.make("search", env_config=config, extras=extras)
env.init([{"role": "user", "content": "Who wrote the first program?"}])
turns = [
    "<think>look</think><search> who wrote the first program </search>",
    "<search>nothing known</search>",
    "<answer>Ada Lovelace</answer>",
]
played = []
for said in turns:
    step = env.step(said)
    played.append({"observations": step["observations"], "reward": step["reward"],
                   "done": step["done"]})
print(json.dumps(played))
"""


def test_an_episode_of_skyrl_gym() -> None:
    python = oracle_python("skyrl_gym", "omegaconf")
    with Server(Bm25.of(DOCUMENTS), port=0) as server:
        words = [python, "-c", PLAY, server.url]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    first, second, last = json.loads(done.stdout)
    shown = (
        'Doc 1: "Ada Lovelace"\nAda Lovelace wrote the first program.\n'
        "Doc 2: The first steam engine pumped water.\n"
    )
    inside = json.dumps({"result": shown})
    message = {"role": "user", "content": f"\n<information>{inside}</information>\n"}
    assert first == {"observations": [message], "reward": 0, "done": False}
    empty = json.dumps({"result": ""})
    assert second["observations"][0]["content"] == f"\n<information>{empty}</information>\n"
    assert last == {"observations": [], "reward": 1.0, "done": True}
