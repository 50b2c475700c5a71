"""WebShop's reward for what was bought, with its parts.

`reward = r_type (attributes + options + price that match) / (attributes + options + 1)`. Texts
match from a token set ratio above 85 on, as thefuzz computes it (rapidfuzz here, whose numbers it
takes). The official tagger of nouns is a spaCy model that no package index has; `nouns` stands in
for it, and any other function can.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Mapping
from typing import NamedTuple, cast

from foldgym.envs.shop.colours import normal_colour
from foldgym.envs.shop.goals import Goal
from foldgym.envs.shop.products import Product
from foldgym.errors import MissingExtra
from foldgym.rewards.webshop import webshop_reward
from foldgym.search.analysis import STOP_WORDS
from foldgym.types import Json

Tagger = Callable[[str], list[str]]
"""A title's nouns, in order, repeats kept, in lower case."""

ALIKE = 85
NO_NOUNS = 0.2

_TOKEN = re.compile(r"[^\W\d_]+(?:['’.][^\W\d_]+)*")
_FUNCTION_WORDS = STOP_WORDS | {
    *("about", "all", "also", "any", "can", "do", "from", "has", "have", "her", "his", "how", "i"),
    *("its", "me", "more", "my", "our", "out", "over", "per", "she", "so", "than", "too", "under"),
    *("up", "us", "very", "we", "what", "when", "where", "which", "who", "you", "your"),
}


def nouns(title: str) -> list[str]:
    """Every alphabetic token that is not a stop word.

    >>> nouns("Set of 2 Mugs for the Kitchen, 12oz")
    ['set', 'mugs', 'kitchen', 'oz']
    """
    return [word for word in _TOKEN.findall(title.lower()) if word not in _FUNCTION_WORDS]


class Score(NamedTuple):
    """The reward, and WebShop's verbose parts by name."""

    reward: float
    parts: dict[str, Json]


def score(
    product: Product,
    goal: Goal,
    price: float,
    options: Mapping[str, str],
    tagger: Tagger = nouns,
) -> Score:
    """What buying `product` at `price` with `options` is worth. Raises `MissingExtra`."""
    query = product.query == goal.query
    category = len(_levels(product.product_category) & _levels(goal.product_category)) >= 2
    title = title_score(tagger(product.title), tagger(goal.name))
    n_attr, n_opt = matching_attributes(product, goal.attributes), matching_options(options, goal)
    wanted_attr, wanted_opt = len(goal.attributes), len(goal.options)
    cheap = price <= goal.price_upper
    bought = webshop_reward(n_attr, wanted_attr, n_opt, wanted_opt, cheap, query, category, title)
    of = wanted_attr + wanted_opt + 1
    parts: dict[str, Json] = {
        "r_type": bought.r_type,
        "r_att": n_attr / wanted_attr,
        "w_att": wanted_attr / of,
        "query_match": query,
        "category_match": category,
        "title_score": title,
    }
    if wanted_opt:
        parts |= {"r_option": n_opt / wanted_opt, "w_option": wanted_opt / of}
    return Score(bought.reward, {**parts, "r_price": cheap, "w_price": 1 / of})


def title_score(bought: list[str], wanted: list[str]) -> float:
    """The share of the wanted nouns that was bought; of repeated ones only the first counts."""
    return len(set(bought) & set(wanted)) / len(wanted) if wanted else NO_NOUNS


def matching_attributes(product: Product, wanted: tuple[str, ...]) -> int:
    """How many attributes the product has, or at least mentions."""
    texts = (product.title, " ".join(product.bullets), product.description)
    said = [text.lower() for text in texts]
    return sum(
        any(alike(own, each) for own in product.attributes) or any(each in text for text in said)
        for each in wanted
    )


def matching_options(options: Mapping[str, str], goal: Goal) -> int:
    """How many of the goal's options were chosen. A synthetic goal's are pairs, shown as such."""
    given = goal.options
    wanted = list(given.items()) if isinstance(given, Mapping) else list(given)
    chosen = [normal_colour(value) for value in options.values()]
    normal = [normal_colour(cast("Container[str]", each)) for each in wanted]
    return sum(any(alike(own, each) for own in chosen) for each in normal)


def alike(one: object, other: object) -> bool:
    """Whether the token set ratio of two things, as words, is above 85."""
    try:
        from rapidfuzz import fuzz, utils
    except ModuleNotFoundError:
        raise MissingExtra("the shop's reward", "shop") from None
    first, second = (utils.default_process(_plain(str(each))) for each in (one, other))
    return round(fuzz.token_set_ratio(first, second)) > ALIKE


_LATIN = dict.fromkeys(range(128, 256))


def _plain(text: str) -> str:
    """Without the letters from 128 to 255, as thefuzz drops them."""
    return text.translate(_LATIN)


def _levels(category: str) -> set[str]:
    return {level.strip() for level in category.split("›")}
