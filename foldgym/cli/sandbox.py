"""`foldgym sandbox list|reap|doctor`: the sandboxes of this machine."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from time import perf_counter
from typing import Any

from foldgym import console
from foldgym.cli.options import add_json, at_least, write_json
from foldgym.errors import FoldgymError


def run_sandbox(parser: argparse.ArgumentParser, words: list[str]) -> int:
    """Dispatches to the subcommand."""
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, run: Any, what: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=what, description=what[0].upper() + what[1:] + ".")
        made.set_defaults(run=run)
        add_json(made)
        return made

    command("list", _list, "show the boxes of this user, and whose they are")
    command("reap", _reap, "end the boxes whose run is gone, with all they left")
    doctor = command("doctor", _doctor, "start a box of every kind, and time it")
    doctor.add_argument("--commands", type=at_least(1), default=50, help="commands to time (50)")
    args = parser.parse_args(words)
    return args.run(args)


def _sheet(found: Any) -> dict[str, Any]:
    return {
        **asdict(found.label),
        "orphan": found.label.orphan,
        "folder": str(found.folder),
        "processes": sorted(found.processes),
    }


def _list(args: argparse.Namespace) -> int:
    from foldgym.containers import find

    found = find()
    if write_json(args.json, [_sheet(each) for each in found]):
        if not found:
            console.say("no boxes")
            return 0
        rows = [
            (
                each.label.id,
                each.label.backend,
                each.label.run,
                each.label.owner,
                "gone: reap it" if each.label.orphan else "lives",
                len(each.processes),
            )
            for each in found
        ]
        console.table("", ("box", "backend", "run", "process", "its run", "processes"), rows)
    return 0


def _reap(args: argparse.Namespace) -> int:
    from foldgym.containers import reap

    found = reap()
    if write_json(args.json, [_sheet(each) for each in found]):
        ended = sum(len(each.processes) for each in found)
        console.say(f"reaped {len(found)} boxes with {ended} processes")
    return 0


def _doctor(args: argparse.Namespace) -> int:
    from foldgym.containers import BACKENDS, available
    from foldgym.containers.process import WARNING

    sheet: list[dict[str, Any]] = []
    for backend in BACKENDS:
        why = available(backend)
        row: dict[str, Any] = {"backend": backend, "ok": not why, "detail": why}
        if not why:
            try:
                row |= _times(backend, args.commands)
            except FoldgymError as problem:
                row |= {"ok": False, "detail": str(problem)}
        if row["ok"] and backend == "process":
            row["detail"] = WARNING
        sheet.append(row)
    if write_json(args.json, sheet):
        console.table(
            "milliseconds",
            ("", "backend", "start", "command", "reset", "close", "found"),
            [
                [
                    "ok" if row["ok"] else "--",
                    row["backend"],
                    *(row.get(name) for name in ("start", "command", "reset", "close")),
                    row["detail"],
                ]
                for row in sheet
            ],
        )
    return int(not any(row["ok"] and row["backend"] != "process" for row in sheet))


def _times(backend: str, commands: int) -> dict[str, float]:
    """Milliseconds: to the first result, for each command (median), to a clean folder, to close."""
    from foldgym.containers import open_box

    began = perf_counter()
    with open_box(backend=backend) as box:
        box.exec("true")
        start = perf_counter() - began
        each: list[float] = []
        for _ in range(commands):
            began = perf_counter()
            box.exec("true")
            each.append(perf_counter() - began)
        began = perf_counter()
        box.restore(None)
        reset = perf_counter() - began
        began = perf_counter()
    close = perf_counter() - began
    middle = sorted(each)[len(each) // 2]
    named = {"start": start, "command": middle, "reset": reset, "close": close}
    return {name: round(seconds * 1000, 2) for name, seconds in named.items()}
