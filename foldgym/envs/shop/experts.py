"""Scripted customers: one who knows the product, and one who reads what is on the pages."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping

from foldgym.envs.shop import pages
from foldgym.envs.shop.scoring import alike
from foldgym.envs.shop.session import Session

_LIMIT = re.compile(r", and price lower than ([\d.]+) dollars$")
_UNSEARCHABLE = str.maketrans("[]\n", "   ")


def knowing(session: Session) -> str:
    """The next action of a customer who knows which product the goal is about.

    Searches for its title, then, where fifty products are named alike, through all of its query.
    """
    goal, clickables = session.goal, session.clickables
    if session.page.name == "item_page" and session.asin == goal.asin:
        return _choose(session, _chosen(session)) or "click[buy now]"
    if goal.asin.lower() in clickables:
        return f"click[{goal.asin.lower()}]"
    if session.page.name == "search_results":
        found = session.catalogue.found(session.keywords, random.Random(0))
        if any(session.catalogue.shelf[number].asin == goal.asin for number in found):
            return "click[next >]"
        return f"search[<q> {goal.query}]"
    return f"search[{_searchable(goal.name)}]"


def _chosen(session: Session) -> list[str]:
    """The values of the goal's options that this product has."""
    given, offered = session.goal.options, dict(session.product.options)
    if isinstance(given, Mapping):
        return [value for name, value in given.items() if value in offered.get(name, ())]
    values = [value for values in offered.values() for value in values]
    found: list[str] = []
    for option in given:
        same = [value for value in values if value == option.lower()]
        near = [value for value in values if alike(value, option)]
        found += (same or near)[:1]
    return found


def reading(session: Session, rng: random.Random, care: float = 1.0) -> str:
    """The next action of a customer who only reads: searches for the instruction, opens the
    product on the first page that shares most words with it and is cheap enough, chooses the
    options it names, and buys.

    With probability 1 - `care` it opens any product, or buys without a look at the options.
    """
    said = session.goal.instruction
    limit = float(found[1]) if (found := _LIMIT.search(said)) else float("inf")
    words = _LIMIT.sub("", said)
    if session.page.name == "item_page":
        if rng.random() < care:
            named = [v for _, vs in session.product.options for v in _named(vs, words)]
            if action := _choose(session, named):
                return action
        return "click[buy now]"
    links = [at for at, node in enumerate(session.page.nodes) if node.kind == "link"]
    if not links:
        return f"search[{_searchable(words)}]"
    nodes = session.page.nodes
    if rng.random() >= care:
        best = rng.choice(links)
    else:
        wanted = set(words.lower().split())

        def fits(at: int) -> tuple[bool, int]:
            title, price = nodes[at + 1].text, nodes[at + 2].text
            cheap = float(price.split(" to ")[0].lstrip("$")) <= limit
            return cheap, len(wanted & set(title.lower().replace(",", " ").split()))

        best = max(links, key=fits)  # the first of equals, which the search ranks higher
    return f"click[{nodes[best].text.lower()}]"


def _named(values: tuple[str, ...], words: str) -> list[str]:
    """The longest of an option's values that the instruction has word for word."""
    found = [value for value in values if re.search(rf"\b{re.escape(value)}(?!\w)", words)]
    return sorted(found, key=len, reverse=True)[:1]


def _choose(session: Session, values: list[str]) -> str:
    """A click on the first value that is not chosen yet; empty if all are."""
    rest = [value for value in values if value not in session.options.values()]
    return f"click[{rest[0]}]" if rest and rest[0] in session.clickables else ""


def _searchable(text: str) -> str:
    """Words that an action can hold."""
    return " ".join(text.translate(_UNSEARCHABLE).lower().split()) or pages.SEARCH.lower()
