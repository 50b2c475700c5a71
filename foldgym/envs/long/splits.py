"""Drawing content of one split."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from foldgym.envs.games import split_of
from foldgym.errors import UserError

Made = TypeVar("Made")
_TRIES = 1000


def drawn(split: str, make: Callable[[], Made], content: Callable[[Made], str], what: str) -> Made:
    """What `make` draws first that belongs to `split` by its `content`.

    Raises `UserError` after 1,000 draws: then there is too little to draw from.
    """
    for _ in range(_TRIES):
        found = make()
        if split_of(what, content(found)) == split:
            return found
    raise UserError(f"no {what} of these settings belongs to split {split!r}; make them larger")
