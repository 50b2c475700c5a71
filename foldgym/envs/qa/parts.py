"""Answers that are lists: how many of their parts are right in their place."""

from __future__ import annotations

from foldgym.rewards.outcomes import text_exact


def text_parts(answer: str, gold: str) -> float:
    """Share of the parts of `gold`, between semicolons or else commas, that `answer` has in place.

    >>> text_parts("Ada; Paris", "Ada, Rome")
    0.5
    """
    wanted, said = _parts(gold), _parts(answer)
    right = sum(text_exact(a, b) for a, b in zip(said, wanted, strict=False))
    return right / max(len(wanted), len(said))


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(";" if ";" in text else ",")]
