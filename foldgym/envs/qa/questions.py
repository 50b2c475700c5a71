"""`Question`: what every question set, genuine or invented, is read into."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from foldgym.search import Document
from foldgym.types import Json


@dataclass(frozen=True, slots=True)
class Question:
    """One question with every right answer, the best known first.

    `passages` come with the question; `supporting` are the ids of those that are needed, or of
    documents of the corpus it was asked about. `masks` counts the blanks of a fill-in task.
    """

    id: str
    text: str
    answers: tuple[str, ...]
    passages: tuple[Document, ...] = ()
    supporting: tuple[str, ...] = ()
    kind: str = ""
    hops: int = 0
    answerable: bool = True
    metadata: Mapping[str, Json] = field(default_factory=dict[str, Json])
