"""Salient spans by rule: names, dates and numbers that a passage can be asked for."""

from __future__ import annotations

import random
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["date", "number", "name", "title"]
_MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
_DATE = re.compile(
    rf"\b(?:\d{{1,2}} (?:{_MONTHS})(?: \d{{4}})?|(?:{_MONTHS}) \d{{1,2}}(?:, \d{{4}})?"
    rf"|(?:{_MONTHS}) \d{{4}}|\d{{4}}-\d{{2}}-\d{{2}}|(?:1\d|20)\d\d)\b"
)
_NUMBER = re.compile(r"\b\d+(?:[.,]\d+)*\b(?: ?%)?")
_NAME = re.compile(r"\b[A-Z][\w'-]*(?: (?:of |de |van |von )?[A-Z][\w'-]*)*")
_STARTS = re.compile(r"(?:\n|[.!?:]\s+|\A)\Z")


@dataclass(frozen=True, slots=True)
class Span:
    """`Span("Ada Lovelace", "name")`: a text of a passage, wherever in it it stands."""

    text: str
    kind: Kind


def salient(passage: str, titles: Collection[str] = ()) -> list[Span]:
    """Different spans in the order of their first places; longer ones win over their parts.

    Dates, then numbers, then the `titles` of other documents, then runs of capitalised words. A
    single capitalised word at the start of a sentence counts only if it also stands elsewhere, and
    a span has at least three characters and is never a part of a longer word.
    """
    found: list[tuple[int, int, Kind]] = []

    def take(start: int, end: int, kind: Kind) -> None:
        if all(end <= a or b <= start for a, b, _ in found):
            found.append((start, end, kind))

    for match in _DATE.finditer(passage):
        take(*match.span(), "date")
    for match in _NUMBER.finditer(passage):
        take(*match.span(), "number")
    for title in sorted(titles, key=lambda each: (-len(each), each)):
        if title in passage:
            for match in re.finditer(rf"(?<!\w){re.escape(title)}(?!\w)", passage):
                take(*match.span(), "title")
    for match in _NAME.finditer(passage):
        if " " in match.group() or not _begins(match.group(), passage):
            take(*match.span(), "name")
    spans: dict[str, Span] = {}
    for start, end, kind in sorted(found):
        text = passage[start:end]
        if len(text) > 2 and _whole(text, passage):
            spans.setdefault(text, Span(text, kind))
    return list(spans.values())


def _begins(word: str, passage: str) -> bool:
    """Whether a word stands nowhere but at the starts of sentences."""
    places = (match.start() for match in re.finditer(rf"\b{re.escape(word)}\b", passage))
    return all(_STARTS.search(passage[max(0, at - 3) : at]) for at in places)


def _whole(text: str, passage: str) -> bool:
    """Whether a text never stands inside a longer word."""
    every = re.findall(re.escape(text), passage, re.IGNORECASE)
    return len(every) == len(re.findall(rf"(?<!\w){re.escape(text)}(?!\w)", passage, re.IGNORECASE))


def choose(spans: Sequence[Span], k: int, rng: random.Random) -> list[Span]:
    """`k` of them, longer ones more likely; none is a part of another."""
    left, chosen = list(spans), list[Span]()
    while left and len(chosen) < k:
        (drawn,) = rng.choices(left, weights=[len(each.text) for each in left])
        chosen.append(drawn)
        left = [each for each in left if not _overlap(each.text, drawn.text)]
    return chosen


def _overlap(left: str, right: str) -> bool:
    left, right = left.casefold(), right.casefold()
    return left in right or right in left


def mask(passage: str, spans: Sequence[Span]) -> tuple[str, list[str]]:
    """The passage with `[1]`, `[2]`, ... for spans in reading order, and what they stand for.

    Every occurrence is masked, whatever its case, so that no answer stays in the text.

    >>> mask("Ada met Bob. Bob left.", [Span("Bob", "name")])
    ('Ada met [1]. [1] left.', ['Bob'])
    """
    texts = sorted((each.text for each in spans), key=lambda text: passage.find(text))
    numbers = {text.casefold(): at for at, text in enumerate(texts, 1)}
    longest = sorted(texts, key=lambda text: -len(text))
    pattern = "|".join(re.escape(text) for text in longest)
    if not texts:
        return passage, []

    def number(match: re.Match[str]) -> str:
        return f"[{numbers[match.group().casefold()]}]"

    return re.sub(pattern, number, passage, flags=re.IGNORECASE), texts
