"""`foldgym swe make|check|grade`: tasks from real packages, whether they are sound, and patches."""

from __future__ import annotations

import argparse
from pathlib import Path
from time import monotonic
from typing import Any

from foldgym import console
from foldgym.cli.options import add_json, at_least, write_json
from foldgym.cli.swe_formats import add_formats
from foldgym.cli.swe_grade import add_grade, run_grade
from foldgym.errors import DataError, UserError

_TASKS = "tasks.jsonl"


def run_swe(parser: argparse.ArgumentParser, words: list[str]) -> int:
    """Dispatches to the subcommand."""
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, run: Any, what: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=what, description=what[0].upper() + what[1:] + ".")
        made.set_defaults(run=run)
        add_json(made)
        return made

    _add_make(command("make", _make, "make tasks from packages: plant faults that tests notice"))
    check = command("check", _check, "check tasks: gold resolves each, nothing and garbage none")
    check.add_argument("tasks", type=Path, help="a file of tasks (JSON lines)")
    check.add_argument("--logs", type=Path, help="a folder for each run's whole log, and to resume")
    check.add_argument("--limit", type=at_least(1), help="check only the first so many")
    check.add_argument("--guard", action="store_true", help="also with tests that must fail")
    check.add_argument("--quick", action="store_true", help="do not run the untouched project")
    _add_boxes(check)
    add_grade(command("grade", run_grade, "grade patches by the hidden tests, in fresh boxes"))
    add_formats(command)
    args = parser.parse_args(words)
    return args.run(args)


def _add_boxes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--backend", default="auto", help="which boxes (auto)")
    parser.add_argument("--workers", type=at_least(1), default=2, help="boxes at a time (2)")


def _add_make(make: argparse.ArgumentParser) -> None:
    make.add_argument(
        "packages",
        nargs="+",
        metavar="PACKAGE",
        help="a name for pip (toolz, toolz==1.0), an archive, or a folder with its tests",
    )
    make.add_argument("--out", type=Path, default=Path("swe-tasks"), help="folder (swe-tasks)")
    make.add_argument("--tasks", type=at_least(1), default=50, help="tasks of each package (50)")
    make.add_argument("--attempts", type=at_least(1), help="faults to try at most, of each package")
    make.add_argument("--faults", type=at_least(1), default=1, help="faults in each task (1)")
    make.add_argument("--runs", type=at_least(2), default=2, help="runs to find flaky tests (2)")
    make.add_argument("--operators", nargs="+", default=[], metavar="NAME", help="only these")
    make.add_argument("--seed", type=int, default=0, help="which faults, in which order (0)")
    make.add_argument("--image", default="", help="image or root folder that tests run in")
    make.add_argument("--recipe", help="or the recipe that makes it (python-tests)")
    make.add_argument(
        "--bare", action="store_true", help="neither: bare boxes; grading then needs pytest there"
    )
    _add_boxes(make)


def _recipe(args: argparse.Namespace) -> str:
    """The recipe that tests run in, unless there is an image, or nothing was wanted."""
    given = [
        flag
        for flag, value in (
            ("--image", args.image),
            ("--recipe", args.recipe),
            ("--bare", args.bare),
        )
        if value
    ]
    if len(given) > 1:
        raise UserError(f"{' and '.join(given)}: give one of them")
    return str(args.recipe or "") if given else "python-tests"


def _make(args: argparse.Namespace) -> int:
    from foldgym.envs.swe.making.faults import operators
    from foldgym.envs.swe.making.making import Made, Plan, make, merge
    from foldgym.envs.swe.making.sources import fetch, load
    from foldgym.envs.swe.making.suite import tools
    from foldgym.envs.swe.task import load_tasks, save_tasks
    from foldgym.errors import UnknownName

    for name in args.operators:
        if name not in operators():
            raise UnknownName("operator", name, operators())
    plan = Plan(
        wanted=args.tasks,
        seed=args.seed,
        workers=args.workers,
        faults=args.faults,
        attempts=args.attempts or 0,
        runs=args.runs,
        backend=args.backend,
        image=args.image,
        recipe=_recipe(args),
        names=tuple(args.operators),
    )
    out: Path = args.out
    made: list[Made] = []
    refused: list[tuple[str, str]] = []
    with console.progress(len(args.packages) * plan.wanted, "tasks") as advance:
        for package in args.packages:
            try:
                source = Path(package)
                if not source.exists():
                    source = fetch(package, out / "sources")
                one = make(load(source), plan, out, lambda: tools(out), advance)
            except DataError as problem:
                refused.append((package, str(problem)))
                console.note(f"refused: {package}: {problem}")
                continue
            made.append(one)
            file = out / _TASKS
            old = load_tasks(file) if file.exists() else ()
            whole = merge(old, {f"{one.project.name}/{one.project.name}": one.tasks})
            if whole:
                half = file.with_name(f".{_TASKS}")
                half.unlink(missing_ok=True)
                save_tasks(half, whole)
                half.replace(file)
    _show_made(args, made, refused)
    return int(not any(one.tasks for one in made))


