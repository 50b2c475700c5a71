"""`FictionalQA`: questions of 1 to 6 hops in prose about an invented world of any size."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from foldgym.envs.chains import draw_hops
from foldgym.envs.fictional_world import RELATIONS, SPLITS, paths
from foldgym.envs.qa.invented import WORDING, Entity, Invented
from foldgym.envs.qa.libraries import Pages, open_library
from foldgym.envs.qa.questions import Question
from foldgym.envs.qa.world import UNKNOWN, Case, Lead, Library, SearchWorld
from foldgym.errors import UnknownName, UserError

_TRIES = 2000
MISSING = 0.15  # share of facts that no page states, where a question may be unanswerable
_LATER = " Where pages disagree, the later year is right."
_UNKNOWN = f" If no page tells, answer {UNKNOWN}."
MOST_HOPS = max(paths())
MOST_PAGES = 200_000  # that are indexed in memory; larger worlds need an index on disk


class FictionalQA(SearchWorld):
    """What is the name of the region in which the town where Tusmolen lives lies?

    Every name is invented, so nothing can be remembered: all must be read. By default every episode
    has a small world of its own. With `world` all episodes ask about one world, of any size; above
    200,000 pages it needs `index`, a folder that `foldgym index build fictional:...` made from the
    same settings, or the address of a server.

    Args:
        split: whose names are used: "train", "val" or "test"
        hops: exactly this many, or the weights of 1, 2, ... 6 hops
        people: how many people live in a world; other kinds grow with them
        aliases: share of entities with a second name
        unanswerable: share of questions of which a fact is missing; the right answer is "unknown"
        disputed: share of facts of which an older page states something else
        filler: sentences on every page that state nothing
        distractors: pages that answer nothing
        world: number of the world that all episodes share; None for a new one each
        index: folder or address of an index over the shared world's pages
        play: what every search world takes: `top_k`, `snippet`, `window`, `match`, ...
    """

    splits = SPLITS

    def __init__(
        self,
        split: str = "train",
        hops: int | Sequence[float] = (1, 2, 2, 1),
        *,
        people: int = 32,
        aliases: float = 0.0,
        unanswerable: float = 0.0,
        disputed: float = 0.0,
        filler: int = 0,
        distractors: int = 0,
        world: int | None = None,
        index: str = "",
        **play: Any,
    ) -> None:
        super().__init__(**play)
        if not 0 <= unanswerable <= 1:
            raise UserError(f"unanswerable is a share, from 0 to 1, not {unanswerable}")
        if index and world is None:
            raise UserError(f"index {index!r} has no effect without the `world` that it holds")
        if people + distractors > MOST_PAGES and not index:
            raise UserError(
                f"{people} people are more than is indexed in memory ({MOST_PAGES} pages); write "
                "them with `foldgym index invent`, index them with `foldgym index build` and give "
                "its folder as `index`"
            )
        self.mix = _mix(hops)
        self.split, self.world, self.index = split, world, index
        self.unanswerable = unanswerable
        self._settings = tuple(
            settings_of(
                split=split,
                people=people,
                aliases=aliases,
                unanswerable=unanswerable,
                disputed=disputed,
                filler=filler,
                distractors=distractors,
            ).items()
        )

    def draw(self, rng: random.Random) -> str:
        """The numbers of a world and of a question."""
        number = rng.getrandbits(32) if self.world is None else self.world
        return f"{number:x}-{rng.getrandbits(32):08x}"

    def open_case(self, key: str) -> Case:
        """The question of a key with the world's pages."""
        try:
            number, asked = (int(part, 16) for part in key.split("-"))
        except ValueError:
            raise UserError(f"{key!r} is not the key of a {type(self).__name__} task") from None
        world = _world(number, self._settings)
        library: Library = open_library(self.index) if self.index else _library(world)
        question, leads = self._ask(world, random.Random(asked), key)
        return Case(question, library, leads)

    def _ask(
        self, world: Invented, rng: random.Random, key: str
    ) -> tuple[Question, tuple[Lead, ...]]:
        hops, broken = draw_hops(self.mix, rng), rng.random() < self.unanswerable
        for _ in range(_TRIES):
            path = rng.choice(paths()[hops])
            kind = RELATIONS[path[0]][0]
            chain = [Entity(kind, rng.randrange(world.count(kind)))]
            for relation in path:
                chain.append(world.value(relation, chain[-1]))
            told = [world.stated(each, who) for each, who in zip(path, chain, strict=False)]
            if all(told) != broken and len(set(chain)) == len(chain):
                break
        else:
            raise UserError(f"no {hops}-hop question fits this world; give it more people")
        asked = world.mention(chain[0], "question", key)
        text = asked
        for relation in path:
            text = WORDING[relation][0].format(x=text)
        known = told.index(False) if broken else hops
        leads = list(_leads(world, path[:known], chain, asked))
        end = chain[-1]
        answers = (UNKNOWN,) if broken else tuple(filter(None, (world.name(end), world.alias(end))))
        rules = (_LATER if world.disputed else "") + (_UNKNOWN if self.unanswerable else "")
        needed = dict.fromkeys(lead.passage for lead in leads)
        question = Question(
            key,
            f"What is the name of {text}?{rules}",
            answers,
            supporting=tuple(needed),
            kind="unanswerable" if broken else "chain",
            hops=hops,
            answerable=not broken,
        )
        return question, tuple(leads)


