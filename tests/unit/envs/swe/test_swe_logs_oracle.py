"""Our log parsers against those of the swebench wheel, on logs made here and on thousands mixed."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path

import pytest
from oracles import oracle_python  # pyright: ignore[reportMissingImports]
from swe_logs import PYTEST, SAMPLES, pytest_log, unittest_log  # pyright: ignore[reportMissingImports]

from foldgym.envs.swe.logs import LOG_PARSERS, log_parser, parser_name
from foldgym.envs.swe.parsers import Status

pytestmark = pytest.mark.oracle

JUDGE = """
import json, sys, types
out, sys.stdout = sys.stdout, sys.stderr  # some of its parsers print
from swebench.harness.log_parsers import PARSER_REGISTRY
asked = json.load(sys.stdin)
if asked == "names":
    json.dump(sorted(PARSER_REGISTRY), out)
else:
    said = []
    for name, instance, log in asked:
        spec = types.SimpleNamespace(instance_id=instance, version="1")
        try:
            said.append(PARSER_REGISTRY[name](log, spec))
        except Exception as problem:
            said.append({"raised": type(problem).__name__})
    json.dump(said, out)
"""

ODD = [
    "ERROR: not found: a/b.py",
    "PASSEDx y",
    "FAILED",
    "PASSED  two  blanks",
    "\x1b[32mPASSED\x1b[0m a.py::colour",
    "a.py::old[x y] PASSED",
    "a.py::t PASSED [ 50%]",
    "SKIPPED [3] a.py:1: no",
    "PASSED [100%]",
    "FAILED a.py::t[x - y] - Boom - 1",
    "FAILED a.py::t - Boom",
    "XFAIL a.py::t",
    "PASSED a.py::t[/tmp/q]",
    "test_z (m.C) ... ",
    "ok",
    "  ✓ name  (2 ms)",
    "✕ name",
    "PASS a (1s) b (2ms)",
    "test_q E",
    "BUILD SUCCESS",
    "\ttest_tab\tok",
]


def judged(asked: object) -> list[dict[str, str]]:
    python = oracle_python("swebench")
    done = subprocess.run(
        [python, "-c", JUDGE], input=json.dumps(asked), capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def known(statuses: dict[str, str]) -> dict[str, str]:
    """Theirs keeps words such as `ERROR:` for a status, which count neither way in a grade."""
    return {name: status for name, status in statuses.items() if status in Status.__members__}


def agree(cases: list[tuple[str, str, str]]) -> int:
    for (name, instance, log), theirs in zip(cases, judged(cases), strict=True):
        if "raised" in theirs:  # theirs breaks where ours says nothing: on reports that are cut
            continue
        ours = log_parser(parser_name(name, instance))(log)
        assert dict(ours) == known(theirs), (name, log)
    return len(cases)


def mixed(count: int) -> list[str]:
    """Logs of lines of all formats, seeded."""
    stream = random.Random("swe logs")
    lines = [line for log, _ in SAMPLES.values() for line in log.split("\n")]
    lines += PYTEST.split("\n") + ODD
    return ["\n".join(stream.choices(lines, k=stream.randint(1, 60))) for _ in range(count)]


def test_every_name_is_read_or_listed_as_not():
    names = set(judged("names"))
    assert names - set(LOG_PARSERS) == {
        "parse_log_jekyll",  # by the task's id: parser_name
        "parse_log_immutable_js",
        "parse_log_lighthouse",  # one reading for each version of a browser's own test tool
        "parse_log_next",
        "parse_log_p5js",
        "parse_log_quarto_cli",
    }
    assert set(LOG_PARSERS) <= names


def test_samples_and_real_logs(tmp_path: Path):
    logs = [log for log, _ in SAMPLES.values()] + [PYTEST]
    for number, options in enumerate(([], ["-v"], ["-q"], ["--color=yes"], ["-v", "--tb=no"])):
        folder = tmp_path / str(number)
        folder.mkdir()
        logs.append(pytest_log(folder, *options))
    logs.append(unittest_log(tmp_path))
    assert agree([(name, "a__a-1", log) for name in LOG_PARSERS for log in logs]) > 2000


def test_mixed_logs():
    assert agree([(name, "a__a-1", log) for log in mixed(60) for name in LOG_PARSERS]) > 3000


def test_names_by_pull_request():
    logs = [SAMPLES["parse_log_minitest"][0], SAMPLES["parse_log_cucumber"][0], *mixed(5)]
    cases = [("parse_log_jekyll", f"j__j-{number}", log) for number in (9141, 8761) for log in logs]
    jest = SAMPLES["parse_log_jest"][0] + SAMPLES["parse_log_jest_json"][0]
    cases += [("parse_log_immutable_js", f"i__i-{number}", jest) for number in (2006, 2005)]
    assert agree(cases) == 16
