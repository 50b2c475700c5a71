"""The pages of an invented world as a corpus file, to be indexed on disk."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from foldgym.envs.qa.fictional_qa import settings_of
from foldgym.envs.qa.invented import KINDS, Entity, Invented
from foldgym.errors import DataError, UnknownName, UserError
from foldgym.search import Document
from foldgym.types import Json

_WHOLE = ("people", "filler", "distractors", "world")
_SHARES = ("aliases", "unanswerable", "disputed")
KNOWN = ("split", *_WHOLE, *_SHARES)


def world_of(settings: Mapping[str, Json]) -> Invented:
    """The shared world of a `FictionalQA` with these settings; `world` is 0 unless given.

    Raises `UserError` for a setting that is unknown or of the wrong kind.
    """
    for name, value in settings.items():
        if name not in KNOWN:
            raise UnknownName("setting of an invented world", name, KNOWN)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if name in _WHOLE and not (number and isinstance(value, int)):
            raise UserError(f"{name} is a whole number, not {value!r}")
        if name in _SHARES and not number:
            raise UserError(f"{name} is a share, from 0 to 1, not {value!r}")
    given = dict(settings)
    return Invented(int(given.pop("world", 0)), **settings_of(**given))


def write_corpus(
    world: Invented, path: str | Path, done: Callable[[int], None] = lambda entities: None
) -> int:
    """Writes every page as a line `{"id", "title", "text"}`; returns how many there are.

    The file is there whole or not at all. `done` is told of every entity whose pages are written.
    Raises `DataError` where it exists already or cannot be written.
    """
    target = Path(path)
    if target.exists():
        raise DataError(f"{target} exists already; choose another file or remove it")
    half = target.with_name(f".{os.getpid()}.{target.name}")
    pages = 0
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        packed = target.suffix == ".gz"
        with gzip.open(half, "wt", 3) if packed else half.open("w", encoding="utf-8") as file:
            for kind in KINDS:
                for index in range(world.count(kind)):
                    for page in world.about(Entity(kind, index)):
                        pages += 1
                        file.write(_line(page))
                    done(1)
            for page in world.notes():
                pages += 1
                file.write(_line(page))
        half.replace(target)
    except OSError as problem:
        raise DataError(f"cannot write {target}: {problem.strerror}") from None
    finally:
        half.unlink(missing_ok=True)
    return pages


def _line(page: Document) -> str:
    return json.dumps({"id": page.id, "title": page.title, "text": page.text}) + "\n"