def _show_made(args: argparse.Namespace, made: list[Any], refused: list[tuple[str, str]]) -> None:
    rows: list[dict[str, Any]] = [
        {
            "package": f"{one.project.name} {one.project.version}",
            "tests": len(one.base.stable),
            "flaky": len(one.base.flaky),
            "broken": len(one.base.broken),
            "sites": one.sites,
            "tried": len(one.trials),
            "tasks": len(one.tasks),
            "per hour": round(len(one.tasks) * 3600 / one.seconds) if one.seconds else 0,
            "refused": {why: n for why, n in one.verdicts.items() if why != "valid"},
        }
        for one in made
    ]
    sheet = {"packages": rows, "refused": dict(refused), "tasks": str(args.out / _TASKS)}
    if write_json(args.json, sheet):
        columns = tuple(rows[0]) if rows else ("package",)
        cells = [
            [*list(row.values())[:-1], "; ".join(f"{n} {why}" for why, n in row["refused"].items())]
            for row in rows
        ]
        console.table("", columns, cells)
        for package, why in refused:
            console.say(f"refused: {package}: {why}")
        if made:
            console.say(f"tasks: {args.out / _TASKS}")


def _check(args: argparse.Namespace) -> int:
    from foldgym.envs.swe.checking import Check, check_tasks
    from foldgym.envs.swe.task import load_tasks
    from foldgym.records import JsonlReader, JsonlWriter

    tasks = load_tasks(args.tasks)[: args.limit]
    journal: Path | None = args.logs / "checks.jsonl" if args.logs else None
    writer = JsonlWriter(journal) if journal else None
    done: dict[str, Check] = {}
    if journal:
        done = {check.task: check for check in map(Check.of, JsonlReader(journal))}
    began = monotonic()
    ran = 0
    try:
        with console.progress(len(tasks), "checked") as advance:
            advance(sum(task.id in done for task in tasks))

            def finished(check: Check) -> None:
                nonlocal ran
                ran += 1
                if writer:
                    writer.write(check.row())
                advance(1, "; ".join(check.problems))

            checks = check_tasks(
                tasks,
                args.backend,
                args.workers,
                args.logs,
                args.guard,
                args.quick,
                done,
                finished,
            )
    finally:
        if writer:
            writer.close()
    if not checks:
        raise UserError(f"{args.tasks} holds no task")
    return _show_checks(args, tasks, checks, ran, monotonic() - began)


def _show_checks(
    args: argparse.Namespace, tasks: Any, checks: list[Any], ran: int, seconds: float
) -> int:
    wrong = [check for check in checks if check.problems]
    sheet = {
        "tasks": len(checks),
        "sound": len(checks) - len(wrong),
        "checked now": ran,
        "seconds": round(seconds, 1),
        "checks": [check.row() for check in checks],
    }
    if write_json(args.json, sheet):
        groups: dict[str, list[Any]] = {}
        for task, check in zip(tasks, checks, strict=True):
            groups.setdefault(task.repo, []).append(check)
        console.table(
            "",
            ("repository", "tasks", "gold resolves", "nothing resolves", "garbage is an error"),
            [
                (
                    repo,
                    len(some),
                    sum(each.gold == "resolved" for each in some),
                    sum("resolved" in (each.nothing, each.untouched) for each in some),
                    sum(each.garbage == "invalid: patch" for each in some),
                )
                for repo, some in groups.items()
            ],
        )
        for check in wrong:
            console.say(f"{check.task}: {'; '.join(check.problems)}")
        console.say(f"{ran} tasks checked in {seconds:.0f} s")
    return int(bool(wrong))
