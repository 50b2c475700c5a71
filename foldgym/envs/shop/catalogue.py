"""All that a shop sells: products by number and by id, their search engine, and goals.

A catalogue never changes, so all episodes of a process share one. `in_memory` holds it as objects;
`write_index` and `open_index` keep it in memory-mapped files, which all processes share and which
open at once whatever their size.
"""

from __future__ import annotations

import json
import random
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from foldgym.envs.shop.goals import Goal, Goals, Kind, combinations
from foldgym.envs.shop.pages import Node, result
from foldgym.envs.shop.products import Product, unpacked
from foldgym.errors import DataError
from foldgym.search.base import Document
from foldgym.search.bm25 import Bm25, Builder, PostingsBuilder, open_bm25
from foldgym.search.documents import OnDisk, Writer
from foldgym.search.keys import Table, mapped

FOUND = 50
"""Products that a search finds at most."""
REMEMBERED = 4096
"""Searches, and products as pages of results show them, that one catalogue remembers."""
MANIFEST = "shop.json"
FORMAT = 1


class Shelf(Protocol):
    """Products by number, and the number of an id (-1 for none)."""

    def __len__(self) -> int: ...
    def __getitem__(self, number: int, /) -> Product: ...
    def number(self, asin: str) -> int: ...  # noqa: D102


class Catalogue:
    """What is sold. `goals` of one kind and seed are made once and shared."""

    def __init__(self, shelf: Shelf, engine: Bm25, tables: dict[str, NDArray[Any]]) -> None:
        self.shelf, self._engine, self._tables = shelf, engine, tables
        self.search = lru_cache(REMEMBERED)(self._search)
        self.listed = lru_cache(256)(self._listed)
        self.goals = lru_cache(8)(self._goals)
        self.result = lru_cache(REMEMBERED)(self._result)

    def __len__(self) -> int:
        return len(self.shelf)

    def __iter__(self) -> Iterator[Product]:
        return (self.shelf[number] for number in range(len(self.shelf)))

    def __deepcopy__(self, memo: object) -> Catalogue:
        """Itself: copies of an episode share it."""
        return self

    def find(self, asin: str) -> Product | None:
        """The product of an id."""
        number = self.shelf.number(asin)
        return self.shelf[number] if number >= 0 else None

    def _search(self, words: str) -> tuple[int, ...]:
        return tuple(int(hit.id) for hit in self._engine.search([words], FOUND)[0])

    def found(self, keywords: Sequence[str], rng: random.Random) -> tuple[int, ...]:
        """Numbers of the products for keywords, best first; `rng` is for `<r>` alone.

        `<r>` asks for any 50 products, `<a>`, `<c>` and `<q>` for all of an attribute, a category
        or a query; anything else is searched for.
        """
        first, rest = keywords[0], keywords[1:]
        if first == "<r>":
            return tuple(rng.sample(range(len(self)), min(FOUND, len(self))))
        if first in ("<a>", "<q>"):
            return self.listed(first, " ".join(rest).strip())
        if first == "<c>":
            return self.listed(first, rest[0].strip() if rest else "")
        return self.search(" ".join(keywords))

    def _result(self, number: int) -> tuple[Node, ...]:
        return result(self.shelf[number])

    def _listed(self, field: str, value: str) -> tuple[int, ...]:
        def matches(product: Product) -> bool:
            if field == "<a>":
                return value in product.attributes
            return value == (product.category if field == "<c>" else product.query)

        return tuple(number for number, product in enumerate(self) if matches(product))

    def _goals(self, kind: Kind, seed: int) -> Goals:
        return self.pick(kind, seed)

    def pick(
        self,
        kind: Kind,
        seed: int,
        limit: int = -1,
        keep: Callable[[int, Goal], bool] | None = None,
    ) -> Goals:
        """Goals of one kind, of which only some are kept; see `Goals`."""
        counts, weights = self._tables[kind], self._tables["weights"]
        if kind == "human":
            weights = np.ones(len(counts))
        return Goals(kind, self.shelf.__getitem__, counts, weights, seed, limit, keep)


