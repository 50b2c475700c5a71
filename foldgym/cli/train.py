"""`foldgym train` and `foldgym sft`: run files with overrides, progress, and what came of it."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from foldgym import console
from foldgym.cli.options import add_json, write_json
from foldgym.cli.processes import start
from foldgym.errors import MissingExtra, ProcessLost, UserError
from foldgym.types import Json

if TYPE_CHECKING:
    from foldgym.config import SftRun, TrainRun

RUN_FILE = "run.toml"
_RANK_0_FIRST = 10.0  # seconds


def run_train(parser: argparse.ArgumentParser, words: list[str]) -> int:
    """Trains a run file, or continues a run folder."""
    parser.usage = (
        "foldgym train RUN.toml [key=value ...] [--resume DIR] [--processes N] [--json [FILE]]"
    )
    parser.add_argument(
        "--resume",
        metavar="DIR",
        help="continue the run in DIR from its newest checkpoint; RUN.toml is then left out",
    )
    parser.add_argument(
        "--processes",
        type=int,
        metavar="N",
        help="shard the model over N processes of this machine (FSDP2); torchrun works too",
    )
    args, run_file, overrides = _read(parser, words)
    if args.processes is not None:
        return start(["train", *_without(words, "--processes")], args.processes)
    if not _follows():
        return _train(args, run_file, overrides)
    try:  # one of several processes, which says only what rank 0 cannot know
        return _train(args, run_file, overrides)
    except (KeyboardInterrupt, ProcessLost):
        return 1
    except UserError:  # most of them rank 0 has too, and then we are ended meanwhile
        time.sleep(_RANK_0_FIRST)
        raise


def _follows() -> bool:
    return os.environ.get("WORLD_SIZE", "1") != "1" and os.environ.get("RANK", "0") != "0"


def _train(args: argparse.Namespace, run_file: str | None, overrides: list[str]) -> int:
    if args.resume is None and run_file is None:
        raise UserError("no run file given: foldgym train RUN.toml, or --resume DIR")
    if args.resume is not None and run_file is not None:
        raise UserError(
            f"--resume {args.resume} continues with the run file in that folder; "
            f"leave {run_file} out"
        )
    from foldgym.config import TrainRun, load

    folder = Path(args.resume or "")
    if run_file is None and not (folder / RUN_FILE).is_file():
        raise UserError(f"--resume {folder}: there is no run in it (no {RUN_FILE})")
    run = load(TrainRun, run_file or folder / RUN_FILE, overrides)
    trainers = _trainers("foldgym.trainers.train", "foldgym train")
    crew = _trainers("foldgym.trainers.crew", "foldgym train")
    if _follows():
        if run_file is None:
            trainers.resume(folder, None, overrides)
        else:
            trainers.train(run)
        crew.leave()
        return 0
    with watching(run.train.steps, "training") as watch:
        if run_file is None:
            done = trainers.resume(folder, watch, overrides)
        else:
            done = trainers.train(run, watch)
    _report(args.json, done, trained=run)
    crew.leave()
    return 0


def run_sft(parser: argparse.ArgumentParser, words: list[str]) -> int:
    """Clones an expert's behaviour as a run file says."""
    parser.usage = "foldgym sft RUN.toml [key=value ...] [--json [FILE]]"
    args, run_file, overrides = _read(parser, words)
    if run_file is None:
        raise UserError("no run file given: foldgym sft RUN.toml")
    from foldgym.config import SftRun, load

    run = load(SftRun, run_file, overrides)
    trainers = _trainers("foldgym.trainers.sft", "foldgym sft")
    with watching(run.sft.steps, "cloning") as watch:
        trainers.sft(run, watch)
    _report(args.json, Path(run.output), trained=run)
    return 0


def _without(words: list[str], option: str) -> list[str]:
    """The words without an option and its value."""
    kept: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == option:
            next(rest, None)
        elif not word.startswith(f"{option}="):
            kept.append(word)
    return kept


def _read(
    parser: argparse.ArgumentParser, words: list[str]
) -> tuple[argparse.Namespace, str | None, list[str]]:
    """Options, the run file, and the overrides, in whatever order they stand."""
    add_json(parser)
    parser.add_argument("words", nargs="*", metavar="RUN.toml key=value")
    # flags may stand between overrides, which argparse would otherwise refuse
    args = parser.parse_intermixed_args(words)
    files = [word for word in args.words if "=" not in word]
    if len(files) > 1:
        raise UserError(f"one run file at a time, not {' and '.join(files)}")
    return args, files[0] if files else None, [word for word in args.words if "=" in word]


def _trainers(module: str, what: str) -> ModuleType:
    from importlib import import_module

    try:
        return import_module(module)
    except ModuleNotFoundError as problem:
        if (problem.name or "").startswith("foldgym"):
            raise
        raise MissingExtra(what, "train") from problem


@contextmanager
def watching(total: int, label: str) -> Generator[Callable[[int, int, str], None]]:
    """Progress of a run, as the trainers report it."""
    with console.progress(total, label) as advance:
        shown = 0

        def watch(step: int, steps: int, numbers: str) -> None:
            nonlocal shown
            advance(step - shown, numbers)
            shown = step

        yield watch


def _report(target: str | None, folder: Path, trained: TrainRun | SftRun) -> None:
    """The last numbers of the run, and where everything is."""
    from foldgym.records import JsonlReader

    last: dict[str, Json] = {}
    for line in JsonlReader(folder / "metrics.jsonl"):
        last = line
    picture = _curve(folder)
    policy = _newest(folder)
    found = {"folder": str(folder), "policy": str(policy), "curve": picture, "metrics": last}
    if not write_json(target, found):
        return
    rows = [(name, value) for name, value in last.items() if isinstance(value, (int, float))]
    console.table(f"last step of {folder}", ("metric", "value"), rows)
    console.say(f"policy: {policy}")
    if picture:
        console.say(f"curve: {picture}")
    env = trained.envs[0].name
    console.say(f"evaluate it: foldgym eval --policy {folder} --env {env}")


def _newest(folder: Path) -> Path:
    from foldgym.trainers.wiring import policy_folder

    return policy_folder(folder)


def _curve(folder: Path) -> str | None:
    from foldgym.errors import DataError
    from foldgym.trainers.plot import curve

    try:
        return str(curve(folder / "metrics.jsonl", folder / "curve.png"))
    except (MissingExtra, DataError) as problem:
        console.note(f"no curve: {problem}")
        return None
