"""A product as the shop sells it, made of what the official files say about it.

The rules are those of WebShop's loader, hazards included: ids "nan" or longer than ten letters and
repeated ones are left out, options without values are dropped, a product without a price costs 100.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from decimal import Decimal, InvalidOperation
from sys import intern
from typing import Any, cast

from foldgym.types import Json

LONGEST_ASIN = 10
NO_ATTRIBUTES = ("DUMMY_ATTR",)
"""What a product has that no attribute file knows."""
NO_PRICE = 100.0


@dataclass(frozen=True, slots=True)
class Wish:
    """One human instruction: `Wish("i want a red mug.", ("dishwasher safe",), ("red",))`."""

    instruction: str
    attributes: tuple[str, ...]
    options: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Product:
    """`prices` is one number, or the two ends of a range. `options`: names with their values.

    `instruction` is that of the synthetic goals, None where there are none; `wishes` are human.
    """

    asin: str
    title: str
    description: str
    bullets: tuple[str, ...]
    category: str
    query: str
    product_category: str
    prices: tuple[float, ...]
    options: tuple[tuple[str, tuple[str, ...]], ...]
    attributes: tuple[str, ...]
    image: str = ""
    instruction: str | None = None
    wanted: tuple[str, ...] = ()
    wishes: tuple[Wish, ...] = ()

    @property
    def price_tag(self) -> str:
        """`$12.9`, or `$1.0 to $2.5`."""
        return " to ".join(f"${price}" for price in self.prices)

    @property
    def contents(self) -> str:
        """What the search engine indexes."""
        options = ", and ".join(f"{name}: {', '.join(values)}" for name, values in self.options)
        first = self.bullets[0] if self.bullets else ""
        return " ".join((self.title, self.description, first, options)).lower()

    def packed(self) -> Json:
        """A list that `unpacked` makes a product of again."""
        return list(asdict(self).values())


def unpacked(row: Sequence[Any]) -> Product:
    """The product of a row that `Product.packed` made, by way of JSON or not."""
    found = dict(zip((each.name for each in fields(Product)), row, strict=True))
    for name in ("bullets", "prices", "attributes", "wanted"):
        found[name] = tuple(found[name])
    found["options"] = tuple((name, tuple(values)) for name, values in found["options"])
    found["wishes"] = tuple(
        Wish(wish["instruction"], tuple(wish["attributes"]), tuple(wish["options"]))
        for wish in found["wishes"]
    )
    return Product(**found)


def is_sold(asin: object) -> bool:
    """Whether the official loader takes a product of this id."""
    return isinstance(asin, str) and asin != "nan" and len(asin) <= LONGEST_ASIN


def product_of(
    row: Mapping[str, Any], facts: Mapping[str, Any] | None, wishes: Sequence[Mapping[str, Any]]
) -> Product:
    """From a row of `items_shuffle.json`, its entry of `items_ins_v2.json`, and its human ones."""
    facts = facts or {}
    bullets: Any = row.get("small_description")
    images: Any = row.get("images") or [""]
    instruction = facts.get("instruction")
    return Product(
        asin=row["asin"],
        title=_text(row.get("name")),
        description=_text(row.get("full_description")),
        bullets=tuple(
            map(_text, cast("list[Any]", bullets if isinstance(bullets, list) else [bullets]))
        ),
        category=intern(_text(row.get("category"))),
        query=intern(_text(row.get("query")).lower().strip()),
        product_category=intern(_text(row.get("product_category"))),
        prices=_prices(row.get("pricing")),
        options=_options(row.get("customization_options")),
        attributes=_texts(facts["attributes"]) if "attributes" in facts else NO_ATTRIBUTES,
        image=_text(images[0]),
        instruction=None if instruction is None else str(instruction),
        wanted=_texts(facts.get("instruction_attributes")),
        wishes=tuple(
            Wish(
                _text(wish.get("instruction")),
                _texts(wish.get("instruction_attributes")),
                _texts(wish.get("instruction_options")),
            )
            for wish in wishes
        ),
    )


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _texts(values: Any) -> tuple[str, ...]:
    return tuple(intern(str(value)) for value in values or ())


def _prices(pricing: Any) -> tuple[float, ...]:
    """What follows each dollar sign, digits and dots alone; the first two of them."""
    found: list[float] = []
    for part in str(pricing or "").split("$")[1:]:
        try:
            found.append(float(Decimal(re.sub(r"[^\d.]", "", part))))
        except InvalidOperation:
            continue
    return tuple(found[:2]) or (NO_PRICE,)


def _options(given: Any) -> tuple[tuple[str, tuple[str, ...]], ...]:
    found: dict[str, tuple[str, ...]] = {}
    for name, values in dict(given or {}).items():
        if values is not None:
            said = (str(each["value"]) for each in values)
            found[name.lower()] = tuple(
                intern(value.strip().replace("/", " | ").lower()) for value in said
            )
    return tuple(found.items())
