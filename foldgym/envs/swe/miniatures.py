"""Six small projects of our own, with faults and hidden tests, so that the world plays anywhere.

They need nothing but Python's standard library. Each project belongs to one split.
"""

from __future__ import annotations

from functools import cache
from textwrap import dedent

from foldgym.envs.swe.patches import write_patch
from foldgym.envs.swe.projects import PROJECTS, Fault, Project
from foldgym.envs.swe.task import SweTask
from foldgym.envs.swe.trees import Entry, Tree, compare


@cache
def miniatures() -> tuple[SweTask, ...]:
    """Every fault of every project as a task."""
    return tuple(_task(project, fault) for project in PROJECTS for fault in project.faults)


def _task(project: Project, fault: Fault) -> SweTask:
    good = dedent(project.source).lstrip()
    right, wrong = (each.replace("\n    ", "\n") for each in (fault.right, fault.wrong))
    if good.count(right) != 1:
        raise ValueError(f"{project.name}: {right!r} is {good.count(right)} times in the source")
    path = f"{project.name}/core.py"
    tests = dedent(project.tests).lstrip()
    module = f"tests.test_{project.name}"
    case = next(line for line in tests.splitlines() if line.startswith("class "))
    owner = case.removeprefix("class ").partition("(")[0]
    names = [
        line.strip().removeprefix("def ").partition("(")[0]
        for line in tests.splitlines()
        if line.strip().startswith("def test")
    ]
    before: Tree = {path: Entry(good.replace(right, wrong).encode())}
    after: Tree = {path: Entry(good.encode())}
    title = f"# {project.name}\n\n{project.about}\n\nTests: `python3 -m unittest`.\n"
    return SweTask(
        id=f"foldgym__{project.name}-{fault.name}",
        repo=f"foldgym/{project.name}",
        problem_statement=fault.statement,
        files={
            "README.md": title.encode(),
            f"{project.name}/__init__.py": b"",
            path: before[path].data,
        },
        test_command=f"python3 -m unittest -v {module}",
        tests={"tests/__init__.py": b"", f"tests/test_{project.name}.py": tests.encode()},
        fail_to_pass=tuple(f"{module}.{owner}.{each}" for each in names if each in fault.fails),
        pass_to_pass=tuple(f"{module}.{owner}.{each}" for each in names if each not in fault.fails),
        log_parser="unittest",
        gold_patch=write_patch(compare(before, after)),
        timeout=60.0,
        split=project.split,
        metadata={"source": "miniatures"},
    )
