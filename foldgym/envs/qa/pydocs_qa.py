"""`PyDocsQA`: the Python documentation world with whole pages, to search, open and look through."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from foldgym.envs.chains import Chain, draw_hops
from foldgym.envs.pydocs_facts import PATHS, SPLITS, library, shelf
from foldgym.envs.qa.libraries import Pages
from foldgym.envs.qa.questions import Question
from foldgym.envs.qa.world import Case, Lead, SearchWorld
from foldgym.errors import UnknownName, UserError
from foldgym.search import Document

MOST_HOPS = max(PATHS)


class PyDocsQA(SearchWorld):
    """What is the module of the base of Scrollbar? One page for every symbol of this Python.

    Args:
        split: whose symbols are asked about: "train", "val" or "test"
        hops: exactly this many, or the weights of 1, 2, ... 4 hops
        play: what every search world takes: `top_k`, `snippet`, `window`, `match`, ...
    """

    splits = SPLITS

    def __init__(
        self, split: str = "train", hops: int | Sequence[float] = (1, 2, 2, 1), **play: Any
    ) -> None:
        super().__init__(**play)
        if split not in SPLITS:
            raise UnknownName("split", split, SPLITS)
        if isinstance(hops, int):
            hops = tuple(float(n == hops) for n in range(1, max(hops, 1) + 1))
        self.mix = tuple(float(weight) for weight in hops)
        if not 0 < len(self.mix) <= MOST_HOPS or min(self.mix) < 0 or sum(self.mix) <= 0:
            raise UserError(
                f"hops must be 1 to {MOST_HOPS}, or at most {MOST_HOPS} weights of which one is "
                f"positive, not {hops!r}"
            )
        self.split = split

    def draw(self, rng: random.Random) -> str:
        """Hops, path and place of a chain on the shelf."""
        hops = draw_hops(self.mix, rng)
        rows = shelf(self.split).chains[hops]
        row = rng.choice([number for number, row in enumerate(rows) if row])
        return f"{hops}-{row}-{rng.randrange(len(rows[row]))}"

    def open_case(self, key: str) -> Case:
        """The chain of a key and the split's pages."""
        try:
            hops, row, place = (int(part) for part in key.split("-"))
            chain = shelf(self.split).chains[hops][row][place]
        except (ValueError, KeyError, IndexError):
            raise UserError(f"{key!r} is not the key of a {type(self).__name__} task") from None
        return Case(_question(chain, key), _pages(self.split), tuple(_leads(chain)))


def _question(chain: Chain, key: str) -> Question:
    needed = dict.fromkeys(fact.subject for fact in chain.facts)
    return Question(
        key, chain.question, chain.accepted, supporting=tuple(needed), kind="chain", hops=chain.hops
    )


def _leads(chain: Chain) -> list[Lead]:
    told = [(fact, fact.evidence) for fact in chain.facts]
    return [Lead(f.query, f.subject, e.text, f.value, e.question) for f, e in told]


@lru_cache(maxsize=len(SPLITS))
def _pages(split: str) -> Pages:
    documents = library().documents
    return Pages(
        tuple(
            Document(name, name, " ".join(each.text for each in documents[name]))
            for name in shelf(split).subjects
        )
    )
