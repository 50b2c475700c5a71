"""Questions that are chains of relations, and the two scripted players who walk them.

Both search worlds ask `what is the region of home of tusmol ?`: start at the subject, follow one
relation after the other, answer with the last entity. A fact is one typed sentence,
`home of tusmol is pastan .`, and a search for `tusmol home` brings it up.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from foldgym.envs.index import Document
from foldgym.types import Evidence


@dataclass(frozen=True, slots=True)
class Fact:
    """`Fact("home", "tusmol", "pastan")`: the home of tusmol is pastan."""

    relation: str
    subject: str
    value: str

    @property
    def document(self) -> Document:
        """The sentence that states this fact."""
        return Document(self.subject, f"{self.relation} of {self.subject} is {self.value} .")

    @property
    def query(self) -> str:
        """What to search for to find the sentence."""
        return f"{self.subject} {self.relation}"

    @property
    def evidence(self) -> Evidence:
        """The sentence, with the question that it answers."""
        question = Chain((self,), (self.value,)).question
        return Evidence(self.document.text, question, self.value)


def read_fact(sentence: str) -> Fact | None:
    """The fact that a sentence of a document states, if it is one.

    >>> read_fact("home of tusmol is pastan .")
    Fact(relation='home', subject='tusmol', value='pastan')
    """
    found = re.fullmatch(r"(\S+) of (\S+) is (\S+) \.", sentence)
    return Fact(*found.groups()) if found else None


@dataclass(frozen=True, slots=True)
class Chain:
    """A question with the facts that answer it, first hop first; `accepted` are right answers.

    >>> home, region = Fact("home", "tusmol", "pastan"), Fact("region", "pastan", "dalvor")
    >>> Chain((home, region), ("dalvor",)).question
    'what is the region of home of tusmol ?'
    """

    facts: tuple[Fact, ...]
    accepted: tuple[str, ...]

    @property
    def hops(self) -> int:
        """How many facts must be read."""
        return len(self.facts)

    @property
    def question(self) -> str:
        """The question as the agent reads it, last relation first."""
        return self.reduced(0)

    def reduced(self, progress: int) -> str:
        """The question that is left once the first `progress` facts are known.

        >>> home, region = Fact("home", "tusmol", "pastan"), Fact("region", "pastan", "dalvor")
        >>> Chain((home, region), ("dalvor",)).reduced(1)
        'what is the region of pastan ?'
        >>> Chain((home, region), ("dalvor",)).reduced(2)
        'it is dalvor'
        """
        left = self.facts[progress:]
        if not left:
            return f"it is {self.facts[-1].value}"
        path = " of ".join(fact.relation for fact in reversed(left))
        return f"what is the {path} of {left[0].subject} ?"

    def progress(self, seen: Sequence[Document]) -> int:
        """How many hops, counted from the first, the documents seen so far have answered."""
        texts = {document.text for document in seen}
        for hop, fact in enumerate(self.facts):
            if fact.document.text not in texts:
                return hop
        return self.hops


def normalise(text: str) -> str:
    """An answer without what does not matter: case, outer punctuation, runs of blanks.

    >>> normalise("  Pastan . ")
    'pastan'
    """
    return " ".join(text.split()).strip(" .,;:!?\"'`").casefold()


def decide(chain: Chain, progress: int, stop: float, rng: random.Random) -> tuple[str, str]:
    """The next call, as (tool, text), of a player who has read the first `progress` facts.

    With `stop` 0 it walks to the end and is always right. Otherwise it is hasty: after any hop but
    the last it answers with the entity at hand with probability `stop`. Every token it writes is
    copied rightly; only the decision is flawed.
    """
    if progress == chain.hops:
        return "answer", chain.facts[-1].value
    if progress and rng.random() < stop:
        return "answer", chain.facts[progress - 1].value
    return "search", chain.facts[progress].query


def draw_hops(mix: Sequence[float], rng: random.Random) -> int:
    """A number of hops, 1 .. len(mix), with probability proportional to its weight."""
    return rng.choices(range(1, len(mix) + 1), weights=mix)[0]
