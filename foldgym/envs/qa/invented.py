"""An invented world as pure functions of a number: any size, nothing stored, nothing remembered.

Names, facts, aliases and disputes all derive from `Invented.number`, so a world of a million
entities costs no memory until its pages are written out (`pages`), and two processes agree on it.
The types and relations are those of `foldgym.envs.fictional_world`; sentences are prose.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from foldgym.envs.fictional_world import RELATIONS
from foldgym.search import Document
from foldgym.seeding import SEED_BITS, derive_seed

KINDS = ("person", "town", "company", "region", "guild")
_PER_PERSON = {"person": 1.0, "town": 0.44, "company": 0.38, "region": 0.25, "guild": 0.25}
_SLOTS = {"train": range(14), "val": range(14, 17), "test": range(17, 20)}  # of 20 kinds of name
_ONSETS, _RIMES = "bdfghklmnprstvwz", ("al", "en", "is", "or", "um", "ek")
_SYLLABLES = tuple(onset + rime for onset in _ONSETS for rime in _RIMES)

# relation -> the phrase that stands for its value in a question, and the sentence that states it
WORDING = {
    "home": ("the town where {x} lives", "{x} lives in the town of {y}"),
    "employer": ("the company that employs {x}", "{x} works for the company {y}"),
    "guild": ("the guild that {x} belongs to", "{x} belongs to the guild {y}"),
    "seat": ("the town where {x} has its seat", "{x} has its seat in the town of {y}"),
    "hall": ("the town where {x} has its hall", "{x} has its hall in the town of {y}"),
    "region": ("the region in which {x} lies", "{x} lies in the region of {y}"),
    "ruler": ("the person who rules {x}", "{x} is ruled by {y}"),
}
_FILLER = (
    "Travellers seldom write about {x}",
    "Little is told about the youth of {x}",
    "Songs about {x} are sung at harvest time",
    "A letter to {x} was once lost on the road",
    "The archive keeps three drawings of {x}",
    "Nobody agrees how the name {x} is to be pronounced",
)


@dataclass(frozen=True, slots=True)
class Entity:
    """`Entity("town", 3)`: the fourth town."""

    kind: str
    index: int

    @property
    def id(self) -> str:
        """Name of its page, the same in every world."""
        return f"{self.kind}-{self.index}"


@dataclass(frozen=True)
class Invented:
    """One world. Shares lie from 0 to 1.

    Args:
        number: which world
        split: whose names it uses; names of different splits never meet
        people: how many people live in it; the other kinds grow with them
        aliases: share of entities that have a second name, used in half of all sentences
        missing: share of facts that no page states
        disputed: share of facts of which an older page states something else
        filler: sentences on every page that state no fact
        distractors: pages that answer nothing
    """

    number: int
    split: str = "train"
    people: int = 32
    aliases: float = 0.0
    missing: float = 0.0
    disputed: float = 0.0
    filler: int = 0
    distractors: int = 0

    def count(self, kind: str) -> int:
        """How many entities of a kind there are."""
        return (
            max(3, math.ceil(self.people * _PER_PERSON[kind])) if kind != "person" else self.people
        )

    @cached_property
    def _offsets(self) -> dict[str, int]:
        found: dict[str, int] = {}
        total = 0
        for kind in KINDS:
            found[kind], total = total, total + self.count(kind)
        return found | {"": total}

    @cached_property
    def _naming(self) -> tuple[int, int, int, int]:
        """Syllables of a name, how many names there are, and the two numbers that shuffle them."""
        share, needed = len(_SLOTS[self.split]), 2 * self._offsets[""]
        syllables = 3
        while len(_SYLLABLES) ** syllables // 20 * share < needed:
            syllables += 1
        names = len(_SYLLABLES) ** syllables // 20 * share
        step = self._roll("names") % names
        while math.gcd(step, names) != 1:
            step += 1
        return syllables, names, step, self._roll("first name") % names

    def _roll(self, *parts: int | str) -> int:
        return derive_seed("invented", self.number, *parts)

    def _happens(self, share: float, *parts: int | str) -> bool:
        return share > 0 and self._roll(*parts) < share * 2**SEED_BITS

    # ------------------------------------------------------------ names

    def name(self, entity: Entity) -> str:
        """Its name; no other entity, alias or split has it."""
        return self._name(self._offsets[entity.kind] + entity.index)

    def alias(self, entity: Entity) -> str:
        """Its second name; empty if it has none."""
        if not self._happens(self.aliases, "alias", entity.id):
            return ""
        return self._name(self._offsets[""] + self._offsets[entity.kind] + entity.index)

    def _name(self, place: int) -> str:
        syllables, names, step, first = self._naming
        row, slot = divmod((first + place * step) % names, len(_SLOTS[self.split]))
        number = 20 * row + _SLOTS[self.split][slot]
        text = ""
        for _ in range(syllables):
            number, digit = divmod(number, len(_SYLLABLES))
            text += _SYLLABLES[digit]
        return text.capitalize()

    def mention(self, entity: Entity, *where: int | str) -> str:
        """How a sentence calls it: by its name, or as often by its alias."""
        alias = self.alias(entity)
        return (
            alias if alias and self._roll("mention", entity.id, *where) % 2 else self.name(entity)
        )

    # ------------------------------------------------------------ facts

    def value(self, relation: str, subject: Entity) -> Entity:
        """What the relation ties the subject to."""
        kind = RELATIONS[relation][1]
        return Entity(kind, self._roll(relation, subject.index) % self.count(kind))

    def stated(self, relation: str, subject: Entity) -> bool:
        """Whether any page says so."""
        return not self._happens(self.missing, "missing", relation, subject.index)

    def sentence(self, relation: str, subject: Entity) -> str:
        """The sentence of the subject's page that states the fact."""
        said = self.mention(self.value(relation, subject), relation, subject.id)
        year = f" in the year {self._year(relation, subject)}" if self.disputed else ""
        return f"{WORDING[relation][1].format(x=self.name(subject), y=said)}{year}."

    def naming(self, entity: Entity) -> str:
        """The sentence of the alias's page that tells whose name it is."""
        return f"{self.alias(entity)} is another name of {self.name(entity)}."

    def _year(self, relation: str, subject: Entity) -> int:
        return 400 + self._roll("year", relation, subject.index) % 500

    # ------------------------------------------------------------ pages

    @property
    def entities(self) -> int:
        """How many there are of all kinds."""
        return self._offsets[""]

    def pages(self) -> Iterator[Document]:
        """Every page, in a fixed order."""
        for kind in KINDS:
            for index in range(self.count(kind)):
                yield from self.about(Entity(kind, index))
        yield from self.notes()

    def about(self, entity: Entity) -> Iterator[Document]:
        """Its page, the page of its second name, and older pages that dispute its facts."""
        yield self.page(entity)
        if self.alias(entity):
            yield self.alias_page(entity)
        yield from self._registers(entity)

    def notes(self) -> Iterator[Document]:
        """The pages that answer nothing."""
        for number in range(self.distractors):
            yield self._note(number)

    def page(self, entity: Entity) -> Document:
        """What is told about an entity."""
        first = self._roll("filler", entity.id)
        sentences = [
            f"{_FILLER[(first + place) % len(_FILLER)].format(x=self.name(entity))}."
            for place in range(self.filler)
        ]
        stated = [self.sentence(each, entity) for each in self._relations(entity)]
        at = self._roll("place", entity.id) % (len(sentences) + 1)
        text = " ".join([*sentences[:at], *stated, *sentences[at:]])
        name = self.name(entity)
        return Document(entity.id, name, text or f"{name} is a {entity.kind}.")

    def alias_page(self, entity: Entity) -> Document:
        """The page under its second name."""
        return Document(f"alias-{entity.id}", self.alias(entity), self.naming(entity))

    def _relations(self, entity: Entity) -> list[str]:
        return [
            relation
            for relation, (kind, _) in RELATIONS.items()
            if kind == entity.kind and self.stated(relation, entity)
        ]

    def _registers(self, entity: Entity) -> Iterator[Document]:
        """Older pages that state something else about disputed facts."""
        for relation in self._relations(entity):
            if not self._happens(self.disputed, "disputed", relation, entity.index):
                continue
            right = self.value(relation, entity)
            shift = 1 + self._roll("wrong", relation, entity.index) % (self.count(right.kind) - 1)
            wrong = Entity(right.kind, (right.index + shift) % self.count(right.kind))
            said = WORDING[relation][1].format(x=self.name(entity), y=self.name(wrong))
            year = self._year(relation, entity) - 1 - self._roll("older", relation, entity.id) % 300
            title = f"Old register of {self.name(entity)}"
            yield Document(f"register-{relation}-{entity.id}", title, f"{said} in the year {year}.")

    def _note(self, number: int) -> Document:
        who = Entity("person", self._roll("visitor", number) % self.count("person"))
        town = Entity("town", self._roll("visited", number) % self.count("town"))
        said = f"{self.name(who)} once visited the town of {self.name(town)}."
        return Document(f"note-{number}", f"Note {number}", said)
