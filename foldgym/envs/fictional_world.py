"""Invented worlds: people, towns, companies, regions and guilds, and the facts that tie them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from foldgym.envs.chains import Chain, Fact
from foldgym.envs.index import Index
from foldgym.seeding import derive_seed

SPLITS = ("train", "val", "test")
_SHARES = {"train": 14, "val": 3, "test": 3}  # twentieths of all names
_ONSETS = "bdfghklmnprstvwz"
_RIMES = ("al", "en", "is", "or", "um", "ek")

# relation -> (type of subject, type of value); no relation ties a type to itself, so the type of
# the entity at hand always tells which relation of the question comes next
RELATIONS = {
    "home": ("person", "town"),
    "employer": ("person", "company"),
    "guild": ("person", "guild"),
    "seat": ("company", "town"),
    "hall": ("guild", "town"),
    "region": ("town", "region"),
    "ruler": ("region", "person"),
}


@dataclass(frozen=True, slots=True)
class Size:
    """How many entities of each type a world has."""

    person: int = 32
    town: int = 14
    company: int = 12
    region: int = 8
    guild: int = 8

    @property
    def total(self) -> int:
        """All names a world needs."""
        return self.person + self.town + self.company + self.region + self.guild


@lru_cache(maxsize=1)
def _names() -> dict[str, tuple[str, ...]]:
    syllables = [onset + rime for onset in _ONSETS for rime in _RIMES]
    split_of = [split for split, share in _SHARES.items() for _ in range(share)]
    found: dict[str, list[str]] = {split: [] for split in SPLITS}
    for name in (first + second for first in syllables for second in syllables):
        found[split_of[derive_seed("fictional name", name) % len(split_of)]].append(name)
    return {split: tuple(members) for split, members in found.items()}


def names(split: str) -> tuple[str, ...]:
    """Every name that worlds of this split may use; no name is in two splits."""
    return _names()[split]


@dataclass(frozen=True, slots=True)
class World:
    """All facts of one world, found by (relation, subject), and the index over their sentences."""

    facts: dict[tuple[str, str], Fact]
    members: dict[str, tuple[str, ...]]
    index: Index


def build(split: str, size: Size, distractors: int, rng: random.Random) -> World:
    """A fresh world with names of `split`.

    `distractors` adds sentences of the form `visit of PERSON is TOWN .`, which answer nothing.
    """
    pool = rng.sample(names(split), size.total)
    members: dict[str, tuple[str, ...]] = {}
    for kind in ("person", "town", "company", "region", "guild"):
        count = getattr(size, kind)
        members[kind], pool = tuple(pool[:count]), pool[count:]
    facts: dict[tuple[str, str], Fact] = {}
    for relation, (subject_kind, value_kind) in RELATIONS.items():
        values = members[value_kind]
        for subject in members[subject_kind]:
            facts[relation, subject] = Fact(
                relation, subject, values[int(rng.random() * len(values))]
            )
    documents = [fact.document for fact in facts.values()]
    for _ in range(distractors):
        visit = Fact("visit", rng.choice(members["person"]), rng.choice(members["town"]))
        documents.append(visit.document)
    return World(facts, members, Index(documents))


@lru_cache(maxsize=64)
def cached_world(split: str, size: Size, distractors: int, number: int) -> World:
    """The world of this number. It never changes, so the members of a group share one."""
    return build(split, size, distractors, random.Random(derive_seed("fictional", number)))


@lru_cache(maxsize=1)
def paths() -> dict[int, tuple[tuple[str, ...], ...]]:
    """hops -> every chain of relations that fits by type and repeats none, for 1 to 6 hops."""
    found: dict[int, tuple[tuple[str, ...], ...]] = {1: tuple((each,) for each in RELATIONS)}
    for hops in range(2, 7):
        found[hops] = tuple(
            (*path, relation)
            for path in found[hops - 1]
            for relation, (subject_kind, _) in RELATIONS.items()
            if subject_kind == RELATIONS[path[-1]][1] and relation not in path
        )
    return found


def ask(world: World, hops: int, rng: random.Random, start: str = "") -> Chain:
    """A question of `hops` hops about `world`, with its one right answer.

    With `start` it begins there, and has fewer hops where no chain of relations is that long.
    """
    path: tuple[str, ...] = ()
    while not path:
        choices = paths()[hops]
        if start:
            choices = [each for each in choices if (each[0], start) in world.facts]
        path = rng.choice(choices) if choices else ()
        hops -= 1
    subject = start or rng.choice(world.members[RELATIONS[path[0]][0]])
    return follow(world, subject, path)


def follow(world: World, subject: str, path: Sequence[str]) -> Chain:
    """The question that starts at `subject` and follows the relations of `path`."""
    facts: list[Fact] = []
    for relation in path:
        facts.append(world.facts[relation, subject])
        subject = facts[-1].value
    return Chain(tuple(facts), (subject,))
