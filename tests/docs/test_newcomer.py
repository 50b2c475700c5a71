"""A newcomer follows README from top to bottom: its files, its commands, nothing else."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
FILE = re.compile(r"^```(?:python|toml) (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHELL = re.compile(r"^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def foldgym(words: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "foldgym", *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


@pytest.mark.slow
def test_readme_leads_from_a_class_to_a_trained_and_evaluated_policy(tmp_path: Path) -> None:
    files = dict(FILE.findall(README))
    assert set(files) == {"high_card.py", "clone.toml", "run.toml"}
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    lines = [line for block in SHELL.findall(README) for line in block.splitlines()]
    commands = [line.split() for line in lines if line.startswith("foldgym ")]
    assert [words[1] for words in commands] == [
        *("envs", "envs", "envs", "sft", "train", "eval", "compare"),
    ]
    for words in commands:
        done = foldgym(words[1:], tmp_path)
        if words[1] == "compare":  # 1 says that the second policy is significantly worse
            assert done.returncode in (0, 1), done.stderr
        else:
            assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}\n{done.stderr}"
    text = (tmp_path / "runs/high_card/metrics.jsonl").read_text()
    steps = [json.loads(line) for line in text.splitlines()]
    assert len(steps) == 20
    gaps = [step["logprob_gap_max"] for step in steps if "logprob_gap_max" in step]
    assert gaps, "no step had anything to learn from"
    assert max(gaps) < 1e-4
    assert (tmp_path / "runs/high_card/curve.png").stat().st_size > 0
    report = foldgym(
        ["eval", "--policy", "expert:optimal", "--env", "high_card.py:HighCard", "--json"], tmp_path
    )
    assert json.loads(report.stdout)["envs"]["high_card.py:HighCard"]["success"]["mean"] == 1.0
