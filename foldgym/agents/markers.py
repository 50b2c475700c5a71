"""Stop strings by ids: a turn ends with the id that completes one, whatever the engine can do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from foldgym.types import Completion, Finish, Ids


def cut(
    said: Completion,
    stops: Sequence[str],
    decode: Callable[[Sequence[int]], str],
    earlier: Ids = (),
) -> Completion:
    """`said` up to the first id that completes one of `stops` in `earlier` and `said` together.

    A stop that ends inside an id keeps the whole id. What was sampled after it is gone, from the
    log and from training: the ids before are as likely without it.

    >>> said = Completion((97, 60, 102, 62, 98), (-0.1,) * 5)
    >>> cut(said, ["<f>"], lambda ids: bytes(ids).decode()).ids
    (97, 60, 102, 62)
    """
    before = len(decode(earlier))

    def stopped(end: int) -> bool:
        text = decode((*earlier, *said.ids[:end]))
        return any(text.find(stop, max(0, before + 1 - len(stop))) >= 0 for stop in stops)

    if not stopped(len(said.ids)):
        return said
    end = next(end for end in range(1, len(said.ids) + 1) if stopped(end))
    return replace(
        said,
        ids=said.ids[:end],
        logprobs=said.logprobs[:end],
        versions=said.versions[:end],
        finish=Finish.MARKER,
    )
