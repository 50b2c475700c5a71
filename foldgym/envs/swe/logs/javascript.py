"""Logs of JavaScript projects that each have a reading of their own (SWE-bench Multimodal).

Formats: SWE-bench 5.0.2, docs/swe_formats.md. Some list failures only: see `FAILURES_ONLY`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from foldgym.envs.swe.parsers import Status, Statuses

FAILURES_ONLY = frozenset({"bpmn_js", "chart_js", "eslint", "marked", "openlayers"})
"""A test that these do not name has passed, if the suite ran at all."""

_FILE_MARKS: dict[str, Status] = {"PASS": Status.PASSED, "FAIL": Status.FAILED}
_FILE_ENDS = (r"[\d.]+ms", r"[\d.]+\ss", r"[\d.]+s")
_ANSI = re.compile(r"\x1b(?:[@-Z\\-_]|\[[0-?]*[ -/]*[@-~])")
_TIME = re.compile(r"\(\d+ms\)")
_SPACE = re.compile(r"\s+")


def carbon(log: str) -> Statuses:
    """jest without `--verbose`: `PASS src/a.test.js (3.2s)`, one result a file."""
    found: Statuses = {}
    for line in log.split("\n"):
        head = re.match(r"(PASS|FAIL)\s(.*)", line)
        if head:
            timed = (re.match(rf"(.*)\s\({end}\)", head[2]) for end in _FILE_ENDS)
            first = next((match for match in timed if match), None)
            found[first[1] if first else head[2]] = _FILE_MARKS[head[1]]
    return found


def grommet(log: str) -> Statuses:
    """As `carbon`, but a file that has failed and passed has passed."""
    found: Statuses = {}
    for word in ("FAIL", "PASS"):
        for name in re.findall(rf"^{word}\s(.*)", log, re.M):
            found[re.sub(r"\s\([\d.]+\s?(?:ms|s)\)$", "", name.strip())] = _FILE_MARKS[word]
    return found


def marked(log: str) -> Statuses:
    """jasmine: `3) a name`, failures only."""
    return _failed(name.strip() for name in re.findall(r"^\d+\)\s(.*)", log, re.M))


def eslint(log: str) -> Statuses:
    """mocha's reporter `min`: `  2) a suite ... AssertionError`, failures only."""
    heads = re.findall(r"\s{2}\d+\)([\s\S]*?)\s+.*Error", log)
    return _failed(_SPACE.sub(" ", head).strip() for head in heads)


_BROWSERS = (
    r"2KPhantomJS\s[\d.]+\s\(Linux\s[\d.]+\)\s(.*)FAILED\n",
    r"2KPhantomJS\s[\d.]+\s\(Linux\sx86_64\)\s(.*)FAILED\n",
    r"Chrome\sHeadless\s.*\s\(Linux\sx86_64\)\s(.*)FAILED\n",
    r"HeadlessChrome\s[\d.]+\s\(Linux\s[\d.]+\)\s(.*)FAILED\n",
)


def bpmn_js(log: str) -> Statuses:
    """karma: the browser's name, the test's and `FAILED`, failures only."""
    return _failed(name for pattern in _BROWSERS for name in re.findall(pattern, log))


def chart_js(log: str) -> Statuses:
    """karma in Chrome, failures only; the blank before `FAILED` belongs to the name."""
    pattern = r"Chrome\s[\d.]+[^\S\r\n]\(.+?\)[^\S\r\n](.*)FAILED$"
    return _failed(re.findall(pattern, _ANSI.sub("", log), re.M))


_OPENLAYERS = (
    r"Chrome\sHeadless\s[\d.]+\s\(Linux\s[\d._\S]+\)\s(.*)\sFAILED\n",
    r"Chrome\s[\d.]+\s\(Linux\s[\d._\S]+\)\s(.*)FAILED\n",
    r"^\s{2}\d+\)([\s\S]*?)Error:",
    r"^case\s(.*):\smismatch",
)


def openlayers(log: str) -> Statuses:
    """karma, mocha and the rendering cases, failures only."""
    names = (name for pattern in _OPENLAYERS for name in re.findall(pattern, log, re.M))
    return _failed(_SPACE.sub(" ", name).strip() for name in names)


def highlightjs(log: str) -> Statuses:
    """mocha's reporter `spec`, up to its summary: `suite.test`, the nearest suite only."""
    found: Statuses = {}
    suite: list[str] = []
    for line in re.split(r"\n[ \t]*\d+ passing", log)[0].split("\n"):
        text = line.strip()
        if text.startswith(("✓", "✔")):
            found[_dotted(suite, line.split(text[0], 1)[1])] = Status.PASSED
        elif re.match(r"\d+\)", text):
            found[_dotted(suite, line.split(")", 1)[1])] = Status.FAILED
        elif line.startswith("  "):
            suite = [text]
    return found


def _dotted(suite: list[str], name: str) -> str:
    return ".".join([*suite, _TIME.sub("", name).strip()])


def prismjs(log: str) -> Statuses:
    """mocha's reporter `json` behind each of its commands. A cut report says nothing."""
    found: Statuses = {}
    for part in log.split("./node_modules/.bin/mocha tests/run.js --reporter json")[1:]:
        start, end = part.find("{"), part.rfind("}")
        try:
            report: Any = json.loads(part[start : end + 1])
            failed = [test["fullTitle"] for test in report["failures"]]
            passed = [test["fullTitle"] for test in report["passes"]]
        except (ValueError, KeyError, TypeError):
            continue
        found.update(_failed(failed))
        found.update(dict.fromkeys(passed, Status.PASSED))
    return found


def calypso(log: str) -> Statuses:
    """jest with `--verbose` behind each of its commands: `suite - inner suite - test`."""
    found: Statuses = {}
    suites: list[tuple[str, int]] = []
    for part in log.split(" ./node_modules/.bin/jest ")[1:]:
        for line in part.split("\n"):
            text = line.strip()
            indent = len(line) - len(line.lstrip())
            if line.startswith(("Test Suites", "  ● ")):
                break
            if text.startswith(("✓", "✕")):
                name = re.match(r"\s+[✓✕]\s(.*)", line)
                if name:
                    test = re.sub(r"\(\d+ms\)$", "", name[1])
                    path = " - ".join(suite for suite, _ in suites)
                    found[f"{path} - {test}".strip()] = (
                        Status.PASSED if text[0] == "✓" else Status.FAILED
                    )
            elif indent:
                while suites and suites[-1][1] >= indent:
                    suites.pop()
                suites.append((text, indent))
    return found


def _failed(names: Iterable[str]) -> Statuses:
    return dict.fromkeys(names, Status.FAILED)
