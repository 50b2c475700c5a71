"""Runs under the oracles' Python: plays games by our adapter and by TextWorld alone.

Reads {"games": {name: path}} from standard input; its only argument names the JSON file that it
writes: for each game what both said, paid and ended with, and what our contract checks found.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

import textworld
from gymnasium.error import ResetNeeded

from foldgym.envs.household.names import called
from foldgym.envs.textworld import TextWorldGame
from foldgym.testing.contracts import check_env


def ours(path: str) -> dict[str, Any]:
    """The winning way, by our adapter."""
    env = TextWorldGame(path, expert=True)
    observation, info = env.reset(seed=1)
    said, commands = [[observation[0].text, 0.0, info["admissible"]]], list[str]()
    while True:
        action: Any = env.expert("optimal", random.Random(1))
        commands.append(json.loads(action.tool_calls[0].arguments)["command"])
        step = env.step(action)
        said.append([step.observation[0].text, step.reward, step.info["admissible"]])
        if step.terminated or step.truncated:
            break
    try:
        env.step("look")
        after = "a step"
    except ResetNeeded:
        after = "ResetNeeded"
    facts = env.measure()
    again = env.reset(seed=1)[0][0].text
    env.close()
    return {"said": said, "commands": commands, "facts": facts, "after": after, "again": again}


def theirs(path: str, commands: list[str]) -> list[Any]:
    """The same commands, by TextWorld alone; the score is the cumulative one."""
    env = textworld.start(path, textworld.EnvInfos(admissible_commands=True, score=True))
    if path.endswith(".tw-pddl"):
        names = called([each.id for each in env._entity_infos.values()])
        for each in env._entity_infos.values():
            each.name = names[each.id]
    state = env.reset()
    said = [[state.feedback, state.score or 0, state.admissible_commands]]
    for command in commands:
        state, score, _ = env.step(command)
        said.append([state.feedback, score, state.admissible_commands])
    env.close()
    return said


if __name__ == "__main__":
    where, words = sys.argv[1], list(sys.argv)
    found: dict[str, Any] = {}
    for name, path in json.load(sys.stdin)["games"].items():
        played = ours(path)
        assert sys.argv == words, "the command line was overwritten"
        findings = check_env(lambda path=path: TextWorldGame(path), seeds=(0,), hostile=60)
        found[name] = {
            **played,
            "theirs": theirs(path, played["commands"]),
            "findings": [str(each) for each in findings],
        }
    Path(where).write_text(json.dumps(found), encoding="utf-8")
