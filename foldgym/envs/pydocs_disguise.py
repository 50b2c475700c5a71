"""Symbols of the library under invented names, so that training cannot lean on memory.

A few thousand names can be learnt by heart; then a policy answers questions about them without
reading, and fails on symbols it has never met. Under a disguise the symbols of an episode are
renamed with parts of other names (`OrderedDict` may become `HandlerQueue`), while modules, common
base classes, parameters and summaries stay as they are.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

from foldgym.envs.chains import Chain, Fact
from foldgym.envs.index import WORD, Document
from foldgym.envs.pydocs_facts import RESERVED, library

_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z][a-z]+|[a-z]+")
_SPLICE = 0.3  # how often a part is itself put together from two halves


def disguise(
    chain: Chain, documents: Sequence[Document], split: str, rng: random.Random
) -> tuple[Chain, list[Document]]:
    """The same question and documents with every symbol of `split` renamed, one name for each."""
    invented: dict[str, str] = {}
    taken: set[str] = set(RESERVED)
    split_of = library().split_of

    def rename(name: str) -> str:
        if split_of.get(name) != split:
            return name
        while name not in invented:
            new = _PART.sub(lambda match: _part(match.group(), split, rng), name)
            if new not in split_of and new not in taken:
                invented[name] = new
                taken.add(new)
        return invented[name]

    facts = tuple(Fact(f.relation, rename(f.subject), rename(f.value)) for f in chain.facts)
    renamed = [
        Document(rename(each.subject), WORD.sub(lambda match: rename(match.group()), each.text))
        for each in documents
    ]
    return Chain(facts, tuple(rename(each) for each in chain.accepted)), renamed


@lru_cache(maxsize=8)
def _parts(split: str) -> Mapping[str, tuple[str, ...]]:
    """The words that names of a split are made of, by spelling."""
    names = (name for name, where in library().split_of.items() if where == split)
    found = dict.fromkeys(part for name in names for part in _PART.findall(name))
    return {
        spelling: tuple(part for part in found if _spelling(part) == spelling)
        for spelling in ("upper", "capital", "lower")
    }


def _spelling(part: str) -> str:
    if part.isupper():
        return "upper"
    return "capital" if part[0].isupper() else "lower"


def _part(like: str, split: str, rng: random.Random) -> str:
    pools = _parts(split)
    part = rng.choice(pools[_spelling(like)])
    if rng.random() < _SPLICE:
        tail = rng.choice(pools["lower"])
        tail = tail[len(tail) // 2 :]
        part = part[: (len(part) + 1) // 2] + (tail.upper() if like.isupper() else tail)
    return part
