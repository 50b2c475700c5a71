"""`foldgym doctor` says what there is, and how to get what there is not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from foldgym.cli.doctor import examine
from foldgym.cli.main import main


def test_everything_missing_that_can_be_mended_says_how() -> None:
    findings = {finding.what: finding for finding in examine()}
    assert {"python", "torch", "transformers", "gymnasium", "docker", "GPU", "vllm"} <= set(
        findings
    )
    assert findings["python"].ok
    assert findings["gymnasium"].ok
    for finding in findings.values():
        assert finding.detail
        assert finding.ok or finding.mend or finding.what == "GPU"


def test_json_and_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert table["findings"][0]["what"] == "python"
    assert main(["doctor"]) == 0
    assert "bubblewrap" in capsys.readouterr().out


def test_missing_programs_are_named_with_the_command(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "foldgym", "doctor"],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": str(tmp_path)},
        check=False,
    )
    assert done.returncode == 0
    assert "docker: sudo apt-get install docker.io" in done.stdout
    assert "bubblewrap: sudo apt-get install bubblewrap" in done.stdout


def test_a_required_package_that_is_missing_is_exit_code_1(tmp_path: Path) -> None:
    """A bare interpreter sees only foldgym's source, so gymnasium is not installed for it."""
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-S", "-m", "foldgym", "doctor", "--json"],
        capture_output=True,
        text=True,
        cwd=root,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    found = {each["what"]: each for each in json.loads(done.stdout)["findings"]}
    assert found["gymnasium"]["mend"] == "pip install foldgym"
    assert found["torch"]["mend"] == "pip install 'foldgym[train]'"
