"""Parts of a text, counted in words: its head, a window, the sentences that hold something."""

from __future__ import annotations

import re

_SENTENCE = re.compile(r"[^.!?\n]+[.!?]*\s*")


def head(text: str, words: int) -> str:
    """The first words of a text, with an ellipsis where more follow; all of it for 0.

    >>> head("one two three", 2)
    'one two ...'
    """
    parts = text.split()
    if not words or len(parts) <= words:
        return " ".join(parts)
    return " ".join(parts[:words]) + " ..."


def window(text: str, start: int, words: int) -> tuple[str, int, int]:
    """`words` words from number `start` on, the number after the last one, and how many there are.

    >>> window("a b c d e", 3, 4)
    ('d e', 5, 5)
    """
    parts = text.split()
    begin = min(max(start, 0), len(parts))
    shown = parts[begin : begin + words]
    return " ".join(shown), begin + len(shown), len(parts)


def place(text: str, finding: str) -> int:
    """The number of the word at which a finding begins; 0 if it is not there."""
    at = " ".join(text.split()).find(finding)
    return len(" ".join(text.split())[:at].split()) if at > 0 else 0


def sentences_with(text: str, wanted: str, most: int = 5) -> list[str]:
    """The first sentences that contain a text, whatever the case.

    >>> sentences_with("Ada lives in Rome. Bob is here.", "ROME")
    ['Ada lives in Rome.']
    """
    sought = wanted.strip().casefold()
    found = [" ".join(each.split()) for each in _SENTENCE.findall(text)]
    return [each for each in found if sought and sought in each.casefold()][:most]
