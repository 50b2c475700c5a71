"""One customer in a shop: the protocol of WebShop, click by click.

    session = Session(catalogue, goal, "fixed_0")
    session.observation("text")                    # 'WebShop [SEP] Instruction: [SEP] ...'
    session.act("search[red mug]")                 # Outcome(reward=0.0, done=False, valid=True)
    session.act("click[b09lskqf8c]")

`search[...]` works on every page; `click[...]` works for what `clickables` lists; anything else
changes nothing. Buying pays the reward and ends the episode, after which the shop still answers.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from typing import Literal, NamedTuple, get_args
from urllib.parse import quote

from foldgym.envs.shop import pages
from foldgym.envs.shop.catalogue import Catalogue
from foldgym.envs.shop.goals import Goal, price_of
from foldgym.envs.shop.html import document
from foldgym.envs.shop.pages import Node, Page
from foldgym.envs.shop.products import Product
from foldgym.envs.shop.scoring import Score, Tagger, nouns, score
from foldgym.errors import UnknownName

Mode = Literal["text", "text_rich", "html", "url"]
BASE = "http://127.0.0.1:3000"
_ACTION = re.compile(r"(.+)\[(.+)\]")


class Outcome(NamedTuple):
    """What an action brought. `valid` is false for one that changed nothing."""

    reward: float = 0.0
    done: bool = False
    valid: bool = True


def parse(action: str) -> tuple[str, str]:
    """The name and the argument of an action, the latter in lower case; empty if there is none.

    >>> parse("click[Buy Now]"), parse("click me"), parse("search[a][b]")
    (('click', 'buy now'), ('click me', ''), ('search[a]', 'b'))
    """
    found = _ACTION.match(action)
    return (found[1], found[2].lower()) if found else (action, "")


def _path(*parts: str) -> str:
    return "/" + "/".join(quote(part, safe="") for part in parts)


class Session:
    """Where a customer is, what they chose and what they bought.

    Args:
        catalogue: what is sold, shared with everybody
        goal: what the customer is to buy
        name: the session's id, which is part of every address
        rng: for the products of the special search `<r>`, and nothing else
        price_seed: the seed of the goals, which also draws prices from ranges
        base: what every address begins with
    """

    __slots__ = (
        *("actions", "asin", "base", "bought", "catalogue", "goal", "keywords", "name", "number"),
        *("options", "page", "price_seed", "rng", "score", "show_attrs", "tagger", "visited"),
    )

    def __init__(
        self,
        catalogue: Catalogue,
        goal: Goal,
        name: str,
        rng: random.Random | None = None,
        price_seed: int = 0,
        show_attrs: bool = False,
        tagger: Tagger = nouns,
        base: str = BASE,
    ) -> None:
        self.catalogue, self.goal, self.name, self.base = catalogue, goal, name, base
        self.rng, self.price_seed = rng or random.Random(0), price_seed
        self.show_attrs, self.tagger = show_attrs, tagger
        self.score: Score | None = None
        self.bought = ""
        self.page: Page
        self.begin()

    def begin(self) -> None:
        """Go to the first page and forget all but the goal."""
        self.keywords: tuple[str, ...] = ()
        self.number, self.asin = 1, ""
        self.options: dict[str, str] = {}
        self.visited: set[str] = set()
        self.page = pages.index_page(f"{self.base}/{self.name}", self.goal.instruction)

    @property
    def clickables(self) -> dict[str, Node]:
        """What can be clicked, by its words; on the first page only `search`, which cannot."""
        return pages.clickables(self.page)

    def observation(self, mode: Mode) -> str:
        """The page in one of four modes. Raises `UnknownName` for another."""
        if mode == "text":
            return pages.text(self.page)
        if mode == "text_rich":
            return pages.text_rich(self.page, self.visited)
        if mode == "url":
            return self.page.url
        if mode != "html":
            raise UnknownName("observation", mode, get_args(Mode))
        return document(self.page, self.address, self.options)

    def act(self, action: str) -> Outcome:
        """Do what an action says."""
        name, argument = parse(action)
        if name == "search" and argument:
            self.search(argument)
            return Outcome()
        if name == "click" and argument != "search":
            node = self.clickables.get(argument)
            if node is not None:
                return self.click(argument, node)
        return Outcome(valid=False)

    def search(self, query: str) -> None:
        """Look for words, from any page."""
        self.keywords = tuple(query.split(" "))
        self.results(1)

    def results(self, number: int) -> None:
        """Go to a page of the results; what was chosen of a product is forgotten."""
        self.number, self.asin, self.options = number, "", {}
        found = self.catalogue.found(self.keywords, self.rng)
        start, end = (number - 1) * pages.WINDOW, number * pages.WINDOW
        shown = map(self.catalogue.result, found[start:end])
        url = f"{self.base}/search_results/{self.name}/{'+'.join(self.keywords)}/{number}"
        self.page = pages.results_page(url, self.goal.instruction, number, len(found), shown)

    def click(self, words: str, node: Node) -> Outcome:
        """Click on what `clickables` has under these words.

        The words decide first, and only then what they stand on: an option called "buy now" buys.
        """
        where = self.page.name
        if words == pages.BUY.lower():
            return self.buy()
        steps: dict[tuple[str, str], Callable[[], None]] = {
            (pages.NEXT.lower(), "search_results"): lambda: self.results(self.number + 1),
            (pages.PREVIOUS.lower(), "search_results"): lambda: self.results(self.number - 1),
            (pages.PREVIOUS.lower(), "item_page"): lambda: self.results(self.number),
            (pages.PREVIOUS.lower(), "item_sub_page"): self.item,
        }
        sub_pages = {name.lower(): name for name in pages.SUB_PAGES}
        if words == pages.BACK.lower():
            self.begin()
        elif step := steps.get((words, where)):
            step()
        elif words in sub_pages:
            self.sub_page(sub_pages[words])
        else:
            if node.kind == "link":
                self.asin = node.text
                self.visited.add(node.text)
            elif node.kind == "label":
                self.options[node.name.lower()] = words
            self.item()
        return Outcome()

    @property
    def product(self) -> Product:
        """The product whose page is open."""
        found = self.catalogue.find(self.asin)
        assert found is not None, f"no product {self.asin!r} is open"
        return found

    def _address(self, page: str) -> str:
        words = "+".join(self.keywords)
        return f"{self.base}/{page}/{self.name}/{self.asin}/{words}/{self.number}"

    def address(self, node: Node) -> str:
        """Where the web site has the page that a click on `node` leads to."""
        words, number, options = "+".join(self.keywords), str(self.number), self.options
        asin, where = self.asin, self.page.name
        if node.kind == "label":
            options = {**options, node.name.lower(): node.text}
        elif node.kind == "link":
            asin, options = node.text, {}
        chosen = json.dumps(options)
        item = ("item_page", self.name, asin, words, number, chosen)
        if node.kind in ("label", "link"):
            return _path(*item)
        if node.text == pages.BUY:
            return _path("done", self.name, asin, words, number, chosen)
        if node.text in pages.SUB_PAGES:
            return _path("item_sub_page", *item[1:5], node.text, chosen)
        if node.text == pages.PREVIOUS and where == "item_sub_page":
            return _path(*item)
        if node.text in (pages.PREVIOUS, pages.NEXT):
            step = (
                {pages.NEXT: 1, pages.PREVIOUS: -1}[node.text] if where == "search_results" else 0
            )
            return _path("search_results", self.name, words, str(self.number + step))
        return _path(self.name)

    def item(self) -> None:
        """Show the product that is open."""
        url = f"{self._address('item_page')}/{json.dumps(self.options)}"
        self.page = pages.item_page(url, self.goal.instruction, self.product, self.show_attrs)

    def sub_page(self, name: str) -> None:
        """Show one of `pages.SUB_PAGES` of the product that is open."""
        url = f"{self._address('item_sub_page')}/{name}/{self.options}"
        self.page = pages.sub_page(url, self.goal.instruction, self.product, name)

    def buy(self) -> Outcome:
        """Buy the product that is open, with the options chosen: the end of the episode."""
        product, self.bought = self.product, self.asin
        price = price_of(product, self.price_seed)
        self.score = score(product, self.goal, price, self.options, self.tagger)
        url = f"{self.base}/done/{self.name}/{self.asin}/{self.options}"
        self.page = pages.done_page(url, self.asin, self.options, self.score.reward)
        return Outcome(self.score.reward, True)
