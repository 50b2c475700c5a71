"""Intervals and estimators against values worked out by hand."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foldgym.agents.statistics import (
    bootstrap,
    paired,
    pass_at_k,
    pass_hat_k,
    proportion,
    wilson,
)


def test_wilson_by_hand() -> None:
    made = wilson(8, 10)
    # z = 1.959964: centre (0.8 + 0.192073) / 1.384146, half 1.959964 / 1.384146 * 0.160028
    assert (made.mean, made.n, made.method) == (0.8, 10, "wilson")
    assert (made.low, made.high) == pytest.approx((0.490162, 0.943318), abs=1e-6)


def test_wilson_at_the_ends_does_not_claim_certainty() -> None:
    assert (wilson(0, 5).low, wilson(5, 5).high) == (0.0, 1.0)
    # p = 0: high = z^2 / (n + z^2) = 3.841459 / 8.841459
    assert wilson(0, 5).high == pytest.approx(0.434482, abs=1e-6)
    assert wilson(5, 5).low == pytest.approx(1 - 0.434482, abs=1e-6)


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (2, 1), (-1, 3)])
def test_wilson_refuses_impossible_counts(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match=f"{successes} successes out of {n}"):
        wilson(successes, n)


def test_a_wider_level_is_a_wider_interval() -> None:
    narrow, wide = wilson(5, 10, 0.8), wilson(5, 10, 0.99)
    assert wide.low < narrow.low < 0.5 < narrow.high < wide.high
    with pytest.raises(ValueError, match="confidence level 95 is not between"):
        wilson(5, 10, 95)


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=30), st.integers(0, 9))
def test_the_bootstrap_holds_the_mean_and_repeats(values: list[float], seed: int) -> None:
    made = bootstrap(values, seed)
    assert made == bootstrap(values, seed)
    assert made.mean == pytest.approx(sum(values) / len(values), abs=1e-9)
    assert min(values) - 1e-9 <= made.low <= made.high <= max(values) + 1e-9


def test_the_bootstrap_is_close_to_the_normal_interval_of_many_values() -> None:
    values = [float(number % 10) for number in range(1000)]  # mean 4.5, population std 2.872281
    made = bootstrap(values, 0)
    half = 1.96 * 2.872281 / math.sqrt(1000)
    assert (made.low, made.high) == pytest.approx((4.5 - half, 4.5 + half), abs=0.02)


def test_one_value_has_no_interval() -> None:
    made = bootstrap([3.0], 0)
    assert (made.mean, made.method) == (3.0, "none")
    assert math.isnan(made.low)
    assert (made.to_table()["low"], made.to_table()["mean"]) == (None, 3.0)
    with pytest.raises(ValueError, match="no values"):
        bootstrap([], 0)


def test_a_proportion_of_single_samples_is_wilsons() -> None:
    assert proportion([(1, 1)] * 8 + [(0, 1)] * 2, 0) == wilson(8, 10)


def test_samples_of_one_task_count_as_one_task() -> None:
    counts = [(4, 4), (0, 4)] * 10
    made = proportion(counts, 0)
    assert (made.mean, made.n, made.method) == (0.5, 20, "bootstrap over tasks")
    # the interval of 20 tasks, not that of 80 samples: half width 1.96 * sqrt(0.25 / 20) = 0.219
    assert made.high - made.low == pytest.approx(0.438, abs=0.06)


def test_tasks_that_all_agree_do_not_claim_certainty() -> None:
    assert proportion([(4, 4)] * 10, 0) == wilson(10, 10)
    assert proportion([(1, 2)] * 10, 0) == wilson(5, 10)


@pytest.mark.parametrize(
    ("n", "successes", "k", "any_of", "all_of"),
    [
        (4, 2, 2, 1 - 1 / 6, 1 / 6),  # C(2,2) = 1 of C(4,2) = 6
        (5, 1, 3, 1 - 4 / 10, 0.0),
        (5, 4, 3, 1.0, 4 / 10),
        (3, 0, 1, 0.0, 0.0),
        (3, 3, 3, 1.0, 1.0),
    ],
)
def test_pass_k_by_hand(n: int, successes: int, k: int, any_of: float, all_of: float) -> None:
    assert pass_at_k(n, successes, k) == pytest.approx(any_of)
    assert pass_hat_k(n, successes, k) == pytest.approx(all_of)


@given(st.data())
def test_pass_k_is_the_share_of_subsets(data: Any) -> None:
    n = data.draw(st.integers(1, 7))
    successes, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    drawn = [1] * successes + [0] * (n - successes)
    subsets = list(itertools.combinations(drawn, k))
    assert pass_at_k(n, successes, k) == pytest.approx(sum(map(any, subsets)) / len(subsets))
    assert pass_hat_k(n, successes, k) == pytest.approx(sum(map(all, subsets)) / len(subsets))


@pytest.mark.parametrize(("n", "successes", "k"), [(3, 1, 4), (3, 1, 0), (3, 4, 1), (0, 0, 1)])
def test_pass_k_refuses_what_has_no_meaning(n: int, successes: int, k: int) -> None:
    with pytest.raises(ValueError, match=f"k = {k} of n = {n}"):
        pass_at_k(n, successes, k)


def test_paired_zeros_and_ones_by_hand() -> None:
    made = paired([0, 0, 1, 1], [1, 1, 1, 0], 0)
    # centre (2.5 - 1.5) / 6; half 1.959964 * sqrt((4 / 6 - 1 / 36) / 6)
    assert (made.mean, made.n, made.wins, made.losses) == (0.25, 4, 2, 1)
    assert (made.low, made.high) == pytest.approx((-0.472899, 0.806232), abs=1e-6)
    assert (made.method, made.p, made.significant) == ("agresti-min", 1.0, False)


def test_paired_with_a_clear_winner() -> None:
    made = paired([0.0] * 8 + [1.0] * 8, [1.0] * 16, 0)
    assert made.mean == 0.5
    assert made.p == pytest.approx(2 / 2**8)
    assert made.significant
    # 8.5 / 18 - 0.5 / 18 - 1.959964 * sqrt((9 / 18 - (8 / 18) ** 2) / 18)
    assert made.low == pytest.approx(0.190375, abs=1e-6)


def test_equal_policies_do_not_claim_certainty() -> None:
    made = paired([1.0] * 10, [1.0] * 10, 0)
    assert (made.mean, made.p) == (0.0, 1.0)
    assert made.low < -0.1
    assert made.high > 0.1


def test_several_samples_a_task_are_bootstrapped() -> None:
    a, b = [0.25, 0.5, 0.0, 0.75] * 10, [0.5, 0.5, 0.25, 1.0] * 10
    made = paired(a, b, 0)
    assert made == paired(a, b, 0)
    assert (made.mean, made.wins, made.losses, made.p) == (0.1875, 30, 0, None)
    assert made.method == "paired bootstrap over tasks"
    # std of the differences: three in four are 0.25, one is 0: 0.108253
    half = 1.96 * 0.108253 / math.sqrt(40)
    assert (made.low, made.high) == pytest.approx((0.1875 - half, 0.1875 + half), abs=0.01)


_pairs = st.lists(
    st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([0.0, 1.0])), min_size=2
)


@given(_pairs)
def test_swapping_the_policies_turns_the_difference_round(pairs: list[tuple[float, float]]) -> None:
    a, b = [one for one, _ in pairs], [two for _, two in pairs]
    there, back = paired(a, b, 0), paired(b, a, 0)
    assert there.mean == pytest.approx(-back.mean)
    assert (there.wins, there.losses, there.p) == (back.losses, back.wins, back.p)
    assert there.low <= there.mean + 1e-9
    assert there.high >= there.mean - 1e-9


def test_pairs_must_be_pairs() -> None:
    with pytest.raises(ValueError, match="1 and 2 values are not pairs"):
        paired([1.0], [1.0, 0.0], 0)
