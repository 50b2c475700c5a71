"""The adapter of reasoning-gym: without it, and judged by it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from oracles import oracle_python

import foldgym
from foldgym.envs.registry import specs
from foldgym.errors import MissingExtra

ROOT = Path(__file__).parents[3]
NAME = "foldgym/ReasoningGym-v0"


def test_without_the_package_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("reasoning_gym", "reasoning_gym.factory"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtra, match=r"pip install 'foldgym\[reasoning\]'"):
        foldgym.make(NAME)


def test_worlds_that_need_what_is_not_there_are_left_out() -> None:
    names = {each.name for each in specs()}
    ready = {each.name for each in specs(ready=True)}
    assert NAME in names
    assert {each.name for each in specs() if not each.needs} <= ready
    foldgym.register("test/Needy-v0", "no.such:World", needs="no_such_module", extra="x")
    assert "test/Needy-v0" in {each.name for each in specs()}
    assert "test/Needy-v0" not in {each.name for each in specs(ready=True)}


def judged(script: str) -> dict[str, object]:
    """What a script prints, in a Python that has reasoning-gym and imports our working tree."""
    python = oracle_python("reasoning_gym", "gymnasium", "pydantic")
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [python, "-W", "ignore", "-c", script], capture_output=True, text=True, env=env, timeout=280
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return json.loads(run.stdout.strip().splitlines()[-1])


SAME = """
import json, random
import reasoning_gym
import foldgym
from foldgym.errors import UserError
from foldgym.testing.contracts import check_env
from foldgym.types import Message

found = {}
for name, config in (("chain_sum", {"max_terms": 3}), ("countdown", {}), ("zebra_puzzles", {})):
    env = foldgym.make("foldgym/ReasoningGym-v0", dataset=name, config=config)
    same = right = wrong = 0
    for seed in range(6):
        prompt, _ = env.reset(seed=seed)
        number = env.task.metadata["number"]
        theirs = reasoning_gym.create_dataset(name, seed=number, size=1, **config)
        entry = theirs[0]
        same += prompt[0].text == entry["question"] and env.task.answer == [entry["answer"]]
        step = env.step(env.expert("optimal", random.Random(0)))
        right += step.terminated and step.reward == theirs.score_answer(entry["answer"], entry) == 1
        task = env.task
        env.reset(seed=99, options={"task": task})
        step = env.step("I think <answer>12</answer>, no: <answer> 13 </answer>")
        wrong += step.reward == theirs.score_answer("13", entry)
    found[name] = [same, right, wrong]

seen = {}
for split in ("train", "val", "test"):
    env = foldgym.make("foldgym/ReasoningGym-v0", dataset="chain_sum", split=split,
                       config={"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1})
    seen[split] = {env.reset(seed=seed)[0][0].text for seed in range(60)}
found["overlap"] = len(seen["train"] & seen["val"]) + len(seen["train"] & seen["test"])
found["questions"] = len(seen["train"])

def said(**kwargs):
    try:
        foldgym.make("foldgym/ReasoningGym-v0", **kwargs)
    except UserError as problem:
        return str(problem)

found["errors"] = [said(dataset="chain_sums"), said(config={"terms": 3}),
                   said(config={"min_terms": 9, "max_terms": 2})]
env = foldgym.make("foldgym/ReasoningGym-v0", dataset="prime_factorization")
env.reset(seed=0)
found["unreadable"] = env.step(Message("assistant", "xyz")).reward
env.reset(seed=0)
found["empty"] = env.step(Message("assistant", " ")).observation[0].text
env = foldgym.make("foldgym/ReasoningGym-v0", dataset="rush_hour")
env.reset(seed=0)
found["no expert"] = [list(env.experts), env.task.answer]
found["findings"] = [str(each) for each in check_env("foldgym/ReasoningGym-v0", hostile=100)]
objectives = [{"use": "objectives", "k": 3}]
env = foldgym.make("foldgym/ReasoningGym-v0", transforms=objectives)
env.reset(seed=1)
env.step(env.expert("optimal", random.Random(0)))
found["objectives"] = env.measure()["solved"]
env = foldgym.make("foldgym/ReasoningGym-v0", dataset="chain_sum", transforms=["canary"])
found["names"] = [tool.name for tool in env.tools]
print(json.dumps(found))
"""


@pytest.mark.oracle
def test_questions_answers_and_scores_are_reasoning_gyms() -> None:
    found = judged(SAME)
    for name in ("chain_sum", "countdown", "zebra_puzzles"):
        assert found[name] == [6, 6, 6], name
    assert found["overlap"] == 0
    assert int(str(found["questions"])) > 20
    unknown, option, order = found["errors"]  # type: ignore[misc]
    assert "did you mean 'chain_sum'" in unknown
    assert "does not take the config {'terms': 3}" in option
    assert "does not take the config {'min_terms': 9, 'max_terms': 2}" in order
    assert found["unreadable"] == 0.0
    assert found["empty"] == "error: the answer is empty."
    assert found["no expert"] == [[], None]
    assert found["findings"] == []
    assert found["objectives"] == 3
    assert found["names"] == ["answer", "list_files", "read_file", "write_file"]


KEYS = """
import json
import reasoning_gym
from reasoning_gym.factory import DATASETS

without = []
for name in sorted(set(DATASETS) - {"composite"}):
    data = reasoning_gym.create_dataset(name, seed=4242, size=1)
    entry = data[0]
    if data.score_answer(entry["answer"], entry) != 1.0:
        without.append(name)
print("\\n" + json.dumps({"without": without, "count": len(DATASETS)}))  # boxnet prints dots
"""


@pytest.mark.oracle
@pytest.mark.slow
def test_exactly_these_datasets_hold_no_answer() -> None:
    from foldgym.envs.reasoning import WITHOUT_KEY

    found = judged(KEYS)
    assert found["without"] == list(WITHOUT_KEY)
    assert found["count"] == 106
