"""Harbor's own model of task.toml judges what we write."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from oracles import oracle_python

from foldgym.envs.swe.folders import FolderTask, read_harbor, write_harbor

pytestmark = pytest.mark.oracle

JUDGE = """
import json, sys
from pathlib import Path
from harbor.models.task.config import TaskConfig
from harbor.models.task.paths import TaskPaths
said = []
for folder in sys.argv[1:]:
    paths = TaskPaths(folder)
    config = TaskConfig.model_validate_toml(paths.config_path.read_text())
    said.append({
        "name": config.task.name,
        "agent": config.agent.timeout_sec,
        "verifier": config.verifier.timeout_sec,
        "env": config.verifier.env,
        "mode": config.verifier.environment_mode and config.verifier.environment_mode.value,
        "workdir": config.environment.workdir,
        "image": config.environment.docker_image,
        "test": paths.discovered_test_path is not None,
        "solve": paths.discovered_solve_path is not None,
        "again": json.loads(json.dumps(config.model_dump(mode="json", exclude_none=True))),
    })
json.dump(said, sys.stdout)
"""


def judged(*folders: Path) -> list[dict[str, Any]]:
    python = oracle_python("harbor")
    done = subprocess.run([python, "-c", JUDGE, *map(str, folders)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def test_harbor_reads_what_we_write(tmp_path: Path):
    task = FolderTask(
        "boltons-26.2.0__0a",
        "Mend it.",
        environment={"Dockerfile": b"FROM debian\n"},
        workdir="/testbed",
        tests={"test.sh": b"true"},
        solution={"solve.sh": b"true"},
        agent_seconds=12.5,
        test_seconds=90.0,
        variables={"WORD": 'quo"ted\\ \n é'},
        separate=True,
    )
    (said,) = judged(write_harbor(task, tmp_path / "a"))
    again = said.pop("again")
    assert said == {
        "name": "foldgym/boltons-26-2-0__0a",
        "agent": 12.5,
        "verifier": 90.0,
        "env": {"WORD": 'quo"ted\\ \n é'},
        "mode": "separate",
        "workdir": "/testbed",
        "image": None,
        "test": True,
        "solve": True,
    }
    assert again["environment"]["network_mode"] == "no-network"


def test_a_full_table_survives_reading_and_writing(tmp_path: Path):
    folder = tmp_path / "a"
    write_harbor(FolderTask("a/b", "x", image="debian", tests={"test.sh": b""}), folder)
    (folder / "task.toml").write_text(
        'schema_version = "1.4"\nartifacts = ["/logs/a.txt"]\n'
        '[task]\nname = "a/b"\nkeywords = ["k"]\n[[task.authors]]\nname = "Ada"\n'
        '[metadata]\ndifficulty = "hard"\nlevels = [1, 2.5]\n[metadata.deep]\nwhen = 2026-01-02\n'
        '[verifier]\nenvironment_mode = "shared"\n[agent]\nuser = "agent"\n'
        '[environment]\ndocker_image = "debian:12"\ncpus = 2\nmemory_mb = 512\n'
        '[environment.env]\nA = "1"\n[environment.healthcheck]\ncommand = "true"\n'
        '[[environment.mcp_servers]]\nname = "m"\nurl = "http://m/"\n[solution.env]\nB = "2"\n'
    )
    task = read_harbor(folder)
    assert task.image == "debian:12"
    before, after = judged(folder, write_harbor(task, tmp_path / "b"))
    assert before == after
