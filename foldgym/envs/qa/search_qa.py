"""`SearchQA`: questions of files that a user has, over their own passages or over any corpus."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from foldgym.envs.games import split_of
from foldgym.envs.qa import pages
from foldgym.envs.qa.files import read_questions
from foldgym.envs.qa.libraries import Pages, open_library
from foldgym.envs.qa.questions import Question
from foldgym.envs.qa.world import UNKNOWN, Case, Lead, Library, SearchWorld
from foldgym.errors import UnknownName, UserError
from foldgym.search import Document

ASIDE = f" If it cannot be answered, answer {UNKNOWN}."
SPLITS = ("all", "train", "val", "test")


class SearchQA(SearchWorld):
    """HotpotQA, MuSiQue, Search-R1's rows and others (`foldgym.envs.qa.formats`), from files.

    Args:
        questions: path of a file of questions
        corpus: folder of an index, address of a server, or "" for the passages of all questions
        format: the file's format, or "auto"
        split: "all", or the share of the file that is "train" (8 of 10), "val" or "test" by the
            questions' ids
        own: search only the passages that came with the question, not those of all questions
        canary: the text that BrowseComp-Plus's rows are encrypted with
        strict: refuse a file that has a malformed row, instead of playing the others
        play: what every search world takes: `top_k`, `snippet`, `window`, `match`, ...
    """

    splits = SPLITS

    def __init__(
        self,
        questions: str,
        corpus: str = "",
        *,
        format: str = "auto",
        split: str = "all",
        own: bool = False,
        canary: str = "",
        strict: bool = False,
        **play: Any,
    ) -> None:
        super().__init__(**play)
        if split not in SPLITS:
            raise UnknownName("split", split, SPLITS)
        if own and corpus:
            raise UserError(
                f"own searches a question's own passages, so corpus {corpus!r} has no effect"
            )
        self.split, self.corpus, self.own = split, corpus, own
        self._set = _load(questions, format, strict, canary)
        self.problems = self._set.problems
        self._places = tuple(
            place
            for place, question in enumerate(self._set.questions)
            if split in ("all", split_of("qa", question.id))
        )
        if not self._places:
            raise UserError(f"{questions} has no question of split {split!r}")
        if not corpus and not self._set.has_passages:
            raise UserError(
                f"{questions} brings no passages to search; give a corpus: the folder of an index, "
                "or the address of a server"
            )

    shared = ("_case", "_set")

    def draw(self, rng: random.Random) -> str:
        """The place of a question in the file."""
        return str(rng.choice(self._places))

    def open_case(self, key: str) -> Case:
        """The question at a place of the file."""
        if not key.isdigit() or int(key) >= len(self._set.questions):
            raise UserError(f"{key!r} is not the key of a question of this file")
        question = self._set.questions[int(key)]
        if self.corpus:
            library: Library = open_library(self.corpus)
            return Case(question, library)
        if self.own:
            return Case(question, Pages(question.passages), _leads(question, question.supporting))
        named = self._set.names[int(key)]
        asked = replace(question, supporting=tuple(named[each] for each in question.supporting))
        return Case(asked, self._set.library, _leads(question, asked.supporting))


@dataclass(frozen=True)
class _Set:
    """A file's questions with one library over the passages of all of them.

    `names` tells, per question, what a passage of its own is called there.
    """

    questions: tuple[Question, ...]
    problems: tuple[str, ...]
    library: Pages
    names: tuple[dict[str, str], ...]

    @property
    def has_passages(self) -> bool:
        return bool(self.library.documents)


@lru_cache(maxsize=4)
def _load(path: str, format: str, strict: bool, canary: str) -> _Set:
    read = read_questions(path, format, strict=strict, canary=canary)
    numbers: dict[tuple[str, str], str] = {}
    kept: list[Document] = []
    names: list[dict[str, str]] = []
    for question in read.items:
        mine: dict[str, str] = {}
        for passage in question.passages:
            content = (passage.title, passage.text)
            if content not in numbers:
                numbers[content] = str(len(kept))
                kept.append(replace(passage, id=numbers[content]))
            mine[passage.id] = numbers[content]
        names.append(mine)
    aside = ASIDE if any(not question.answerable for question in read.items) else ""
    questions = tuple(_known(question, aside) for question in read.items)
    return _Set(questions, tuple(read.problems), Pages(tuple(kept)), tuple(names))


def _known(question: Question, aside: str) -> Question:
    """With `UNKNOWN` as the right answer to what cannot be answered, and without supporting ids
    that no passage of the question has.
    """
    answers = question.answers if question.answerable else (UNKNOWN,)
    question = replace(question, text=question.text + aside, answers=answers)
    ids = {passage.id for passage in question.passages}
    if not ids:
        return question
    return replace(question, supporting=tuple(each for each in question.supporting if each in ids))


def _leads(question: Question, named: Sequence[str]) -> tuple[Lead, ...]:
    """A player who may peek reads each supporting passage's beginning."""
    own = {passage.id: passage for passage in question.passages}
    found = [(own[each], name) for each, name in zip(question.supporting, named, strict=True)]
    return tuple(
        Lead(
            passage.title or pages.head(passage.text, 6),
            name,
            " ".join(passage.text.split()[:4]),
            passage.title,
        )
        for passage, name in found
    )
