"""Numbers with honest intervals: proportions, means, pass@k and pass^k, paired differences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from foldgym.seeding import derive_seed

LEVEL = 0.95
RESAMPLES = 4000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean, its interval, and how the interval was made. `n` counts tasks, not samples.

    >>> wilson(8, 10)
    Estimate(mean=0.8, low=0.49016247153664183, high=0.9433178485456247, n=10, method='wilson')
    """

    mean: float
    low: float
    high: float
    n: int
    method: str

    def to_table(self) -> dict[str, float | int | str | None]:
        """The same as a JSON object; bounds that do not exist are null."""
        return _known(asdict(self))


def wilson(successes: float, n: int, level: float = LEVEL) -> Estimate:
    """Wilson's score interval of a proportion. Source: Wilson 1927; never leaves [0, 1].

    Raises `ValueError` unless `0 <= successes <= n` and `n >= 1`.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"{successes} successes out of {n}")
    z, p = _z(level), successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == n else centre + half
    return Estimate(p, low, high, n, "wilson")


def bootstrap(values: Sequence[float], seed: int, level: float = LEVEL) -> Estimate:
    """Mean of independent values with the percentile bootstrap interval (Efron), seeded.

    A value is one task: average its samples first. One value alone has no interval (NaN bounds).
    """
    if not values:
        raise ValueError("no values")
    data = np.asarray(values, dtype=np.float64)
    mean = float(data.mean())
    if len(data) == 1:
        return Estimate(mean, math.nan, math.nan, 1, "none")
    rng = np.random.default_rng(derive_seed(seed, "bootstrap", len(data)))
    means = np.concatenate(
        [
            data[rng.integers(0, len(data), (rows, len(data)))].mean(axis=1)
            for rows in _chunks(RESAMPLES, len(data))
        ]
    )
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(mean, float(low), float(high), len(data), "bootstrap over tasks")


def proportion(counts: Sequence[tuple[int, int]], seed: int, level: float = LEVEL) -> Estimate:
    """Success rate of tasks given as (successes, samples).

    One sample per task: Wilson. Several: tasks weigh the same and are resampled whole, because
    samples of one task are not independent; if all tasks agree, Wilson on the number of tasks,
    since a bootstrap of equal values would claim certainty.
    """
    rates = [successes / samples for successes, samples in counts]
    if all(samples == 1 for _, samples in counts) or len(set(rates)) == 1:
        return wilson(math.fsum(rates), len(rates), level)
    return bootstrap(rates, seed, level)


def pass_at_k(n: int, successes: int, k: int) -> float:
    """Chance that at least one of k samples succeeds, unbiased: `1 - C(n-c, k) / C(n, k)`.

    Source: Chen et al. 2021 (Codex).
    """
    _check_k(n, successes, k)
    return 1.0 - math.comb(n - successes, k) / math.comb(n, k)


def pass_hat_k(n: int, successes: int, k: int) -> float:
    """Chance that all of k samples succeed, unbiased: `C(c, k) / C(n, k)`.

    Source: Yao et al. 2024 (tau-bench), pass^k.
    """
    _check_k(n, successes, k)
    return math.comb(successes, k) / math.comb(n, k)


@dataclass(frozen=True, slots=True)
class Difference:
    """`mean(b - a)` over the same tasks. `p` is McNemar's exact test, where it applies."""

    mean: float
    low: float
    high: float
    n: int
    wins: int
    losses: int
    method: str
    p: float | None = None

    @property
    def significant(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low > 0 or self.high < 0

    def to_table(self) -> dict[str, float | int | str | bool | None]:
        """The same as a JSON object; bounds that do not exist are null."""
        return _known({**asdict(self), "significant": self.significant})


def paired(a: Sequence[float], b: Sequence[float], seed: int, level: float = LEVEL) -> Difference:
    """Difference of two policies on the same tasks; `a[i]` and `b[i]` belong to task i.

    All values 0 or 1: the interval of Agresti and Min (2005, half an observation added to each
    cell of the table of pairs) and McNemar's exact two-sided p. Otherwise: a seeded paired
    bootstrap over tasks.
    """
    if len(a) != len(b) or not a:
        raise ValueError(f"{len(a)} and {len(b)} values are not pairs")
    differences = [there - here for here, there in zip(a, b, strict=True)]
    wins, losses = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    if {*a, *b} <= {0.0, 1.0}:
        n = len(a)
        up, down = (wins + 0.5) / (n + 2), (losses + 0.5) / (n + 2)
        half = _z(level) * math.sqrt((up + down - (up - down) ** 2) / (n + 2))
        centre = up - down
        return Difference(
            (wins - losses) / n,
            max(-1.0, centre - half),
            min(1.0, centre + half),
            n,
            wins,
            losses,
            "agresti-min",
            _mcnemar(wins, losses),
        )
    made = bootstrap(differences, seed, level)
    return Difference(
        made.mean, made.low, made.high, made.n, wins, losses, "paired bootstrap over tasks"
    )


def _mcnemar(wins: int, losses: int) -> float:
    """Two-sided exact binomial test of wins against losses at 1/2."""
    n, fewer = wins + losses, min(wins, losses)
    tail = sum(math.comb(n, count) for count in range(fewer + 1)) / 2**n
    return min(1.0, 2 * tail)


def _known(table: dict[str, Any]) -> dict[str, Any]:
    return {key: None if value != value else value for key, value in table.items()}


def _z(level: float) -> float:
    if not 0 < level < 1:
        raise ValueError(f"confidence level {level} is not between 0 and 1")
    return NormalDist().inv_cdf(0.5 + level / 2)


def _check_k(n: int, successes: int, k: int) -> None:
    if not 0 <= successes <= n or not 1 <= k <= n:
        raise ValueError(f"k = {k} of n = {n} samples with {successes} successes")


def _chunks(total: int, width: int) -> list[int]:
    """Row counts that add up to `total` and keep a block of them small."""
    rows = max(1, 2_000_000 // width)
    return [min(rows, total - start) for start in range(0, total, rows)]
