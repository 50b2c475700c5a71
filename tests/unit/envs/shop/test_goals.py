"""Goals, their order, their limits on the price and how they are drawn."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest
from shops import product

from foldgym.envs.shop.catalogue import in_memory
from foldgym.envs.shop.goals import Goals, limit_of, price_of, synthetic

FACTS = {"attributes": ["x"], "instruction": "i need it", "instruction_attributes": ["x", "y"]}
OPTIONS = {
    "Size": [{"value": "S"}, {"value": "L"}],
    "Color": [{"value": "Red"}, {"value": "Blue"}, {"value": "Green"}],
}


def test_a_goal_for_every_choice_names_in_order_of_the_alphabet() -> None:
    ware = product(facts=FACTS, customization_options=OPTIONS, pricing="$995")
    found = [synthetic(ware, number, 0, 1.0) for number in range(6)]
    assert [goal.options for goal in found] == [
        {"color": color, "size": size} for color in ("red", "blue", "green") for size in ("s", "l")
    ]
    assert list(found[0].options) == ["color", "size"]
    assert found[3].instruction == "i need it with color: blue, and size: l"
    plain = product(facts=FACTS, customization_options="", pricing="$995")
    assert synthetic(plain, 0, 0, 1.0).instruction == "i need it"


def test_limits_are_the_larger_of_two_of_the_next_four_round_sums() -> None:
    seen: Counter[float] = Counter()
    for seed in range(300):
        upper, text = limit_of(product(pricing="$12.9"), seed)
        assert text == f", and price lower than {upper:.2f} dollars"
        seen[upper] += 1
    # of the six pairs of 20, 30, 40, 50 one has 30 as the larger, two have 40, three have 50
    assert set(seen) == {30.0, 40.0, 50.0}
    assert 27 <= seen[30.0] <= 73  # 50 expected, 3.6 standard deviations
    assert 119 <= seen[50.0] <= 181
    assert limit_of(product(pricing="$20"), 1)[0] > 30  # a limit of 20 is not above 20
    # 980 and 990 are above 979, only 990 above 980, none above 990
    assert limit_of(product(pricing="$979"), 0)[0] == 990.0
    assert limit_of(product(pricing="$980"), 0) == (1000000, "")
    assert limit_of(product(pricing="$2000"), 0) == (1000000, "")


def test_a_range_has_one_price_for_each_seed() -> None:
    ware = product(pricing="$10$20")
    prices = {price_of(ware, seed) for seed in range(20)}
    assert len(prices) == 20
    assert all(10 <= price <= 20 for price in prices)
    assert price_of(ware, 3) == price_of(product(pricing="$10$20"), 3)
    assert price_of(product(pricing="$12.9"), 3) == 12.9
    assert limit_of(ware, 3)[0] > price_of(ware, 3)


def test_goals_are_shuffled_as_webshop_shuffles_them() -> None:
    shop = in_memory(product(f"B{n}", facts=FACTS, customization_options=OPTIONS) for n in range(4))
    expected = [(f"B{n}", c, s) for n in range(4) for c in ("red", "blue", "green") for s in "sl"]
    random.seed(233)
    random.shuffle(expected)
    found: list[tuple[str, ...]] = []
    for goal in shop.goals("synthetic", 0):
        assert isinstance(goal.options, dict)
        found.append((goal.asin, *goal.options.values()))
    assert found == expected
    assert [goal.weight for goal in shop.goals("synthetic", 0)] == [1 / 24] * 24


def test_weights_are_means_over_attributes() -> None:
    one = {"attributes": [], "instruction": "a", "instruction_attributes": ["x"]}
    two = {"attributes": [], "instruction": "b", "instruction_attributes": ["x", "y"]}
    shop = in_memory([product("B1", facts=one), product("B2", facts=two, customization_options="")])
    # x is in two goals of B1 (red, blue) and one of B2; y in one
    weights = {goal.asin: goal.weight for goal in shop.goals("synthetic", 0)}
    assert weights == {"B1": pytest.approx(1 / 3), "B2": pytest.approx((1 / 3 + 1) / 2)}


def test_human_goals() -> None:
    wishes = [
        {"instruction": "A mug.", "instruction_attributes": [], "instruction_options": []},
        {
            "instruction": "My mug..",
            "instruction_attributes": ["x"],
            "instruction_options": ["red"],
        },
        {"instruction": "Its mug", "instruction_attributes": ["y"], "instruction_options": []},
    ]
    shop = in_memory([product("B1", pricing="$990", wishes=wishes, facts=FACTS)])
    goals = sorted(shop.goals("human", 0), key=lambda goal: goal.instruction)
    assert [goal.instruction for goal in goals] == ["Its mug", "My mug"]
    assert [goal.options for goal in goals] == [(), ("red",)]
    assert [goal.weight for goal in goals] == [1.0, 1.0]


def goals(weights: list[float], limit: int = -1) -> Goals:
    wares = [product(f"B{n}", facts=FACTS, customization_options="") for n in range(len(weights))]
    counts = np.ones(len(weights), dtype=np.uint32)
    return Goals("synthetic", wares.__getitem__, counts, np.array(weights), limit=limit)


def test_drawing_is_one_off_as_in_webshop() -> None:
    some, rng = goals([1.0, 1.0, 1.0, 1.0]), random.Random(7)
    drawn = Counter(some.draw(rng) for _ in range(400))
    # the first never; the last gets its own share and the one that follows the first's
    assert set(drawn) == {1, 2, 3}
    assert 162 <= drawn[3] <= 238  # 200 expected, 3.8 standard deviations
    assert goals([1.0]).draw(rng) == 0


def test_limits_and_filters_keep_goals_in_webshops_way() -> None:
    every = goals([1.0] * 9)
    some = goals([1.0] * 9, limit=4)
    # by hand: WebShop goes on with the stream that shuffled, until four different ones were drawn
    rng = random.Random(233)
    rng.shuffle(list(range(9)))
    places: list[int] = []
    while len(places) < 4:
        place = min(int(rng.uniform(0, 9.0)) + 1, 8)
        if place not in places:
            places.append(place)
    assert [goal.asin for goal in some] == [every[place].asin for place in places]
    shop = in_memory(product(f"B{n}", facts=FACTS, customization_options="") for n in range(9))
    kept = shop.pick("synthetic", 0, keep=lambda place, goal: place % 2 == 0 and goal.asin != "B1")
    wanted = [goal for n, goal in enumerate(shop.goals("synthetic", 0)) if n % 2 == 0]
    assert list(kept) == [goal for goal in wanted if goal.asin != "B1"]
    with pytest.raises(IndexError, match="from 0 to 8"):
        every[9]
