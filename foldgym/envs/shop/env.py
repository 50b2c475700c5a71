"""`foldgym/Shop-v0`: WebShop for agents, by two tools or by its own written actions."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal, cast, get_args

import numpy as np

from foldgym.envs.base import ToolEnv
from foldgym.envs.games import Split, check_split, split_of
from foldgym.envs.shop.catalogue import Catalogue
from foldgym.envs.shop.experts import knowing, reading
from foldgym.envs.shop.goals import Goals, Kind
from foldgym.envs.shop.invent import Style, invented
from foldgym.envs.shop.reading import open_catalogue
from foldgym.envs.shop.session import Mode, Session, parse
from foldgym.errors import UnknownName, UserError
from foldgym.tools import call, tool
from foldgym.types import Action, Json, Message, Step

Listing = Literal["info", "shown", "off"]
Splits = Literal["", "official", "product", "goal"]
OFFICIAL = {"test": (0, 500), "val": (500, 1500), "train": (1500, None)}
"""Places of the shuffled goals, as papers split them."""
MARK = "Action:"
HASTE = 0.5


class Shop(ToolEnv):
    """Find the product that a customer describes, choose its options, and buy it.

    `catalogue` is a folder of official files (or one of its items files, or an index of
    `foldgym shop index`); without it `products` products are invented from `catalogue_seed`.
    `goals` are synthetic or human, with prices from `price_seed`; every seed draws one of the
    `split`, or `reset(options={"goal": 3})` names the fourth. `splits="official"` takes goals 0 to
    499 for `test` and the next 1,000 for `val`; `"product"` keeps all goals of a product in one
    split (the default for invented catalogues), `"goal"` only one choice of options.

    An action is a call of a tool, or text such as `search[red mug]` and `click[buy now]`, alone or
    after the last `Action:`. Buying pays WebShop's reward and ends the episode; `limit` actions
    truncate it. `observation` is `text`, `text_rich`, `html` or `url`. What can be clicked is in
    the info, also shown below each observation, or off (`actions`).
    """

    experts = ("optimal", "reading", "hasty")
    option_names = ("goal",)
    shared = ("catalogue", "goals", "pool")

    def __init__(
        self,
        catalogue: str = "",
        products: int = 1000,
        catalogue_seed: int = 0,
        style: Style = "full",
        goals: Kind = "synthetic",
        price_seed: int = 0,
        observation: Mode = "text",
        actions: Listing = "info",
        limit: int = 15,
        show_attrs: bool = False,
        splits: Splits = "",
        split: Split = "train",
        *,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(render_mode=render_mode)
        check_split(split)
        for what, given, known in (
            ("kind of goals", goals, get_args(Kind)),
            ("observation", observation, get_args(Mode)),
            ("value of actions", actions, get_args(Listing)),
            ("value of splits", splits, get_args(Splits)),
        ):
            if given not in known:
                raise UnknownName(what, given, known)
        if limit < 1:
            raise UserError(f"limit must be at least 1, not {limit}")
        if catalogue and (products, catalogue_seed, style) != (1000, 0, "full"):
            raise UserError(
                "products, catalogue_seed and style have no effect on a given catalogue"
            )
        if not catalogue and products < 1:
            raise UserError(f"products must be at least 1, not {products}")
        self.catalogue: Catalogue = (
            open_catalogue(Path(catalogue).expanduser().resolve())
            if catalogue
            else invented(products, catalogue_seed, style)
        )
        self.goals: Goals = self.catalogue.goals(goals, price_seed)
        self.pool = _pool(self.catalogue, self.goals, splits or _usual(catalogue), split)
        if not len(self.pool):
            raise UserError(f"none of the {len(self.goals)} {goals} goals is in split {split!r}")
        self.mode: Mode = observation
        self.listing, self.show_attrs = actions, show_attrs
        self.limit = self.max_turns = limit

    def setup(self, rng: random.Random) -> str:
        """Draw a goal; the first observation is WebShop's first page."""
        place = self.options.get("goal")
        if place is None:
            place = int(self.pool[rng.randrange(len(self.pool))])
        elif not isinstance(place, int) or not 0 <= place < len(self.goals):
            raise UserError(f"goal must be from 0 to {len(self.goals) - 1}, not {place!r}")
        self.place = place
        self.session = Session(
            self.catalogue,
            self.goals[place],
            str(place),
            self.rng,
            self.goals.seed,
            self.show_attrs,
        )
        self.steps = self.idle = 0
        return self._shown_page()

    def _shown_page(self) -> str:
        seen = self.session.observation(self.mode)
        if self.listing != "shown":
            return seen
        return f"{seen}\n\nAvailable actions: {', '.join(self._available())}"

    def _available(self) -> Sequence[str]:
        clicks = [f"click[{words}]" for words in self.session.clickables if words != "search"]
        return ["search[words]", *clicks] if self.session.page.has_search_bar else clicks

    def act(self, action: str) -> str:
        """Do what a written action says; one that WebShop would ignore changes nothing."""
        self.steps += 1
        reward, done, valid = self.session.act(action)
        self.idle += not valid
        if done:
            self.finish(reward, bought=self.session.bought, **self._parts())
        return self._shown_page()

    def _parts(self) -> dict[str, Json]:
        return self.session.score.parts if self.session.score else {}

    @tool
    def search(self, query: str) -> str:
        """Search the shop, from any page.

        Args:
            query: words that describe the product
        """
        return self.act(f"search[{_line(query)}]")

    @tool
    def click(self, value: str) -> str:
        """Click on a product, an option or a button of the page.

        Args:
            value: its words, such as b09lskqf8c, red, next > or buy now
        """
        return self.act(f"click[{_line(value)}]")

    def respond(self, message: Message) -> str:
        """Plain text is a written action, or thoughts before one."""
        return self.act(message.text.rpartition(MARK)[2].strip())

    def grade(self) -> float:
        """Nothing was bought."""
        return 0.0

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Json] | None = None
    ) -> tuple[tuple[Message, ...], dict[str, Json]]:
        """As for every `ToolEnv`; the info also has what can be done, and the goal's place."""
        observation, info = super().reset(seed=seed, options=options)
        return observation, {**info, **self._info()}

    def step(self, action: Action) -> Step:
        """As for every `ToolEnv`; the info also has what can be done."""
        step = super().step(action)
        return step._replace(info={**step.info, **self._info()})

    def _info(self) -> dict[str, Json]:
        if self.listing == "off":
            return {}
        page = self.session.page
        clickables = list(self.session.clickables)
        return {"has_search_bar": page.has_search_bar, "clickables": clickables}

    def measure(self) -> dict[str, Json]:
        """Also the parts of the reward and what was `bought`, if anything, the `goal`'s place and
        product, `steps` (actions) and those that were `idle`.
        """
        facts = super().measure()
        if self._play is None:
            return facts
        goal: dict[str, Json] = {"goal": self.place, "goal_asin": self.session.goal.asin}
        return {**facts, **goal, "steps": self.steps, "idle": self.idle}

    def expert(self, style: str, rng: random.Random) -> Action:
        """The optimal player knows the product; the reading one only what pages say.

        The hasty one reads, too, but every other time opens any product, or buys at once.
        """
        if style not in self.experts:
            return super().expert(style, rng)
        if style == "optimal":
            action = knowing(self.session)
        else:
            action = reading(self.session, rng, 1.0 if style == "reading" else HASTE)
        name, argument = parse(action)
        if name == "search":
            return call("search", query=argument)
        return call("click", value=argument)


def _line(text: str) -> str:
    """An argument as one line, which is all that a written action can hold."""
    return " ".join(text.splitlines())


def _usual(catalogue: str) -> Splits:
    return "official" if catalogue else "product"


@lru_cache(maxsize=32)
def _pool(catalogue: Catalogue, goals: Goals, splits: Splits, split: Split) -> Sequence[int]:
    """Places of the goals of one split."""
    if splits == "official":
        first, last = OFFICIAL[split]
        return range(len(goals))[first:last]
    places = map(goals.at, range(len(goals)))
    if splits == "goal":
        asins = [product.asin for product in catalogue]
        mine = [split_of("shop", asins[number], which) == split for number, which in places]
        return cast("Sequence[int]", np.flatnonzero(mine))
    sold = np.array([split_of("shop", product.asin) == split for product in catalogue])
    return cast("Sequence[int]", np.flatnonzero(sold[[number for number, _ in places]]))
