"""The standard library's documentation as facts, documents and questions, split by symbol.

A name that several symbols share, or that is a word of our questions, is documented under its
qualified name and never asked about, so every question has one answer. A *hub* is a name that facts
of another split mention (a common base class, say) or the one exception of a module: its documents
are in every split's library, and no question begins with it. Every other symbol belongs to one
split by a hash of its qualified name (a method by its class), and its documents are absent from the
libraries of the splits before: training sees no document of a symbol that a held-out question
begins with.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from foldgym.envs.chains import Chain, Fact
from foldgym.envs.index import Document, Index
from foldgym.envs.pydocs_symbols import Symbol, symbols
from foldgym.seeding import derive_seed

SPLITS = ("train", "val", "test")
_SHARES = {"train": 13, "val": 2, "test": 5}  # twentieths of all symbols
RELATIONS = ("module", "base", "class", "error", "first", "second")
RESERVED = frozenset((*RELATIONS, "what", "is", "the", "of", "about"))
_NAMING = ("base", "class", "error")  # relations whose value is itself a symbol

# hops -> chains of relations that may be asked, first hop first; none repeats a relation
PATHS: Mapping[int, tuple[tuple[str, ...], ...]] = {
    1: (("module",), ("base",), ("first",), ("second",), ("class",)),
    2: (
        ("class", "module"),
        ("class", "base"),
        ("base", "module"),
        ("base", "first"),
        ("module", "error"),
    ),
    3: (
        ("class", "base", "module"),
        ("class", "module", "error"),
        ("base", "module", "error"),
        ("module", "error", "base"),
    ),
    4: (("class", "base", "module", "error"), ("class", "module", "error", "base")),
}


@dataclass(frozen=True, slots=True)
class Library:
    """Everything documented: facts by (relation, subject), documents by subject.

    `split_of` gives the split of a subject, "" for hubs; `accepted` the right answers to a fact's
    question where there is more than its value.
    """

    facts: Mapping[tuple[str, str], Fact]
    documents: Mapping[str, tuple[Document, ...]]
    split_of: Mapping[str, str]
    accepted: Mapping[tuple[str, str], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Shelf:
    """What one split may see and ask: subjects, the index over them, chains by hops and path."""

    subjects: tuple[str, ...]
    index: Index
    chains: Mapping[int, tuple[tuple[Chain, ...], ...]]


@lru_cache(maxsize=1)
def library() -> Library:
    """The whole library, made once per process."""
    listed = symbols()
    count = Counter(symbol.name for symbol in listed)
    facts: dict[tuple[str, str], Fact] = {}
    documents: dict[str, list[Document]] = {}
    split_of: dict[str, str] = {}
    accepted: dict[tuple[str, str], tuple[str, ...]] = {}
    for symbol in listed:
        unique = count[symbol.name] == 1 and symbol.name not in RESERVED
        if symbol.kind == "method" and not (unique and symbol.summary and count[symbol.owner] == 1):
            continue
        subject = symbol.name if unique else symbol.qualified
        split_of[subject] = _split(symbol) if unique else ""
        mine = documents.setdefault(subject, [])
        if symbol.summary:
            mine.append(Document(subject, f"about {subject} : {symbol.summary}"))
        for fact in _facts(symbol, subject):
            facts[fact.relation, subject] = fact
            mine.append(fact.document)
        accepted["module", subject] = symbol.homes
    for fact in _sole_errors(listed, count):
        facts["error", fact.subject] = fact
        documents.setdefault(fact.subject, []).append(fact.document)
        split_of[fact.subject] = split_of[fact.value] = ""
    for fact in facts.values():
        if fact.relation in _NAMING and split_of.get(fact.value) != split_of[fact.subject]:
            split_of[fact.value] = ""
    frozen = {subject: tuple(texts) for subject, texts in documents.items()}
    return Library(facts, frozen, split_of, accepted)


def _split(symbol: Symbol) -> str:
    whole = symbol.qualified.rpartition(".")[0] if symbol.kind == "method" else symbol.qualified
    shares = [split for split, share in _SHARES.items() for _ in range(share)]
    return shares[derive_seed("pydocs symbol", whole) % len(shares)]


def _facts(symbol: Symbol, subject: str) -> Iterator[Fact]:
    if symbol.kind == "method":
        yield Fact("class", subject, symbol.owner)
    else:
        yield Fact("module", subject, symbol.homes[0])
    if len(symbol.bases) == 1 and not symbol.bases[0].startswith("_"):
        yield Fact("base", subject, symbol.bases[0])
    for relation, parameter in zip(("first", "second"), symbol.parameters, strict=False):
        yield Fact(relation, subject, parameter)


def _sole_errors(listed: tuple[Symbol, ...], count: Mapping[str, int]) -> Iterator[Fact]:
    """The exception of every module that defines exactly one, if its name is unique."""
    errors: dict[str, list[str]] = {}
    for symbol in listed:
        if symbol.kind == "exception":
            errors.setdefault(symbol.homes[0], []).append(symbol.name)
    for module, names in errors.items():
        if len(names) == 1 and count[names[0]] == 1:
            yield Fact("error", module, names[0])


@lru_cache(maxsize=len(SPLITS))
def shelf(split: str) -> Shelf:
    """The part of the library that `split` sees: its own symbols, hubs, and earlier splits."""
    shown = ("", *SPLITS[: SPLITS.index(split) + 1])
    whole = library()
    subjects = tuple(name for name in whole.documents if whole.split_of[name] in shown)
    asked = [name for name in subjects if whole.split_of[name] == split]
    documents = [document for name in subjects for document in whole.documents[name]]
    seen = frozenset(subjects)
    chains = {
        hops: tuple(
            tuple(chain for name in asked if (chain := _chain(whole, seen, name, path)))
            for path in paths
        )
        for hops, paths in PATHS.items()
    }
    return Shelf(subjects, Index(documents, forgiving=True), chains)


def _chain(
    whole: Library, seen: frozenset[str], subject: str, path: tuple[str, ...]
) -> Chain | None:
    """The chain that begins with `subject`, if each of its facts is there and none leads back."""
    facts: list[Fact] = []
    names = [subject]
    for relation in path:
        fact = whole.facts.get((relation, names[-1]))
        if fact is None or names[-1] not in seen or fact.value in names:
            return None
        facts.append(fact)
        names.append(fact.value)
    last = facts[-1]
    return Chain(tuple(facts), whole.accepted.get((last.relation, last.subject), (last.value,)))
