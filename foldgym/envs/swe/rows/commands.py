"""The test command of a row: out of its evaluation script, or by the rules of its repository."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from foldgym.envs.swe.guard import patch_paths

START, END = ">>>>> Start Test Output", ">>>>> End Test Output"
ACTIVATE = "source /opt/miniconda3/bin/activate && conda activate testbed"
"""How the images of SWE-bench and its relatives come to the project's Python."""
_HEREDOC = re.compile(r"<<-?\s*(['\"]?)(\w+)\1")
_DATA = (".json", ".png", "csv", ".txt", ".md", ".jpg", ".jpeg", ".pkl", ".yml", ".yaml", ".toml")
_NOT_OURS = re.compile(r"(git\s|set\s|#|:\s|echo\s+[\"']?>>>>>|\w+=\$\?|exit\b|trap\b|rm -rf -- )")


@dataclass(frozen=True, slots=True)
class Rule:
    """How a repository's tests are run and read. `{tests}` is for the test files of the patch."""

    command: str = "pytest -rA {tests}"
    parser: str = "parse_log_pytest"
    modules: bool = False  # whether tests are named as modules below `tests/`


_V2 = "parse_log_pytest_v2"
_OPTIONS = "parse_log_pytest_options"
REPOSITORIES: Mapping[str, Rule] = {
    "astropy/astropy": Rule("pytest -rA -vv -o console_output_style=classic --tb=no {tests}", _V2),
    "django/django": Rule(
        "./tests/runtests.py --verbosity 2 --settings=test_sqlite --parallel 1 {tests}",
        "parse_log_django",
        modules=True,
    ),
    "matplotlib/matplotlib": Rule(parser="parse_log_matplotlib"),
    "mwaskom/seaborn": Rule("pytest --no-header -rA {tests}", "parse_log_seaborn"),
    "psf/requests": Rule(parser=_OPTIONS),
    "pydicom/pydicom": Rule(parser=_OPTIONS),
    "pylint-dev/pylint": Rule(parser=_OPTIONS),
    "scikit-learn/scikit-learn": Rule(parser=_V2),
    "sphinx-doc/sphinx": Rule("tox --current-env -epy39 -v -- {tests}", _V2),
    "sympy/sympy": Rule(
        "PYTHONWARNINGS='ignore::UserWarning,ignore::SyntaxWarning' bin/test -C --verbose {tests}",
        "parse_log_sympy",
    ),
}
"""For rows without an evaluation script. The parsers are the swebench wheel's; the commands are
from memory and differ between versions of a project: give your own where they fail."""


def test_files(patch: str) -> list[str]:
    """The files that a test patch is about, less data files."""
    return [path for path in dict.fromkeys(patch_paths(patch)) if not path.endswith(_DATA)]


def by_rule(rule: Rule, patch: str, activate: str = ACTIVATE) -> str:
    """The command that runs the test files of a patch."""
    names: Iterable[str] = test_files(patch)
    if rule.modules:
        names = [
            name.removeprefix("tests/").removesuffix(".py").replace("/", ".") for name in names
        ]
    command = rule.command.replace("{tests}", shlex.join(names))
    return f"{activate} && {command}" if activate else command


def by_script(script: str) -> str:
    """What an evaluation script runs, less what puts the tests in place, which grading does.

    Kept are the commands between the markers, and of those before them all but git, here-documents
    and comments. Empty if there are no markers.
    """
    before, tests, now = list[str](), list[str](), "before"
    until = ""
    for line in script.split("\n"):
        if until:
            until = "" if line.strip() == until else until
            continue
        if START in line:
            now = "tests"
        elif END in line:
            now = "after"
        elif now == "before":
            here = _HEREDOC.search(line)
            if here:
                until = here[2]
            elif line.strip() and not _NOT_OURS.match(line.strip()):
                before.append(line.strip())
        elif now == "tests" and not _NOT_OURS.match(line.strip()):
            tests.append(line)
    command = "\n".join(tests).strip()
    return "\n".join([*before, command]) if command and now == "after" else ""