def _leads(world: Invented, path: Sequence[str], chain: Sequence[Entity], asked: str) -> list[Lead]:
    """The steps of a player: whose other name it is, where that is not known; then the fact."""
    leads: list[Lead] = []
    called = asked
    for relation, subject in zip(path, chain, strict=False):
        name = world.name(subject)
        if called != name:
            whose = f"Whose other name is {called}?"
            leads.append(Lead(called, f"alias-{subject.id}", world.naming(subject), name, whose))
        words = WORDING[relation][1].format(x=name, y="").split()
        sentence = world.sentence(relation, subject)
        called = world.mention(world.value(relation, subject), relation, subject.id)
        probe = f"What is the name of {WORDING[relation][0].format(x=name)}?"
        leads.append(Lead(" ".join(words), subject.id, sentence, called, probe))
    return leads


def _mix(hops: int | Sequence[float]) -> tuple[float, ...]:
    if isinstance(hops, int):
        hops = tuple(float(n == hops) for n in range(1, max(hops, 1) + 1))
    mix = tuple(float(weight) for weight in hops)
    if not mix or len(mix) > MOST_HOPS or min(mix) < 0 or sum(mix) <= 0:
        raise UserError(
            f"hops must be 1 to {MOST_HOPS}, or at most {MOST_HOPS} weights of which one is "
            f"positive, not {hops!r}"
        )
    return mix


def settings_of(**given: Any) -> dict[str, Any]:
    """The settings of an `Invented` from those of a `FictionalQA`. Raises `UserError`."""
    settings: dict[str, Any] = {"split": "train", "people": 32, **given}
    if settings["split"] not in SPLITS:
        raise UnknownName("split", str(settings["split"]), SPLITS)
    for name in ("aliases", "disputed"):
        if not 0 <= settings.get(name, 0) <= 1:
            raise UserError(f"{name} is a share, from 0 to 1, not {settings[name]}")
    fewest = (settings["people"], settings.get("filler", 0), settings.get("distractors", 0))
    if fewest[0] < 4 or min(fewest[1:]) < 0:
        raise UserError(
            "a world holds at least 4 people and no negative number of filler or distractors, "
            f"not {fewest[0]}, {fewest[1]} and {fewest[2]}"
        )
    if settings.pop("unanswerable", 0):
        settings["missing"] = MISSING
    return settings


@lru_cache(maxsize=256)
def _world(number: int, settings: tuple[tuple[str, Any], ...]) -> Invented:
    return Invented(number, **dict(settings))


@lru_cache(maxsize=64)
def _library(world: Invented) -> Pages:
    """A world never changes, so all episodes of one share its index."""
    return Pages(tuple(world.pages()))
