"""`PyDocsSearch`: questions about the standard library of the interpreter that runs this."""

from __future__ import annotations

import random
from collections.abc import Sequence

from foldgym.envs.chain_search import ChainSearch
from foldgym.envs.chains import Chain, draw_hops
from foldgym.envs.index import Index
from foldgym.envs.pydocs_disguise import disguise as rename
from foldgym.envs.pydocs_facts import PATHS, SPLITS, library, shelf
from foldgym.errors import UserError


class PyDocsSearch(ChainSearch):
    """What is the module of the base of Scrollbar? Search the documentation of this Python.

    Facts and answers come from introspection, summaries from docstrings; no file is shipped. A
    question begins with a symbol of the split; which symbols are whose is told in `pydocs_facts`.

    Args:
        symbols: how many other symbols are documented in an episode; 0 for the whole library
        disguise: how often an episode renames the symbols of its split, for training only
    """

    splits = SPLITS
    shared = ("_index", "_shelf")
    most_hops = max(PATHS)

    def __init__(
        self,
        split: str = "train",
        hops: int | Sequence[float] = (1, 2, 2),
        *,
        symbols: int = 40,
        disguise: float = 0.0,
        top_k: int = 2,
        stop: float = 0.65,
        max_turns: int = 12,
        stray: float = 0.0,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(
            split,
            hops,
            top_k=top_k,
            stop=stop,
            max_turns=max_turns,
            stray=stray,
            render_mode=render_mode,
        )
        if symbols < 0 or not 0 <= disguise <= 1:
            raise UserError(
                f"symbols must not be negative and disguise lies from 0 to 1, "
                f"not {symbols} and {disguise}"
            )
        if disguise and not symbols:
            raise UserError("disguise needs symbols above 0: the whole library keeps its names")
        self._symbols, self._disguise = symbols, disguise
        self._shelf = shelf(split)

    def open(self, rng: random.Random) -> tuple[Chain, Index]:
        """A question about a symbol of the split, and the documents of this episode."""
        rows = [row for row in self._shelf.chains[draw_hops(self.mix, rng)] if row]
        chain = rng.choice(rng.choice(rows))
        if not self._symbols:
            return chain, self._shelf.index
        names = [fact.subject for fact in chain.facts]
        names += rng.choices(self._shelf.subjects, k=self._symbols)
        documents = library().documents
        found = [document for name in sorted(set(names)) for document in documents[name]]
        if rng.random() < self._disguise:
            chain, found = rename(chain, found, self.split, rng)
        return chain, Index(found, forgiving=True)
