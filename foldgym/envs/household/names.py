"""What things are called: `Mug_bar__plus_00_dot_50_bar_...` in a problem is `mug 1` in the game."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable

_SIGNS = (("_bar_", "|"), ("_minus_", "-"), ("_plus_", "+"), ("_dot_", "."), ("_comma_", ","))


def called(ids: Iterable[str], rng: random.Random | None = None) -> dict[str, str]:
    """The name of every id: its kind and a number.

    Ids are taken in their order, or in one drawn by `rng`, and numbered downwards within a kind, so
    that the first of n is number n. What is part of a basin is called one. An id without a place in
    it keeps its text, followed by a blank; all this as ALFWorld does.

    >>> called(["mug_bar_1", "mug_bar_2", "sink_bar_1", "sink_bar_1_bar_sinkbasin"])
    {'mug_bar_1': 'mug 2', 'mug_bar_2': 'mug 1', 'sink_bar_1': 'sink 1', \
'sink_bar_1_bar_sinkbasin': 'sinkbasin 1'}
    """
    order = sorted(ids)
    if rng is not None:
        rng.shuffle(order)
    left = Counter(_kind(each) for each in order if "_bar_" in each)
    names: dict[str, str] = {}
    for each in order:
        kind = _kind(each)
        if "|" not in _plain(each):
            names[each] = f"{kind} "
            continue
        names[each] = f"{kind} {left[kind]}"
        left[kind] -= 1
    return names


def _plain(text: str) -> str:
    for sign, character in _SIGNS:
        text = text.replace(sign, character)
    return text


def _kind(text: str) -> str:
    plain = _plain(text)
    if "|" not in plain:
        return plain
    return plain.split("|", 1)[0] + ("basin" if "basin" in text else "")
