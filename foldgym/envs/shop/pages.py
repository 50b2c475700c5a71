"""WebShop's pages as what can be read and clicked on them, and the text observations made of it.

A page is a list of nodes in the order of its document. `text` and `text_rich` follow from them, as
BeautifulSoup would find them in the official pages: a node of white space alone is left out if it
holds a line break, and otherwise stays, as an empty part of the text.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from typing import Literal, NamedTuple

from foldgym.envs.shop.products import Product

SEPARATOR = " [SEP] "
SEARCH, BACK, PREVIOUS, NEXT, BUY = "Search", "Back to Search", "< Prev", "Next >", "Buy Now"
SUB_PAGES = ("Description", "Features", "Reviews", "Attributes")
WINDOW = 10
RATING = "N.A."

_BLANK = " \n\t\f\r"


class Node(NamedTuple):
    """One text of a page. `name` is the option that a label chooses a value of."""

    kind: Literal["text", "button", "label", "link"]
    text: str
    name: str = ""


_INSTRUCTION, _BACK = Node("text", "Instruction:"), Node("button", BACK)
_PREVIOUS, _NEXT = Node("button", PREVIOUS), Node("button", NEXT)


class Page(NamedTuple):
    """A page's address, its nodes, and whether it has a field to search in."""

    url: str
    nodes: tuple[Node, ...]
    has_search_bar: bool = False

    @property
    def name(self) -> str:
        """Which page an address leads to, by the first of these words in it, wherever it stands."""
        names = ("search_results", "item_page", "item_sub_page", "done")
        return next((name for name in names if name in self.url), "")


def clickables(page: Page) -> dict[str, Node]:
    """What can be clicked, by its words: buttons, then links to products, then options."""
    ranked: dict[str, Node] = {}
    for kind in ("button", "link", "label"):
        for node in page.nodes:
            if node.kind == kind:
                ranked[node.text if kind == "label" else node.text.lower()] = node
    return ranked


def text(page: Page) -> str:
    """The simple observation: every text, stripped, with separators."""
    return SEPARATOR.join(seen.strip() for node in page.nodes if (seen := _seen(node.text)))


def text_rich(page: Page, visited: Collection[str]) -> str:
    """The rich observation: a line for each text, with what can be clicked and what was.

    An option counts as chosen if it stands in quotes in the page's address; `visited` are the ids
    of products that were looked at.
    """
    chosen, lines = list[str](), list[str]()
    for node in page.nodes:
        seen = _seen(node.text)
        if not seen:
            continue
        button = "button"
        if node.kind == "label" and f'"{seen}"' in page.url:
            chosen.append(f"You have clicked {seen}.\n")
            button = "clicked button"
        elif node.kind == "link" and seen in visited:
            button = "clicked button"
        before = {"text": "", "button": "", "label": "  ", "link": "\n"}[node.kind]
        if node.kind != "text":
            seen = f"[{button}] {seen} [{button}_]"
        lines.append(f"{before}{seen}\n")
    return "".join(chosen[::-1]) + "".join(lines)


def _seen(given: str) -> str:
    """What a parser keeps of a text; nothing of white space with a line break in it."""
    if given and not given.strip(_BLANK):
        return "" if "\n" in given else " "
    return given


# ---------------------------------------------------------------- what is on them


def index_page(url: str, instruction: str) -> Page:
    """Where a session begins."""
    nodes = (Node("text", "WebShop"), Node("text", "Instruction: "), Node("text", instruction))
    return Page(url, (*nodes, Node("button", SEARCH)), has_search_bar=True)


def result(product: Product) -> tuple[Node, ...]:
    """What a page of results shows of a product."""
    texts = Node("text", product.title), Node("text", product.price_tag)
    return Node("link", product.asin), *texts


def results_page(
    url: str, instruction: str, page: int, total: int, results: Iterable[tuple[Node, ...]]
) -> Page:
    """Ten results at most. The next page is always offered, and is empty past the end."""
    nodes = [*_head(instruction), Node("text", f"Page {page} (Total results: {total})")]
    if page > 1:
        nodes.append(_PREVIOUS)
    nodes.append(_NEXT)
    for each in results:
        nodes += each
    return Page(url, tuple(nodes))


def item_page(url: str, instruction: str, product: Product, show_attrs: bool) -> Page:
    """A product with its options."""
    nodes = [*_head(instruction), _PREVIOUS]
    for name, values in product.options:
        nodes.append(Node("text", name))
        nodes += (Node("label", value, name) for value in values)
    nodes.append(Node("text", product.title))
    nodes.append(Node("text", f"Price: {product.price_tag}"))
    nodes.append(Node("text", f"Rating: {RATING}"))
    nodes += (Node("button", name) for name in SUB_PAGES[: 4 if show_attrs else 3])
    return Page(url, (*nodes, Node("button", BUY)))


def sub_page(url: str, instruction: str, product: Product, name: str) -> Page:
    """One of `SUB_PAGES`. Reviews are never loaded, so theirs is empty."""
    texts: dict[str, list[str]] = {
        "Description": [product.description],
        "Features": [f" {bullet}" for bullet in product.bullets],
        "Reviews": [],
        "Attributes": [
            *(f" {attribute}" for attribute in product.attributes),
            *(product.category, product.query, product.product_category),
        ],
    }
    shown = (Node("text", each) for each in texts[name])
    return Page(url, (*_head(instruction), _PREVIOUS, *shown))


def done_page(url: str, asin: str, options: Mapping[str, str], reward: float) -> Page:
    """The end. It holds the fields of the official page, most of which it never fills."""
    none = "None"
    texts = (
        *("Thank you for shopping with us!", "Your code: ", none),
        *(" (Paste it in your MTurk interface.)", "Purchased", "asin", asin),
        *("options", _for_page(options), "attrs", none, "category", none, "query", none),
        *("product category", none, "Target", "asin", "options", "attrs", "price upper"),
        *("instuction text", "category", "product category", "query", "Goal ", none, "Reward"),
        *("Your score (min 0.0, max 1.0)", str(reward), "Reward Details ", none),
    )
    return Page(url, tuple(Node("text", each) for each in texts))


def _head(instruction: str) -> tuple[Node, ...]:
    return _INSTRUCTION, Node("text", instruction), _BACK


def _for_page(options: Mapping[str, str]) -> str:
    """JSON as Flask writes it into a page: keys sorted, four signs escaped."""
    text = json.dumps(options, sort_keys=True)
    for sign in "<>&'":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text
