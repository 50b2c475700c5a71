"""A small inverted index: which of a few thousand short documents share rare words with a query.

A document scores the sum of the inverse document frequencies of the query words it holds, and a
word that names the document's subject counts more. Equal scores keep the documents' own order, so
a result depends on nothing but the documents and the query. A forgiving index reads a word that no
document holds as the subject whose spelling is nearest.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import log

MOST_WORDS = 32
"""Words of a query that count; the rest is ignored."""

WORD = re.compile(r"[\w.]*\w")


def words(text: str) -> list[str]:
    """Words in order, case kept; dots inside a name belong to it.

    >>> words("base of io.BytesIO is _BufferedIOBase .")
    ['base', 'of', 'io.BytesIO', 'is', '_BufferedIOBase']
    """
    return WORD.findall(text)


@dataclass(frozen=True, slots=True)
class Document:
    """One short text about one subject: `Document("tusmol", "home of tusmol is pastan .")`."""

    subject: str
    text: str


class Index:
    """Finds documents by shared words.

    >>> home = Document("tusmol", "home of tusmol is pastan .")
    >>> region = Document("pastan", "region of pastan is dalvor .")
    >>> [found.subject for found in Index([home, region]).search("pastan region", k=2)]
    ['pastan', 'tusmol']
    """

    def __init__(
        self, documents: Sequence[Document], subject_weight: float = 1.5, forgiving: bool = False
    ) -> None:
        self.documents = tuple(documents)
        self._subject_weight = subject_weight
        self._postings: dict[str, list[int]] = {}
        for number, document in enumerate(self.documents):
            for word in dict.fromkeys(words(document.text)):
                self._postings.setdefault(word, []).append(number)
        subjects = dict.fromkeys(document.subject for document in self.documents)
        self._nearest = Nearest(tuple(subjects)) if forgiving else None

    def search(self, query: str, k: int) -> list[Document]:
        """The best `k` documents, best first; fewer if fewer share any word with the query."""
        scores: dict[int, float] = {}
        for asked in dict.fromkeys(words(query)[:MOST_WORDS]):
            word = asked
            if self._nearest and asked not in self._postings:
                word = self._nearest(asked)
            holders = self._postings.get(word, ())
            idf = log(1.0 + len(self.documents) / len(holders)) if holders else 0.0
            for number in holders:
                about = self.documents[number].subject == word
                weight = self._subject_weight if about else 1.0
                scores[number] = scores.get(number, 0.0) + weight * idf
        best = sorted(scores, key=lambda number: (-scores[number], number))[:k]
        return [self.documents[number] for number in best]


def _trigrams(word: str) -> set[str]:
    padded = f"^{word}$".casefold()
    return {padded[at : at + 3] for at in range(len(padded) - 2)}


class Nearest:
    """The known word that shares the most three-letter pieces with a misspelt one.

    >>> Nearest(("OrderedDict", "UserDict"))("OrderDict")
    'OrderedDict'
    """

    def __init__(self, known: Sequence[str], least: float = 0.15) -> None:
        self._known, self._least = known, least
        self._sizes: list[int] = []
        self._holders: dict[str, list[int]] = {}
        for number, word in enumerate(known):
            pieces = sorted(_trigrams(word))
            self._sizes.append(len(pieces))
            for piece in pieces:
                self._holders.setdefault(piece, []).append(number)

    def __call__(self, word: str) -> str:
        """The nearest by Dice similarity, the first of equals; `word` itself if none is near."""
        pieces = _trigrams(word)
        shared: dict[int, int] = {}
        for piece in sorted(pieces):
            for number in self._holders.get(piece, ()):
                shared[number] = shared.get(number, 0) + 1
        nearest, likeness = word, self._least
        for number in sorted(shared):
            dice = 2 * shared[number] / (len(pieces) + self._sizes[number])
            if dice > likeness:
                nearest, likeness = self._known[number], dice
        return nearest
