"""What an engine is: how it builds, and how it opens what it built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from typing import Any, Protocol

from foldgym.errors import UnknownName
from foldgym.search.base import Document, Index

ENGINES = {
    "bm25": "foldgym.search.bm25:ENGINE",
    "tantivy": "foldgym.search.tantivy:ENGINE",
    "dense": "foldgym.search.dense:ENGINE",
    "hybrid": "foldgym.search.hybrid:ENGINE",
}
"""Imported when first used; "module:attr" names an engine of your own."""


class Builder(Protocol):
    """The part of an engine that takes documents 0, 1, 2, ... and then writes its files.

    `version` says whose files they are; `finish` returns what opening them needs to know.
    """

    version: str

    def add(self, document: Document) -> None: ...  # noqa: D102
    def finish(self) -> dict[str, Any]: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Engine:
    """`build(folder, **options)` makes a `Builder`; `open(folder, documents, recorded, **options)`
    an `Index`, where `recorded` is what `Builder.finish` returned.
    """

    build: Callable[..., Builder]
    open: Callable[..., Index]


def called(make: Callable[..., Any], whose: str, options: dict[str, Any], *given: Any) -> Any:
    """Calls with the options. Raises `UnknownName` for one that `make` does not take."""
    known = list(signature(make).parameters)[len(given) :]
    for name in options:
        if name not in known:
            raise UnknownName(f"option of {whose}", name, known)
    return make(*given, **options)
