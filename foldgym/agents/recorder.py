"""The only builder of segments, from the actual sampler calls; and views to ids.

A memory decides what is shown, never what is trained: if the context of a call starts with the
open segment's ids the segment grows (what was added is context), otherwise it is closed and a
new one opens. So every sampled id is trained exactly once, in the context it was sampled in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from foldgym.agents.renderers import Piece, Renderer, weave
from foldgym.errors import MemoryFault
from foldgym.types import Completion, Ids, Log, Message, Picture, Ref, Segment, Synth, View


def encode_view(view: View, log: Log, renderer: Renderer) -> Ids:
    """The ids the model is shown: items in order, frames around policy turns, a header at the end.

    Glue stands before the first and behind the last of the items that one turn said, so a view
    that only grew encodes to a longer sequence with the same start: what was said can only grow
    while it is the unfinished end of the view, which has no glue behind it.
    """
    pieces: list[Piece] = []
    speakers = [_speaker(item, log) for item in view.items]
    around = zip([None, *speakers], speakers, [*speakers[1:], None], strict=False)
    for place, (item, (before, turn, after)) in enumerate(zip(view.items, around, strict=False)):
        if isinstance(item, Synth):
            pieces.append(_piece(item.token_ids, item.messages))
            continue
        event = log[item.event]
        said = event.token_ids[item.start : item.end]
        if turn is None:
            pieces.append(_piece(said, () if event.kind == "memory" else event.messages))
            continue
        if turn != before:
            pieces.append(Piece(renderer.header(event.token_ids[: item.start]), "assistant", None))
        unfinished = view.open_turn and place == len(view.items) - 1
        closing = renderer.seal(said) if turn != after and not unfinished else ()
        pieces.append(Piece((*said, *closing), None, "assistant"))
    if not view.open_turn:
        pieces.append(Piece(renderer.header(), "assistant", None))
    return weave(pieces, renderer.seams)


def _piece(ids: Ids, messages: Sequence[Message]) -> Piece:
    return Piece(ids, messages[0].role, messages[-1].role) if messages else Piece(ids, None, None)


def _speaker(item: Ref | Synth, log: Log) -> int | None:
    """The turn that said this; None if no policy turn did."""
    if isinstance(item, Synth) or log[item.event].kind != "model":
        return None
    return log[item.event].turn


def view_messages(view: View, log: Log) -> tuple[Message, ...]:
    """The same view for policies that read messages; notes become user messages.

    Of a turn in several events only the last counts: its message is the whole turn's.
    """
    messages: list[Message] = []
    speakers = [_speaker(item, log) for item in view.items]
    for item, turn, after in zip(view.items, speakers, [*speakers[1:], None], strict=False):
        if isinstance(item, Synth):
            messages += item.messages
            continue
        if turn is not None and turn == after:
            continue
        event = log[item.event]
        if event.kind == "memory":
            messages += [Message("user", message.text) for message in event.messages]
        else:
            messages += event.messages
    return tuple(messages)


@dataclass(slots=True)
class _Open:
    token_ids: list[int] = field(default_factory=list[int])
    turn_ids: list[int] = field(default_factory=list[int])
    logprobs: list[float] = field(default_factory=list[float])
    versions: list[int] = field(default_factory=list[int])
    pictures: tuple[Picture, ...] = ()

    def grow(self, ids: Ids, turn: int, logprobs: tuple[float, ...], versions: Ids) -> None:
        self.token_ids += ids
        self.turn_ids += [turn] * len(ids)
        self.logprobs += logprobs
        self.versions += versions


class Recorder:
    """Calls in, segments out.

    >>> recorder = Recorder()
    >>> recorder.call((1, 2), Completion((7, 9), (-0.5, -0.1), version=3), turn=0)
    >>> recorder.call((1, 2, 7, 9, 4), Completion((8,), (-0.2,), version=3), turn=1)
    >>> [segment.turn_ids for segment in recorder.freeze()]
    [(-1, -1, 0, 0, -1, 1)]
    """

    def __init__(self) -> None:
        self._open: dict[tuple[str, bool], _Open] = {}
        self._closed: list[tuple[str, bool, _Open]] = []

    def call(
        self,
        context: Ids,
        said: Completion,
        turn: int,
        *,
        lineage: str = "main",
        trainable: bool = True,
        may_rewrite: bool = True,
        pictures: tuple[Picture, ...] = (),
    ) -> None:
        """Record one sampler call. `said.logprobs` has one entry per id, as have its `versions`.

        `pictures` are those of the context; where one changed, its ids count as dropped.

        Raises `MemoryFault` when the context dropped recorded ids although the memory promised
        never to rewrite (`may_rewrite=False`).
        """
        if len(said.ids) != len(said.logprobs):
            raise MemoryFault(
                f"turn {turn}: {len(said.ids)} sampled ids but {len(said.logprobs)} log-probs"
            )
        versions = said.versions or (said.version,) * len(said.ids)
        if len(versions) != len(said.ids):
            raise MemoryFault(
                f"turn {turn}: {len(said.ids)} sampled ids but {len(versions)} versions"
            )
        key = (lineage, trainable)
        segment = self._open.get(key)
        if segment is not None:
            known = len(segment.token_ids)
            seen = tuple(picture for picture in pictures if picture.at < known)
            if list(context[:known]) != segment.token_ids or seen != segment.pictures:
                if not may_rewrite:
                    raise MemoryFault(
                        f"turn {turn}: the view no longer starts with what was sampled, but this "
                        "memory declares rewrites = False"
                    )
                self._closed.append((*key, segment))
                segment = None
        if segment is None:
            segment = self._open[key] = _Open()
        added = context[len(segment.token_ids) :]
        segment.grow(added, -1, (0.0,) * len(added), (-1,) * len(added))
        segment.grow(said.ids, turn, said.logprobs, versions)
        segment.pictures = pictures

    def freeze(self) -> tuple[Segment, ...]:
        """All segments, closed ones first, in the order in which they were opened."""
        rows = [*self._closed, *((*key, segment) for key, segment in self._open.items())]
        return tuple(
            Segment(
                tuple(row.token_ids),
                tuple(row.turn_ids),
                tuple(row.logprobs),
                tuple(row.versions),
                lineage,
                trainable,
                row.pictures,
            )
            for lineage, trainable, row in rows
        )
