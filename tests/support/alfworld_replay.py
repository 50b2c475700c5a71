"""Runs under the oracles' Python: what ALFWorld on TextWorld's engine says to a list of commands.

Reads {"games": [{"path", "commands"}, ...]} or {"scenes": [names]} from standard input; its only
argument names the JSON file that it writes.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any


def replay(path: str, commands: list[str]) -> dict[str, Any]:
    """The opening and every answer: [feedback, admissible commands, score, done]."""
    import textworld
    from alfworld.agents.environment.alfred_tw_env import AlfredDemangler
    from textworld.envs import PddlEnv

    started = time.process_time()
    env = AlfredDemangler(PddlEnv(textworld.EnvInfos(admissible_commands=True)), shuffle=False)
    env.load(path)
    state = env.reset()
    said: list[Any] = [[state.feedback, state["admissible_commands"], 0, bool(state["won"])]]
    loaded = time.process_time()
    for command in commands:
        state, score, done = env.step(command)
        said.append([state.feedback, state["admissible_commands"], score, bool(done)])
    ended = time.process_time()
    return {"said": said, "load_seconds": loaded - started, "step_seconds": ended - loaded}


def sources(scenes: list[str]) -> dict[str, Any]:
    """ALFWorld's own domain, grammar and tables, and the furniture of ALFRED's floor plans."""
    import alfworld.gen.constants as tables
    from alfworld.info import ALFRED_PDDL_PATH, ALFRED_TWL2_PATH

    layouts = Path(tables.__file__).parent / "layouts"
    plans: dict[str, Any] = {}
    for scene in scenes:
        plans[scene] = {
            part: json.loads((layouts / f"{scene}-{part}.json").read_text())
            for part in ("openable", "objects")
        }
    return {
        "domain": Path(ALFRED_PDDL_PATH).read_text(encoding="utf-8"),
        "grammar": Path(ALFRED_TWL2_PATH).read_text(encoding="utf-8"),
        "scenes": plans,
        "fits": {kind: sorted(held) for kind, held in tables.VAL_RECEPTACLE_OBJECTS.items()},
        "able": {name: sorted(kinds) for name, kinds in tables.VAL_ACTION_OBJECTS.items()},
        "openable": sorted(tables.OPENABLE_CLASS_LIST),
        "vessels": sorted(tables.MOVABLE_RECEPTACLES),
    }


if __name__ == "__main__":
    where = sys.argv[1]  # TextWorld's engine forgets the arguments
    asked = json.load(sys.stdin)
    if "scenes" in asked:
        answer: Any = sources(asked["scenes"])
    else:
        answer = [replay(each["path"], each["commands"]) for each in asked["games"]]
    Path(where).write_text(json.dumps(answer), encoding="utf-8")
