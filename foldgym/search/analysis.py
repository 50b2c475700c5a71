"""From text to index terms: the English analysis of Anserini, which is Lucene's.

Words by Unicode's boundaries, a possessive 's removed, lower case, the 33 stop words of Lucene
removed, Porter's stems; in this order.
"""

from __future__ import annotations

from foldgym.search.porter import stem
from foldgym.search.words import words

STOP_WORDS = frozenset(
    (
        *("a", "an", "and", "are", "as", "at", "be", "but", "by", "for", "if", "in", "into", "is"),
        *("it", "no", "not", "of", "on", "or", "such", "that", "the", "their", "then", "there"),
        *("these", "they", "this", "to", "was", "will", "with"),
    )
)
"""Lucene's; a word among them is not indexed."""

MOST_KNOWN = 1 << 18
"""Words whose terms one analyzer remembers."""

_APOSTROPHES = ("'", "\u2019", "\uff07")


class _Lower(dict[int, str]):
    """Lower case letter by letter, as Java has it: one for one, and no final sigma."""

    def __missing__(self, point: int) -> str:
        low = chr(point).lower()
        self[point] = found = low if len(low) == 1 else low[0]
        return found


_LOWER = _Lower()


class _Terms(dict[str, str]):
    """The terms of words that were met; forgets all when they become too many."""

    def __missing__(self, word: str) -> str:
        if len(self) >= MOST_KNOWN:
            self.clear()
        self[word] = found = _term(word)
        return found


class English:
    """Text to terms, in order, repeats kept; remembers the terms of words it has met.

    >>> English()("The dogs' owner's house, owning 3.5 dogs.")
    ['dog', 'owner', 'hous', 'own', '3.5', 'dog']
    """

    name = "english"

    def __init__(self) -> None:
        self._terms = _Terms()

    def __call__(self, text: str) -> list[str]:
        """The terms of `text`."""
        terms = self._terms
        return [term for word in words(text) if (term := terms[word])]


def _term(word: str) -> str:
    """The term of one word; empty for a stop word."""
    if len(word) >= 2 and word[-2] in _APOSTROPHES and word[-1] in "sS":
        word = word[:-2]
    word = word.lower() if word.isascii() else word.translate(_LOWER)
    return "" if word in STOP_WORDS else stem(word)
