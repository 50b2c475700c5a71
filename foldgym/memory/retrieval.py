"""Which texts are like a query: BM25, and vectors of hashed words. No model, no randomness."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from hashlib import blake2b

Embed = Callable[[str], Sequence[float]]

_WORD = re.compile(r"\w+")
_DIMENSIONS = 512


def words(text: str) -> list[str]:
    """Words in order, without their case.

    >>> words("Look left, then RIGHT.")
    ['look', 'left', 'then', 'right']
    """
    return _WORD.findall(text.casefold())


def bm25(query: str, texts: Sequence[str], k1: float = 1.5, b: float = 0.75) -> list[float]:
    """One score per text; 0 if it shares no word with the query.

    Source: Okapi BM25 with the idf log(1 + (N - n + 0.5) / (n + 0.5)), which is never negative.
    """
    bags = [Counter(words(text)) for text in texts]
    sizes = [bag.total() for bag in bags]
    mean = sum(sizes) / len(sizes) if sizes else 0.0
    scores = [0.0] * len(bags)
    for word in dict.fromkeys(words(query)):
        holders = [place for place, bag in enumerate(bags) if word in bag]
        idf = math.log(1 + (len(bags) - len(holders) + 0.5) / (len(holders) + 0.5))
        for place in holders:
            count = bags[place][word]
            long = 1 - b + b * sizes[place] / mean
            scores[place] += idf * count * (k1 + 1) / (count + k1 * long)
    return scores


def hashed(text: str) -> tuple[float, ...]:
    """The text's words, each at a hashed place with a hashed sign, at length 1 (or 0, if empty).

    The same in every process. Words that share a place cancel as often as they add up.
    """
    vector = [0.0] * _DIMENSIONS
    for word in words(text):
        code = int.from_bytes(blake2b(word.encode(), digest_size=8).digest(), "big")
        vector[code % _DIMENSIONS] += 1.0 if code >> 63 else -1.0
    length = math.sqrt(math.fsum(x * x for x in vector))
    return tuple(x / length for x in vector) if length else tuple(vector)


def cosine(a: Sequence[float], b: Sequence[float]) -> float:
    """The cosine of the angle between two vectors; 0 if one of them is 0."""
    size = math.sqrt(math.fsum(x * x for x in a) * math.fsum(y * y for y in b))
    return math.fsum(x * y for x, y in zip(a, b, strict=True)) / size if size else 0.0


def best(scores: Sequence[float], k: int) -> list[int]:
    """Places of the `k` highest scores above 0, best first, the first of equals before the next.

    >>> best([0.2, 0.0, 0.9, 0.2], 3)
    [2, 0, 3]
    """
    ranked = sorted(range(len(scores)), key=lambda place: (-scores[place], place))
    return [place for place in ranked[:k] if scores[place] > 0]


def overlap(text: str, other: str) -> float:
    """The share of the words of `text` that `other` holds too; without words, whether they equal.

    >>> overlap("look left first", "first look right")
    0.6666666666666666
    """
    wanted, given = Counter(words(text)), Counter(words(other))
    return (wanted & given).total() / wanted.total() if wanted else float(text == other)
