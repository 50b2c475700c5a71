"""Catalogues from the official files: which file is which, and their products one by one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from sys import intern
from typing import Any, cast

from foldgym.envs.shop.catalogue import MANIFEST, Catalogue, in_memory, open_index
from foldgym.envs.shop.products import Product, is_sold, product_of
from foldgym.envs.shop.streaming import read_array, read_object
from foldgym.errors import DataError

ITEMS, FACTS, HUMAN = "items_shuffle*.json", "items_ins_v2*.json", "items_human_ins.json"


@dataclass(frozen=True, slots=True)
class Files:
    """The official files; `facts` and `human` may be missing."""

    items: Path
    facts: Path | None = None
    human: Path | None = None


def find_files(path: Path) -> Files:
    """The official files of a folder, or those that lie beside an items file.

    In a folder that holds several sets (1,000 products and all), name the items file: the facts
    with the same ending go with it. Raises `DataError`.
    """
    folder = path.parent if path.is_file() else path
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder} with a catalogue")
    found = [path] if path.is_file() else sorted(folder.glob(ITEMS))
    if len(found) != 1:
        names = ", ".join(each.name for each in found) or "none"
        raise DataError(f"{folder} must hold one file {ITEMS}, or name one of them; found: {names}")
    ending = found[0].stem.removeprefix("items_shuffle")
    facts = folder / f"items_ins_v2{ending}.json"
    if not facts.is_file():
        others = sorted(folder.glob(FACTS))
        facts = others[0] if len(others) == 1 else None
    human = folder / HUMAN
    return Files(found[0], facts, human if human.is_file() else None)


def read_products(files: Files, limit: int | None = None) -> Iterator[Product]:
    """The products in the order of the file, of its first `limit` rows where that is given.

    Only the facts, the human instructions and one product at a time are in memory.
    """
    facts = _facts(files.facts)
    human = dict(read_object(files.human)) if files.human else {}
    seen: set[str] = set()
    for place, row in enumerate(islice(read_array(files.items), limit)):
        if not isinstance(row, Mapping) or "asin" not in row:
            raise DataError(f"{files.items}: entry {place} is no product with an asin")
        asin = cast("Mapping[str, Any]", row)["asin"]
        if not is_sold(asin) or asin in seen:
            continue
        seen.add(asin)
        try:
            yield product_of(cast("Mapping[str, Any]", row), facts.get(asin), human.get(asin, ()))
        except (TypeError, KeyError, AttributeError, ValueError) as problem:
            raise DataError(f"{files.items}: product {asin} cannot be read: {problem!r}") from None


def _facts(path: Path | None) -> dict[str, dict[str, Any]]:
    """What is known about each product; attributes repeat, so each is kept once."""
    found: dict[str, dict[str, Any]] = {}
    for asin, facts in read_object(path) if path else ():
        for name in ("attributes", "instruction_attributes"):
            if facts.get(name):
                facts[name] = tuple(intern(str(each)) for each in facts[name])
        found[asin] = facts
    return found


@lru_cache(maxsize=4)
def open_catalogue(path: Path, limit: int | None = None) -> Catalogue:
    """An index by its folder, or the official files, in memory; once in a process."""
    if (path / MANIFEST).is_file():
        if limit is not None:
            raise DataError(f"{path} is an index and has the products it was made of, no fewer")
        return open_index(path)
    return in_memory(read_products(find_files(path), limit))
