"""`foldgym swe import|export`: software tasks from and to the data sets and folders of others."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from foldgym import console
from foldgym.cli.options import write_json
from foldgym.errors import DataError, UserError

KINDS = ("swe-bench", "harbor", "terminal-bench")
Command = Callable[[str, Callable[[argparse.Namespace], int], str], argparse.ArgumentParser]


def add_formats(command: Command) -> None:
    """The two subcommands."""
    read = command("import", _import, "read a data set or a task repository as tasks")
    read.add_argument("source", type=Path, help="JSON, JSON lines, Parquet, or a task repository")
    read.add_argument("--out", type=Path, required=True, help="the file of tasks to write")
    read.add_argument("--format", default="auto", help="the rows' format (auto: by its columns)")
    read.add_argument("--images", default="", help="name of a task's image, as registry/me/{id}")
    read.add_argument("--strict", action="store_true", help="stop at the first bad row")
    write = command("export", _export, "write tasks as folders that others play")
    write.add_argument("tasks", type=Path, help="a file of tasks (JSON lines)")
    write.add_argument("--to", choices=KINDS, required=True, help="whose folders")
    write.add_argument("--out", type=Path, required=True, help="an empty or new folder")
    write.add_argument("--base-image", default="", help="what the tasks' images start from")
    write.add_argument("--dataset", default="foldgym/tasks", help="owner/name (foldgym/tasks)")


def _import(args: argparse.Namespace) -> int:
    from foldgym.envs.swe.rows import read_dataset
    from foldgym.envs.swe.rows.repository import read_repository
    from foldgym.envs.swe.task import save_tasks

    if args.out.exists():
        raise DataError(f"{args.out} is there already: name a new file")
    problems: list[str] = []
    if args.source.is_dir():
        tasks = read_repository(args.source)
    else:
        found = read_dataset(args.source, args.format, images=args.images, strict=args.strict)
        tasks, problems = tuple(found.items), found.problems
    count = save_tasks(args.out, tasks)
    unprepared = sum(not task.tests for task in tasks)
    told = {"tasks": count, "without_tests": unprepared, "problems": problems}
    if write_json(args.json, told):
        for problem in problems:
            console.note(problem)
        console.say(f"{count} tasks in {args.out}; {len(problems)} rows could not be read")
        if unprepared:
            console.say(f"{unprepared} have hidden tests that only their image can tell")
    return 0


def _export(args: argparse.Namespace) -> int:
    from foldgym.envs.swe.folders import write_harbor, write_terminal_bench
    from foldgym.envs.swe.folders.export import folder_task
    from foldgym.envs.swe.folders.task import new_folder
    from foldgym.envs.swe.rows.repository import write_repository
    from foldgym.envs.swe.task import load_tasks

    tasks = load_tasks(args.tasks)
    if args.to == "swe-bench":
        write_repository(args.out, tasks, args.dataset, args.base_image)
    else:
        if not args.base_image:
            raise UserError("the folders' images need --base-image to start from")
        made = [folder_task(task, args.base_image, args.to) for task in tasks]
        write = write_harbor if args.to == "harbor" else write_terminal_bench
        root = new_folder(args.out)
        for task in made:
            write(task, root / task.name)
    if write_json(args.json, {"tasks": len(tasks), "folder": str(args.out)}):
        console.say(f"{len(tasks)} tasks in {args.out}")
    return 0
