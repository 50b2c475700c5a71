"""The reward and its parts, worked out by hand from the formulas."""

from __future__ import annotations

from typing import Any

import pytest
from shops import goal, product

from foldgym.envs.shop.colours import COLOURS, normal_colour
from foldgym.envs.shop.scoring import alike, nouns, score, title_score


def test_the_whole_reward_and_its_parts() -> None:
    found = score(product(), goal(), 12.9, {"color": "red"})
    assert found.reward == 1.0
    assert found.parts == {
        "r_type": 1.0,
        "r_att": 1.0,
        "w_att": 1 / 3,
        "query_match": True,
        "category_match": True,
        "title_score": 1.0,
        "r_option": 1.0,
        "w_option": 1 / 3,
        "r_price": True,
        "w_price": 1 / 3,
    }


@pytest.mark.parametrize(
    ("price", "options", "attributes", "expected"),
    [
        (12.9, {"color": "red"}, ("dishwasher safe",), 3 / 3),
        (30.0, {"color": "red"}, ("dishwasher safe",), 3 / 3),  # at the limit is within it
        (30.01, {"color": "red"}, ("dishwasher safe",), 2 / 3),
        (12.9, {"color": "blue"}, ("dishwasher safe",), 2 / 3),
        (12.9, {}, ("dishwasher safe",), 2 / 3),
        (99.0, {}, ("hand made",), 0 / 3),
        (12.9, {"color": "red"}, ("dishwasher safe", "hand made"), 3 / 4),
        (12.9, {"color": "red"}, ("holds 12", "for tea", "red mug"), 5 / 5),  # mentioned only
    ],
)
def test_shares(price: float, options: dict[str, str], attributes: Any, expected: float) -> None:
    found = score(product(), goal(attributes=attributes), price, options)
    assert found.reward == pytest.approx(expected)
    assert found.parts["r_att"] <= 1.0


def test_a_goal_without_options_has_no_parts_for_them() -> None:
    found = score(product(), goal(options={}), 12.9, {"color": "red"})
    assert found.reward == 1.0
    assert "r_option" not in found.parts
    assert found.parts["w_att"] == found.parts["w_price"] == 1 / 2


@pytest.mark.parametrize(
    ("query", "category", "name", "r_type"),
    [
        ("mugs", "", "Red Mug", 1.0),
        ("cups", "Home › Kitchen › Cups", "Red Mug", 1.0),
        ("cups", "Mugs ›  Home", "Red Mug", 1.0),  # two levels shared, in any order
        ("cups", "Home › Garden", "Red Mug", 1.0),  # half of the nouns
        ("cups", "Home", "Red Cup One Two Three", 0.5),  # 1 of 5 nouns is 0.2, which is not above
        ("cups", "Home", "Red Cup One Two", 1.0),  # 1 of 4
        ("mugs", "", "Red " + "cup " * 10, 0.1),  # 1 of 11, whatever the query
        ("mugs", "Home › Kitchen", "Green Cup", 0.0),
        ("cups", "Home", "12 34", 0.5),  # no nouns at all count as 0.2
    ],
)
def test_the_type_of_product(query: str, category: str, name: str, r_type: float) -> None:
    wanted = goal(query=query, product_category=category, name=name)
    found = score(product(), wanted, 12.9, {"color": "red"})
    assert found.parts["r_type"] == r_type
    assert found.reward == pytest.approx(r_type)


def test_repeated_nouns_count_in_the_denominator_only() -> None:
    same = ["cable", "lead", "cable"]
    assert title_score(same, same) == pytest.approx(2 / 3)
    assert title_score([], ["a"]) == 0.0
    assert title_score(["a"], []) == 0.2


def test_another_tagger() -> None:
    found = score(product(), goal(), 12.9, {"color": "red"}, lambda title: [title[:3], "x"])
    assert found.parts["title_score"] == 1.0
    assert score(product(), goal(), 1.0, {}, lambda _: []).parts["title_score"] == 0.2


def test_colours() -> None:
    assert len(COLOURS) == 102
    assert list(COLOURS) == sorted(COLOURS)
    cases = {
        "": "",
        "black forest": "black",
        "violet lavender": "lavender",
        "steelivy fuchsia": "fuchsia",
        "123alabaster": "alabaster",
        "webshop": "webshop",
        "wash": "ash",
    }
    assert {given: normal_colour(given) for given in cases} == cases
    assert normal_colour(("color", "red")) == "red"
    assert normal_colour(("color", "dark red")) == ("color", "dark red")


def test_options_of_a_synthetic_goal_are_pairs() -> None:
    # a pair whose value is no colour is compared as it is shown: ('size', 'xl')
    assert alike("xl", ("size", "xl"))
    assert score(product(), goal(options={"size": "xl"}), 1.0, {"size": "xl"}).reward == 1.0
    # ("color", "dark red") is no colour as a pair; "dark red" is bought as its first colour, dark
    assert (
        score(product(), goal(options={"color": "dark red"}), 1.0, {"color": "dark red"}).reward
        == 1
    )
    # the name of an option is part of the pair: buying "size" of anything matches it
    assert score(product(), goal(options={"size": "xl"}), 1.0, {"fit": "size"}).reward == 1.0


def test_options_of_a_human_goal_are_words() -> None:
    human = goal(options=("cool powder snow", "XL", "pack of 12"))
    chosen = {"color": "powder snow", "size": "XL", "amount": "pack of 12"}
    assert score(product(), human, 1.0, chosen).reward == 1.0
    chosen["color"] = "blue"
    assert score(product(), human, 1.0, chosen).reward == pytest.approx(4 / 5)


@pytest.mark.parametrize(
    ("one", "other", "found"),
    [
        ("essential oil", "essential oils", True),  # 2 * 13 letters of 27 in common: 96
        ("tea tree", "tea tree oil", True),  # a subset of the words: 100
        ("tea bag", "tea tree", False),  # the shared word against "tea bag": 2 * 3 of 10, 60
        ("lipton", "tea tree", False),
        ("", "red", False),
        ("", "", False),
        ("RED!", "red", True),
    ],
)
def test_what_is_alike(one: str, other: str, found: bool) -> None:
    assert alike(one, other) is found


def test_letters_beyond_ascii_are_dropped_as_thefuzz_drops_them() -> None:
    assert alike("caf\xe9", "caf")
    assert not alike("\u4e2d", "\u6587")


def test_nouns() -> None:
    assert nouns("adidas Unisex-Adult D.o.n. Issue 2 Basketball Shoe") == [
        *("adidas", "unisex", "adult", "d.o.n", "issue", "basketball", "shoe")
    ]
    assert nouns("The Pot of Tea, 12oz & more") == ["pot", "tea", "oz"]
    assert nouns("") == []
