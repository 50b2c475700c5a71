"""Invented catalogues of any size, in the rows of the official files.

Everything follows from a seed and a product's number, so the first products of a large catalogue
are those of a small one.
"""

from __future__ import annotations

import json
import random
import string
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, get_args

from foldgym.envs.shop.catalogue import Catalogue, in_memory
from foldgym.envs.shop.products import Product, product_of
from foldgym.envs.shop.wares import (
    ADJECTIVES,
    ATTRIBUTES,
    DEPARTMENTS,
    SIZES,
    SYLLABLES,
    VALUES,
    Ware,
)
from foldgym.errors import DataError, UnknownName
from foldgym.seeding import generator
from foldgym.types import Json

Style = Literal["full", "terse"]
STYLES = get_args(Style)
_CODE = string.digits + string.ascii_uppercase


class Row(NamedTuple):
    """One product: its row of the items file, its entry of the facts, and its human wishes."""

    item: dict[str, Any]
    facts: dict[str, Any]
    wishes: list[dict[str, Any]]


def invent(count: int, seed: int = 0, style: Style = "full") -> Iterator[Row]:
    """So many rows. `terse` products have short titles, one attribute and at most one option."""
    if style not in STYLES:
        raise UnknownName("style", style, STYLES)
    for number in range(count):
        yield _row(generator(seed, "ware", number), number, style == "terse")


@lru_cache(maxsize=4)
def invented(count: int, seed: int = 0, style: Style = "full") -> Catalogue:
    """An invented catalogue in memory; made once in a process."""
    return in_memory(invented_products(count, seed, style))


def invented_products(count: int, seed: int = 0, style: Style = "full") -> Iterator[Product]:
    """The products of `invent`, read as the official files are."""
    for row in invent(count, seed, style):
        yield product_of(row.item, row.facts, row.wishes)


def write_catalogue(folder: Path, count: int, seed: int = 0, style: Style = "full") -> None:
    """The three official files in a folder; those that are there already stay (`DataError`)."""
    names = ("items_shuffle.json", "items_ins_v2.json", "items_human_ins.json")
    for name in names:
        if (folder / name).exists():
            raise DataError(f"{folder / name} exists; choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    items, facts, human = ((folder / name).open("w", encoding="utf-8") for name in names)
    with items, facts, human:
        marks = ["[\n", "{\n", "{\n"]

        def put(which: int, file: IO[str], text: str) -> None:
            file.write(marks[which] + text)
            marks[which] = ",\n"

        for row in invent(count, seed, style):
            name = json.dumps(row.item["asin"])
            put(0, items, json.dumps(row.item))
            put(1, facts, f"{name}: {json.dumps(row.facts)}")
            if row.wishes:
                put(2, human, f"{name}: {json.dumps(row.wishes)}")
        for which, (file, end) in enumerate(((items, "]"), (facts, "}"), (human, "}"))):
            start = "[{{"[which] if marks[which] != ",\n" else ""
            file.write(f"{start}\n{end}\n")


def _row(rng: random.Random, number: int, terse: bool) -> Row:
    category = rng.choice(list(DEPARTMENTS))
    ware = rng.choice(DEPARTMENTS[category])
    asin = _asin(number)
    brand = "".join(rng.choice(SYLLABLES) for _ in range(2)).capitalize()
    attributes = rng.sample(ATTRIBUTES[category], 1 if terse else rng.randint(2, 4))
    names = ware.options[:1] if terse else ware.options
    options = {name: _values(rng, name, category, terse) for name in names if rng.random() < 0.85}
    model = f"{rng.choice(string.ascii_uppercase)}{rng.randint(100, 999)}"
    adjective = rng.choice(ADJECTIVES)
    if terse:
        title = f"{brand} {attributes[0]} {ware.name}"
    else:
        title = f"{brand} {model} {adjective} {ware.name}, {attributes[0]}, {attributes[1]}"
    item = {
        "asin": asin,
        "name": title,
        "category": category,
        "query": ware.name,
        "product_category": ware.path,
        "full_description": "" if terse else _description(rng, brand, ware, attributes),
        "small_description": [] if terse else [_bullet(rng, each) for each in attributes],
        "pricing": _pricing(rng, ware, terse),
        "customization_options": {
            name: [{"value": value} for value in values] for name, values in options.items()
        },
        "images": [""],
    }
    wanted = attributes if terse else rng.sample(attributes, rng.randint(1, 2))
    facts: dict[str, Json] = {"attributes": attributes}
    if terse or rng.random() < 0.6:
        facts["instruction"] = _instruction(rng, ware, brand, wanted, terse)
        facts["instruction_attributes"] = wanted
    wishes: list[dict[str, Json]] = []
    if rng.random() < 0.4:
        chosen = {name: rng.choice(values) for name, values in options.items()}
        said = f"i would like a {ware.name} that is {' and '.join(wanted)}"
        said += f", in {' and '.join(chosen.values())}." if chosen else "."
        wish = {"asin": asin, "instruction": said, "instruction_attributes": wanted}
        wishes.append({**wish, "instruction_options": list(chosen.values()), "options": []})
    return Row(item, facts, wishes)


def _asin(number: int) -> str:
    """Ten letters and digits that look drawn; no two numbers below 36**7 share one."""
    mixed = (number * 26_040_609 + 11_316_396_929) % 36**7  # the factor shares no divisor with 36
    code = ""
    for _ in range(7):
        mixed, at = divmod(mixed, 36)
        code = _CODE[at] + code
    return f"B0{code}{_CODE[sum(map(ord, code)) % 36]}"


def _values(rng: random.Random, name: str, category: str, terse: bool) -> list[str]:
    pool = SIZES[category] if name == "size" else VALUES[name]
    count = min(len(pool), 5 if terse else rng.randint(2, 6))
    return rng.sample(pool, count)


def _pricing(rng: random.Random, ware: Ware, terse: bool) -> str:
    low, high = ware.prices
    price = rng.randint(low * 100, high * 100) / 100
    if terse or rng.random() < 0.8:
        return f"${price}"
    return f"${price}${round(price * rng.uniform(1.1, 1.6), 2)}"


def _description(rng: random.Random, brand: str, ware: Ware, attributes: list[str]) -> str:
    first = f"{brand} makes this {ware.name} for {rng.choice(('home', 'travel', 'every day'))}."
    return f"{first} It is {', '.join(attributes)}, {rng.choice(ADJECTIVES)} and reliable."


def _bullet(rng: random.Random, attribute: str) -> str:
    return f"{attribute.capitalize()}: {rng.choice(ADJECTIVES)} and {rng.choice(ADJECTIVES)}"


def _instruction(rng: random.Random, ware: Ware, brand: str, wanted: list[str], terse: bool) -> str:
    if terse:
        return f"{brand.lower()} {wanted[0]} {ware.name}"
    opening = rng.choice(("i am looking for", "i need", "find me", "i want to buy"))
    return f"{opening} a {' and '.join(wanted)} {ware.name} by {brand.lower()}"
