"""Small catalogues for tests of the shop, and a parser that reads pages as BeautifulSoup does."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

from foldgym.envs.shop.catalogue import Catalogue, in_memory
from foldgym.envs.shop.goals import Goal
from foldgym.envs.shop.products import Product, product_of


def row(asin: str, name: str = "Red Mug", **more: Any) -> dict[str, Any]:
    """A row of an items file."""
    base = {
        "asin": asin,
        "name": name,
        "category": "garden",
        "query": "mugs",
        "product_category": "Home › Kitchen › Mugs",
        "full_description": "A mug for tea.",
        "small_description": ["Holds 12 ounces", "Dishwasher safe"],
        "pricing": "$12.9",
        "customization_options": {"Color": [{"value": "Red"}, {"value": "Blue"}]},
        "images": ["http://pictures/1.jpg"],
    }
    return {**base, **more}


def product(asin: str = "B000000001", name: str = "Red Mug", **more: Any) -> Product:
    facts = more.pop("facts", {"attributes": ["dishwasher safe"]})
    wishes = more.pop("wishes", ())
    return product_of(row(asin, name, **more), facts, wishes)


def mugs(count: int = 3) -> Catalogue:
    """Mugs that differ in their number."""
    return in_memory(product(f"B00000000{n}", f"Red Mug number{n}") for n in range(count))


def goal(**more: Any) -> Goal:
    base: dict[str, Any] = {
        "asin": "B000000001",
        "category": "garden",
        "query": "mugs",
        "name": "Red Mug",
        "product_category": "Home › Kitchen › Mugs",
        "instruction": "a red mug, and price lower than 30.00 dollars",
        "attributes": ("dishwasher safe",),
        "price_upper": 30.0,
        "options": {"color": "red"},
        "weight": 1.0,
    }
    return Goal(**{**base, **more})


class Parsed(HTMLParser):
    """Texts in order with the tag they stand in, and what can be clicked."""

    UNSEEN = frozenset(("style", "script", "head", "title", "meta"))
    EMPTY = frozenset(("meta", "link", "input", "br", "img", "hr"))

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=False)
        self.stack: list[tuple[str, dict[str, str | None]]] = [("[document]", {})]
        self.nodes: list[tuple[str, str]] = []
        self.buttons, self.links, self.options = list[str](), list[str](), list[str]()
        self.text = ""
        self.feed(html)
        self.close()

    def _flush(self) -> None:
        text, self.text = self.text, ""
        if text and not text.strip(" \n\t\f\r") and self.stack[-1][0] not in ("pre", "textarea"):
            text = "\n" if "\n" in text else " "
        tag, attributes = self.stack[-1]
        if not text or text == "\n" or tag in self.UNSEEN or tag == "[document]":
            return
        self.nodes.append((tag, text))
        classes = (attributes.get("class") or "").split()
        if "btn" in classes:
            self.buttons.append(text.lower())
        if "product-link" in classes:
            self.links.append(text.lower())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._flush()
        found = dict(attrs)
        if tag == "input" and found.get("type") == "radio":
            self.options.append(found.get("value") or "")
        if tag not in self.EMPTY:
            self.stack.append((tag, found))

    def handle_endtag(self, tag: str) -> None:
        self._flush()
        assert self.stack[-1][0] == tag, (self.stack, tag)
        self.stack.pop()

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_entityref(self, name: str) -> None:
        self.text += {"amp": "&", "lt": "<", "gt": ">", "quot": '"'}[name]

    def handle_charref(self, name: str) -> None:
        self.text += chr(int(name[1:], 16) if name[0] in "xX" else int(name))

    def clickables(self) -> list[str]:
        return list(dict.fromkeys([*self.buttons, *self.links, *self.options]))
