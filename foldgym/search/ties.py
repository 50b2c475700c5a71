"""Equal scores in the order of the corpus, from libraries that order them otherwise."""

from __future__ import annotations

from collections.abc import Callable, Sequence

MORE = 8


def best(
    ask: Callable[[int], Sequence[tuple[float, int]]], k: int, most: int
) -> list[tuple[float, int]]:
    """The best `k` pairs of score and document number, equal scores by number.

    `ask(limit)` returns at most `limit` pairs, best score first; it is asked for more until the
    last of them scores less than the `k`-th, or all `most` documents are in.
    """
    if k < 1 or most < 1:
        return []
    k, limit = min(k, most), min(k + MORE, most)
    while True:
        found = ask(limit)
        if limit == most or len(found) < limit or found[-1][0] < found[k - 1][0]:
            return sorted(found, key=lambda pair: (-pair[0], pair[1]))[:k]
        limit = min(4 * limit, most)
