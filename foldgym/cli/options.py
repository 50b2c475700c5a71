"""What several commands share: `--json`, `--set`, and how JSON is written."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from foldgym.errors import ConfigError, DataError
from foldgym.types import Json

STDOUT = "-"


def add_json(parser: argparse.ArgumentParser) -> None:
    """`--json [FILE]`: JSON instead of text, or beside it in a file."""
    parser.add_argument(
        "--json",
        nargs="?",
        const=STDOUT,
        metavar="FILE",
        help="write JSON to FILE; without FILE to stdout, instead of text",
    )


def add_set(parser: argparse.ArgumentParser) -> None:
    """`--set key=value`: keyword arguments of the environment."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an option of the environment, as in a run file: --set hops=[1,2]",
    )


def add_transform(parser: argparse.ArgumentParser) -> None:
    """`--transform NAME KEY=VALUE ...`: what makes the environment longer or harder."""
    parser.add_argument(
        "--transform",
        action="append",
        default=[],
        nargs="+",
        metavar=("NAME", "KEY=VALUE"),
        help="make the environment longer or harder, for example --transform objectives k=4; may "
        "be repeated, the first stands nearest to the environment (foldgym envs transforms)",
    )


def transforms(given: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    """The words after each `--transform`, as `registry.maker` takes them."""
    return [{"use": name, **settings(pairs, f"--transform {name}")} for name, *pairs in given]


def settings(pairs: Sequence[str], flag: str = "--set") -> dict[str, Any]:
    """`["size=5", "name=maze"]` to keyword arguments, values read as in a run file."""
    from foldgym.config import parse_value

    found: dict[str, Any] = {}
    for pair in pairs:
        key, equals, raw = pair.partition("=")
        if not equals or not key.strip().isidentifier():
            raise ConfigError(f"{flag} {pair!r}: write it as key=value, for example size=5")
        found[key.strip()] = parse_value(raw.strip())
    return found


def write_json(target: str | None, value: Json) -> bool:
    """Writes if asked to; returns whether text is still wanted. A file is there whole or not."""
    if target is None:
        return True
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    if target == STDOUT:
        sys.stdout.write(text)
        return False
    path = Path(target)
    if path.suffix in (".toml", ".py"):  # `--json run.toml`: surely not meant to be replaced
        raise DataError(f"--json {path}: not over a {path.suffix} file; put --json last")
    half = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        half.write_text(text, encoding="utf-8")
        half.replace(path)
    except OSError as problem:
        with contextlib.suppress(OSError):  # there may not even be a folder
            half.unlink(missing_ok=True)
        raise DataError(f"cannot write {path}: {problem.strerror}") from None
    return True


def at_least(least: int) -> Any:
    """An argparse type: a whole number from `least` on."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None
        if number < least:
            raise argparse.ArgumentTypeError(f"{number} is too small; at least {least}")
        return number

    return read


def temperature(text: str) -> float:
    """An argparse type: a finite number from 0 on."""
    try:
        number = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} must be 0 (greedy) or larger, and finite")
    return number
