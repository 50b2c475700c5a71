"""Goals: what a customer wants, in words, attributes, options and a limit on the price.

A goal is made when it is asked for; kept are only its product and which of the product's goals it
is. Their order is WebShop's: built in the order of the products, then shuffled by
`random.seed(233)`, so it depends on how many there are. The limits on the price, which WebShop
draws without a seed, are drawn here from a seed, the product's id and the goal.
"""

from __future__ import annotations

import random
from bisect import bisect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from math import prod
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from foldgym.envs.shop.products import Product
from foldgym.seeding import generator

Kind = Literal["synthetic", "human"]
SHUFFLE = 233
NO_LIMIT = 1000000
LIMITS = tuple(10.0 * step for step in range(1, 100))
NEXT = 4
"""A limit is the larger of two among so many round sums above the price."""


@dataclass(frozen=True, slots=True)
class Goal:
    """`options` has names for synthetic goals and is a plain sequence for human ones."""

    asin: str
    category: str
    query: str
    name: str
    product_category: str
    instruction: str
    attributes: tuple[str, ...]
    price_upper: float
    options: Mapping[str, str] | tuple[str, ...]
    weight: float


def combinations(product: Product) -> int:
    """How many synthetic goals a product has: one for each choice of its options."""
    if product.instruction is None or not product.wanted:
        return 0
    return prod(len(values) for _, values in product.options)


def price_of(product: Product, seed: int) -> float:
    """The price that counts: the only one, or one drawn from the range."""
    if len(product.prices) == 1:
        return product.prices[0]
    return generator(seed, "price", product.asin).uniform(*product.prices)


def limit_of(product: Product, seed: int, number: int = 0) -> tuple[float, str]:
    """The price's limit and the words for it; `number` counts a product's human goals."""
    price = price_of(product, seed)
    above = [limit for limit in LIMITS if limit > price][:NEXT]
    if len(above) < 2:
        return NO_LIMIT, ""
    limit = max(generator(seed, "limit", product.asin, number).sample(above, 2))
    return limit, f", and price lower than {limit:.2f} dollars"


def synthetic(product: Product, number: int, seed: int, weight: float) -> Goal:
    """The goal of one choice of options; names in order of the alphabet, the last one fastest."""
    names = sorted(product.options)
    chosen: dict[str, str] = {}
    for name, values in reversed(names):
        number, at = divmod(number, len(values))
        chosen[name] = values[at]
    chosen = {name: chosen[name] for name, _ in names}
    upper, limit = limit_of(product, seed)
    said = ", and ".join(f"{name}: {value}" for name, value in chosen.items())
    text = f"{product.instruction}{' with ' + said if said else ''}{limit}"
    return _goal(product, text, product.wanted, upper, chosen, weight)


def human(product: Product, number: int, seed: int) -> Goal:
    """The goal of one of the product's wishes that name an attribute."""
    wish = [wish for wish in product.wishes if wish.attributes][number]
    upper, limit = limit_of(product, seed, number)
    text = wish.instruction.strip(".") + limit
    return _goal(product, text, wish.attributes, upper, wish.options, 1.0)


def _goal(
    product: Product,
    text: str,
    attributes: tuple[str, ...],
    upper: float,
    options: Mapping[str, str] | tuple[str, ...],
    weight: float,
) -> Goal:
    return Goal(
        product.asin,
        product.category,
        product.query,
        product.title,
        product.product_category,
        text,
        attributes,
        upper,
        options,
        weight,
    )


class Goals(Sequence[Goal]):
    """All goals of one kind, shuffled.

    Args:
        product: the product of a number
        counts: [P] how many goals each product has
        weights: [P] the weight of each product's goals, for drawing at random
        seed: decides prices and limits
        limit: keep only so many goals, drawn by weight as WebShop does
        keep: which of the shuffled goals to keep, by their place and themselves
    """

    def __init__(
        self,
        kind: Kind,
        product: Callable[[int], Product],
        counts: NDArray[np.uint32],
        weights: NDArray[np.float64],
        seed: int = 0,
        limit: int = -1,
        keep: Callable[[int, Goal], bool] | None = None,
    ) -> None:
        self.kind, self._product, self._weights, self.seed = kind, product, weights, seed
        self._starts = np.concatenate(([0], np.cumsum(counts, dtype=np.int64)))
        order = list(range(int(self._starts[-1])))
        rng = random.Random(SHUFFLE)
        rng.shuffle(order)
        self._order = np.asarray(order, dtype=np.uint32)
        if keep is not None:
            kept = [n for n, goal in enumerate(self) if keep(n, goal)]
            self._order = self._order[kept]
        if limit != -1 and limit < len(self):
            found: dict[int, None] = {}
            while len(found) < limit:
                found[self.draw(rng)] = None
            self._order = self._order[list(found)]
            vars(self).pop("_cumulated", None)

    def __deepcopy__(self, memo: object) -> Goals:
        """Itself: copies of an episode share it."""
        return self

    def __len__(self) -> int:
        return len(self._order)

    def at(self, place: int) -> tuple[int, int]:
        """The number of the product that a goal is about, and which of its goals it is."""
        if not 0 <= place < len(self):
            raise IndexError(f"there is no goal {place}; they go from 0 to {len(self) - 1}")
        built = int(self._order[place])
        number = int(np.searchsorted(self._starts, built, side="right")) - 1
        return number, built - int(self._starts[number])

    def __getitem__(self, place: int) -> Goal:  # pyright: ignore[reportIncompatibleMethodOverride]
        number, which = self.at(place)
        product = self._product(number)
        if self.kind == "human":
            return human(product, which, self.seed)
        return synthetic(product, which, self.seed, float(self._weights[number]))

    @cached_property
    def _cumulated(self) -> list[float]:
        numbers = np.searchsorted(self._starts, self._order, side="right") - 1
        return [0.0, *accumulate(self._weights[numbers].tolist())]

    def draw(self, rng: random.Random) -> int:
        """A goal by weight, as WebShop draws: the first never, the last with its weight and more.

        (It looks for the place in a list that starts with 0, and is one off.)
        """
        cumulated = self._cumulated
        return min(bisect(cumulated, rng.uniform(0, cumulated[-1])), len(cumulated) - 2)
