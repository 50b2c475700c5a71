"""What an agent saw before a turn, as a text by which turns of different episodes are matched."""

from __future__ import annotations

import re
from collections.abc import Callable
from hashlib import blake2b

from foldgym.types import Message, Trajectory

Canonical = Callable[[str], str]
_NUMBER = re.compile(r"\d+(?:[.:/-]\d+)*")


def exact(text: str) -> str:
    """The text as it is."""
    return text


def plain(text: str) -> str:
    """Lower case, single gaps, and every number, date or time as `#`: counters then match.

    >>> plain("Step 12 at 09:30:  Lamp ON")
    'step # at #: lamp on'
    """
    return " ".join(_NUMBER.sub("#", text.lower()).split())


CANONICAL: dict[str, Canonical] = {"exact": exact, "plain": plain}


def canonicaliser(use: str) -> Canonical:
    """By short name, "module:function" or "file.py:function". Raises like `config.resolve`."""
    from foldgym.config import resolve

    return resolve("anchor", use, CANONICAL)


def anchors(trajectory: Trajectory, canonical: Canonical) -> list[str]:
    """The anchor of every turn: the newest observation before it, at first the task's prompt.

    It is the world's observation and never the history, so it may recur; a picture stands as a
    hash of its bytes. Folds see what the turn after them sees.
    """
    out: list[str] = []
    seen = trajectory.task.prompt
    for turn in trajectory.turns:
        out.append(canonical("\n".join(map(_text, seen))))
        if turn.purpose == "act" and turn.observation:
            seen = turn.observation
    return out


def _text(message: Message) -> str:
    if isinstance(message.content, str):
        return message.content
    return "".join(
        part if isinstance(part, str) else f"<{blake2b(part.data, digest_size=16).hexdigest()}>"
        for part in message.content
    )