class _Tables:
    """Counts of goals by product, and the weights of synthetic ones, in one pass."""

    def __init__(self) -> None:
        self._synthetic, self._human = array("I"), array("I")
        self._goals = Counter[str]()
        self._wanted: list[tuple[str, ...]] = []

    def add(self, product: Product) -> None:
        count = combinations(product)
        self._synthetic.append(count)
        self._human.append(sum(bool(wish.attributes) for wish in product.wishes))
        self._wanted.append(product.wanted if count else ())
        for attribute in self._wanted[-1]:
            self._goals[attribute] += count

    def tables(self) -> dict[str, NDArray[Any]]:
        weights = array("d")
        for wanted in self._wanted:
            parts = [1.0 / self._goals[attribute] for attribute in wanted]
            weights.append(sum(parts) / len(parts) if parts else 0.0)
        return {
            "synthetic": np.asarray(self._synthetic, dtype=np.uint32),
            "human": np.asarray(self._human, dtype=np.uint32),
            "weights": np.asarray(weights, dtype=np.float64),
        }


# ---------------------------------------------------------------- in memory


class _List:
    """Products as objects."""

    def __init__(self, products: Sequence[Product]) -> None:
        self._products = products
        self._numbers = {product.asin: number for number, product in enumerate(products)}

    def __len__(self) -> int:
        return len(self._products)

    def __getitem__(self, number: int) -> Product:
        return self._products[number]

    def number(self, asin: str) -> int:
        return self._numbers.get(asin, -1)


class _Numbers:
    """Documents for the engine whose ids are their numbers: it never reads a product."""

    def __init__(self, size: int) -> None:
        self._size = size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, number: int) -> Document:
        return Document(str(number), "", "")

    def find(self, id: str) -> Document | None:
        return Document(id, "", "")

    def close(self) -> None:
        """Nothing to give back."""


def in_memory(products: Iterable[Product]) -> Catalogue:
    """A catalogue as objects. Raises `DataError` where there are no products."""
    shelf, builder, tables = list(products), PostingsBuilder(), _Tables()
    if not shelf:
        raise DataError("a shop needs at least one product")
    for product in shelf:
        builder.add(Document(product.asin, "", product.contents))
        tables.add(product)
    find = Table(builder.terms).find
    engine = Bm25(_Numbers(len(shelf)), builder.postings(), find)
    return Catalogue(_List(tuple(shelf)), engine, tables.tables())


# ---------------------------------------------------------------- on disk


class _Mapped:
    """Products in a memory-mapped file; the last ones read are kept as objects."""

    def __init__(self, folder: Path) -> None:
        self._rows = OnDisk(folder)
        self._read = lru_cache(1024)(self._unpacked)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, number: int) -> Product:
        return self._read(number)

    def _unpacked(self, number: int) -> Product:
        return unpacked(json.loads(self._rows[number].text))

    def number(self, asin: str) -> int:
        return self._rows.number(asin)


def write_index(folder: Path, products: Iterable[Product]) -> int:
    """Write a catalogue into a new folder; returns how many products it has."""
    try:
        folder.mkdir(parents=True, exist_ok=False)
    except OSError as problem:
        raise DataError(f"cannot make the folder {folder}: {problem.strerror}") from None
    rows, engine, tables = Writer(folder), Builder(folder), _Tables()
    for product in products:
        rows.add(Document(product.asin, "", json.dumps(product.packed())))
        engine.add(Document("", "", product.contents))
        tables.add(product)
    rows.finish()
    for name, table in tables.tables().items():
        np.save(folder / f"goals.{name}.npy", table)
    manifest = {"format": FORMAT, "products": len(rows), "engine": engine.finish()}
    (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    return len(rows)


def open_index(folder: Path) -> Catalogue:
    """What `write_index` wrote. Raises `DataError` for anything else, torn files included."""
    try:
        manifest: Any = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            raise ValueError(f"its format is {manifest['format']}, not {FORMAT}")
        names = ("synthetic", "human", "weights")
        tables = {name: mapped(folder / f"goals.{name}.npy") for name in names}
        shelf = _Mapped(folder)
        engine = open_bm25(folder, _Numbers(len(shelf)), manifest["engine"])
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise DataError(
            f"{folder} is no index of a shop, or it is torn ({problem}); write it anew"
        ) from None
    return Catalogue(shelf, engine, tables)
