"""mini-swe-agent's own loop drives a box of ours to a submission that we grade."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from oracles import oracle_python

from foldgym.containers import available, open_box
from foldgym.envs.swe.grading import grade
from foldgym.envs.swe.mini_swe import MARK, BoxEnvironment, submitted
from foldgym.envs.swe.miniatures import miniatures
from foldgym.envs.swe.verdict import Grade

ROOT = Path(__file__).resolve().parents[4]
boxes = pytest.mark.skipif(bool(available("bubblewrap")), reason="needs bubblewrap")

DRIVER = """
import json, sys
from minisweagent.agents.default import DefaultAgent
from minisweagent.models.test_models import DeterministicModel, make_output
from foldgym.envs.swe.grading import start_tree
from foldgym.envs.swe.mini_swe import BoxEnvironment
from foldgym.envs.swe.miniatures import miniatures
from foldgym.envs.swe.places import Place
name, commands = json.loads(sys.stdin.read())
task = next(each for each in miniatures() if each.id == name)
with Place(task, "bubblewrap") as place:
    place.fill(start_tree(task))
    place.commit()
    model = DeterministicModel(outputs=[make_output("next", [{"command": c}]) for c in commands])
    agent = DefaultAgent(
        model, BoxEnvironment(place.box, cwd=place.root), system_template="You have {{cwd}}.",
        instance_template="{{task}}", cost_limit=0.0,
    )
    end = agent.run(task.problem_statement)
    print(json.dumps([end, agent.serialize()]))
"""


@pytest.mark.oracle
@boxes
def test_its_loop_ends_in_a_submission_that_we_grade():
    task = miniatures()[0]
    commands = [
        "ls; git log --oneline",
        "cat nowhere",
        f"cat > /tmp/fix.patch <<'EOF'\n{task.gold_patch}EOF\ngit apply /tmp/fix.patch",
        f"echo {MARK} && git add -A && git diff --cached",
    ]
    done = subprocess.run(
        [oracle_python("minisweagent", "gymnasium"), "-c", DRIVER],
        input=json.dumps([task.id, commands]),
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "MSWEA_SILENT_STARTUP": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    end, trajectory = json.loads(done.stdout)
    assert end["exit_status"] == "Submitted"
    assert trajectory["trajectory_format"] == "mini-swe-agent-1.1"
    assert trajectory["info"]["model_stats"]["api_calls"] == 4
    said = [message["content"] for message in trajectory["messages"]]
    assert "<returncode>1</returncode>" in said[5]  # the second command failed, and it was told
    verdict = grade(task, end["submission"], backend="bubblewrap")
    assert verdict.grade is Grade.RESOLVED
    assert grade(task, "", backend="bubblewrap").grade is Grade.UNRESOLVED


@boxes
def test_what_a_command_says():
    with open_box(backend="bubblewrap") as box:
        environment = BoxEnvironment(box, timeout=120, env={"A": "1"})
        assert environment.execute({"command": "echo $A; echo no >&2; exit 3"}) == {
            "output": "1\nno\n",
            "returncode": 3,
            "exception_info": "",
        }
        failed = environment.execute({"command": f"echo {MARK}; false"})
        assert failed["returncode"] == 1  # it did not succeed: no submission
        hasty = BoxEnvironment(box, timeout=0.5)
        late = hasty.execute({"command": "sleep 600"})
        assert late["returncode"] == -1
        assert "outlived its time" in late["exception_info"]
    assert environment.get_template_vars(x=1)["x"] == 1
    assert environment.serialize()["info"]["config"]["environment"]["timeout"] == 120


def test_submissions():
    assert submitted(f"\n{MARK}\ndiff\n") == "diff\n"
    assert submitted(f"{MARK}") == ""
    assert submitted(f"see {MARK}\n") is None
