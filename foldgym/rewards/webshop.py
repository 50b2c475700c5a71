"""WebShop's reward for what was bought."""

from __future__ import annotations

from typing import NamedTuple


class Purchase(NamedTuple):
    """`reward` in [0, 1], and the factor `r_type` for the right kind of product in it."""

    r_type: float
    reward: float


def webshop_reward(
    n_attr_match: int,
    n_attr: int,
    n_opt_match: int,
    n_opt: int,
    price_ok: bool | None,
    query_match: bool,
    category_match: bool,
    title_score: float,
) -> Purchase:
    """`r_type` times the share of attributes, options and the price that match.

    `r_type` is 1; 0.5 if neither query nor category match and the title scores at most 0.2; 0.1
    below a title score of 0.1; 0 at 0 (later rules win). `price_ok` None means that the goal set
    no limit: then the price is in neither sum (the reference raises there). Without anything to
    match the share is 1. Source: WebShop's code.
    """
    r_type = 1.0
    if not (query_match or category_match or title_score > 0.2):
        r_type = 0.5
    if title_score < 0.1:
        r_type = 0.1
    if title_score == 0:
        r_type = 0.0
    matched = n_attr_match + n_opt_match + bool(price_ok)
    wanted = n_attr + n_opt + (price_ok is not None)
    return Purchase(r_type, r_type * (matched / wanted if wanted else 1.0))
