"""What CI promises: required tests are never skipped, and no file names a machine or a host."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOST = re.compile(
    r"https?://|\b(?:deb|pypi|registry|ghcr|quay)\.[a-z]|\bdocker\.(?:com|io/)|--(?:extra-)?index-url"
)
PLACE = re.compile(r"(?<![\w.$})])/(?:home|root|work|opt|mnt|srv|Users|data|tmp)\b")


@pytest.mark.parametrize("name", [".ci/run", "Makefile"])
def test_no_path_of_a_machine_and_no_host_of_a_registry(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert not HOST.findall(text)
    assert not PLACE.findall(text)


def test_the_patterns_see_what_they_are_for() -> None:
    for text in ("https://example.org/simple", "deb.example.org", "--index-url x", "ghcr.io/a"):
        assert HOST.search(text), text
    for text in ("ln -s /opt/wheels", "cd /work/main", "X=/home/me"):
        assert PLACE.search(text), text


def test_ci_runs_the_tests_and_requires_docker_a_browser_and_vllm() -> None:
    text = (ROOT / ".ci/run").read_text(encoding="utf-8")
    assert "FOLDGYM_REQUIRE=docker,browser,vllm make test" in text
    assert "make vllm &" in text
    assert text.index('wait "$vllm"') < text.index("make test")
    assert os.access(ROOT / ".ci/run", os.X_OK)
    subprocess.run(["bash", "-n", str(ROOT / ".ci/run")], check=True)


def run_marked(mark: str, require: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """One test that needs what this process cannot see: no engine, no browser."""
    (folder / "test_it.py").write_text(
        f"import pytest\n@pytest.mark.{mark}\ndef test_it(): assert True\n"
    )
    return run_tests(folder, require, "-rs")


def run_tests(folder: Path, require: str, *more: str) -> subprocess.CompletedProcess[str]:
    """The tests of a folder, by the rules of this suite."""
    places = [*filter(None, sys.path), *map(str, (ROOT, ROOT / "tests", ROOT / "tests/support"))]
    options = ["-c", os.devnull, "--rootdir", str(folder), "-p", "no:cacheprovider", *more]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, "-p", "conftest", str(folder)],
        capture_output=True,
        text=True,
        cwd=folder,
        env={
            "PATH": str(folder),
            "HOME": str(folder),
            "PYTHONPATH": os.pathsep.join(places),
            "DOCKER_HOST": f"unix://{folder}/no.sock",
            "FOLDGYM_REQUIRE": require,
            "COLUMNS": "1000",
        },
    )


@pytest.mark.parametrize(
    ("mark", "hint"),
    [
        ("docker", "apt-get install docker.io"),
        ("browser", "apt-get install chromium"),
    ],
)
def test_what_is_missing_skips_and_where_it_is_required_fails(
    mark: str, hint: str, tmp_path: Path
) -> None:
    skipped = run_marked(mark, "", tmp_path)
    assert skipped.returncode == 0, skipped.stdout + skipped.stderr
    assert "1 skipped" in skipped.stdout
    assert hint in skipped.stdout
    failed = run_marked(mark, f"gpu,{mark}", tmp_path)
    assert failed.returncode == 1
    assert f"FOLDGYM_REQUIRE names {mark}" in failed.stdout
    assert hint in failed.stdout


def test_a_requirement_that_nothing_answers_to_stops_the_tests(tmp_path: Path) -> None:
    done = run_marked("docker", "docker,brwoser", tmp_path)
    assert done.returncode == 4
    assert "FOLDGYM_REQUIRE names brwoser; known: docker, browser, vllm, gpu" in done.stderr


def test_modules_with_slow_tests_come_first_and_stay_together(tmp_path: Path) -> None:
    plain, slow = (
        "def test_it(): pass\n",
        "import pytest\n@pytest.mark.slow\ndef test_long(): pass\n",
    )
    for name, text in (
        ("a", plain),
        ("b", slow + plain),
        ("c", plain),
        ("d", slow.replace("slow", "vllm")),
    ):
        (tmp_path / f"test_{name}.py").write_text(text)
    said = run_tests(tmp_path, "", "--collect-only", "-q", "-W", "ignore").stdout
    found = [line for line in said.splitlines() if "::" in line]
    assert found == [
        "test_d.py::test_long",
        "test_b.py::test_long",
        "test_b.py::test_it",
        "test_a.py::test_it",
        "test_c.py::test_it",
    ]
