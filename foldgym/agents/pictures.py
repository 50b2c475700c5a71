"""Pictures among token ids: which placeholder ids stand for one, and where they are in a prompt.

A model that sees takes a picture as a start id, one placeholder id for each patch that its vision
tower hands over, and an end id. `PictureRenderer` puts them where a message has an `Image`,
whatever renderer writes the text around it; text itself never becomes one of these ids. A policy
may sample them all the same: `Prompt.pictures` says which runs of placeholders are pictures, every
other one is only ids.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from foldgym.agents.renderers import Renderer, Tokenizer
from foldgym.errors import Bug, EngineError, MemoryFault, MissingExtra
from foldgym.types import Ids, Image, Log, Message, Picture, Ref, Synth, Tool, View

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Patches = NDArray[np.float32]

_MARK = "\ufffe"  # no character of any text; those of an environment are replaced
_MARKER = re.compile(f"{_MARK}[0-9]+:([0-9]+){_MARK}")
_SLIMMEST = 200  # a picture this many times as long as wide is refused
_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True, slots=True)
class PictureFormat:
    """How a family of models takes pictures (Qwen2-VL and after).

    `start`, `pad` and `end` are ids; `video` is one that must not be shown without a video. Sides
    are made multiples of `patch * merge` pixels, the area is kept within `least` and `most` pixels,
    and `merge * merge` patches of `patch * patch` pixels are one placeholder.
    """

    start: int
    pad: int
    end: int
    video: int = -1
    patch: int = 14
    merge: int = 2
    frames: int = 2
    least: int = 56 * 56
    most: int = 28 * 28 * 1280
    mean: tuple[float, float, float] = _CLIP_MEAN
    std: tuple[float, float, float] = _CLIP_STD

    def grid(self, image: Image) -> tuple[int, int]:
        """Rows and columns of patches. Raises `EngineError` for what is no picture."""
        height, width = self.resized(*_size(image.data))
        return height // self.patch, width // self.patch

    def count(self, image: Image) -> int:
        """How many placeholders stand for a picture."""
        rows, columns = self.grid(image)
        return rows * columns // self.merge**2

    def ids(self, count: int) -> Ids:
        """What a picture of that many placeholders is among ids."""
        return (self.start, *(self.pad,) * count, self.end)

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """The size at which a picture is seen: whole patches, about its shape, within limits."""
        unit = self.patch * self.merge
        area = height * width
        tall, wide = round(height / unit) * unit, round(width / unit) * unit
        if tall * wide > self.most:
            shrink = math.sqrt(area / self.most)
            tall = max(unit, math.floor(height / shrink / unit) * unit)
            wide = max(unit, math.floor(width / shrink / unit) * unit)
        elif tall * wide < self.least:
            grow = math.sqrt(self.least / area)
            tall = math.ceil(height * grow / unit) * unit
            wide = math.ceil(width * grow / unit) * unit
        return tall, wide

    def patches(self, image: Image) -> Patches:
        """A picture as rows of numbers [patches, 3 * frames * patch * patch], normalised.

        Patches of one placeholder follow each other; in a row, channels come first, then frames
        (the same still picture in each), then lines.
        """
        import numpy as np

        height, width = self.resized(*_size(image.data))
        pillow = _pillow()
        with pillow.open(io.BytesIO(image.data)) as opened:
            seen = opened.convert("RGB").resize((width, height), pillow.Resampling.BICUBIC)
        pixels_HWC = np.asarray(seen, dtype=np.float32) / np.float32(255)
        pixels_HWC = (pixels_HWC - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
        m, p = self.merge, self.patch
        rows, columns = height // (m * p), width // (m * p)
        parts = pixels_HWC.reshape(rows, m, p, columns, m, p, 3).transpose(0, 3, 1, 4, 6, 2, 5)
        still = np.repeat(parts[:, :, :, :, :, None], self.frames, axis=5)
        return np.ascontiguousarray(still.reshape(rows * columns * m * m, -1), dtype=np.float32)


def _pillow() -> Any:
    try:
        from PIL import Image as Pillow
    except ModuleNotFoundError as problem:
        raise MissingExtra("showing pictures to a model", "browser") from problem
    return Pillow


@lru_cache(maxsize=256)
def _size(data: bytes) -> tuple[int, int]:
    """Height and width in pixels, from the head of the file."""
    pillow = _pillow()
    try:
        with pillow.open(io.BytesIO(data)) as opened:
            width, height = opened.size
            opened.load()
    except Exception as problem:  # Pillow raises many kinds for broken files
        why = " ".join(str(problem).split())
        raise EngineError(f"a picture of {len(data)} bytes cannot be read: {why}") from None
    if max(height, width) > _SLIMMEST * min(height, width):
        raise EngineError(
            f"a picture of {width} by {height} pixels is too slim for the model; at most "
            f"{_SLIMMEST} to 1"
        )
    return height, width


# ---------------------------------------------------------------- writing


class PictureTokenizer:
    """A tokenizer that knows placeholders, for as long as a `PictureRenderer` writes a message."""

    def __init__(self, inner: Tokenizer, form: PictureFormat) -> None:
        self.inner, self.form = inner, form
        self.writing = False

    def encode(self, text: str) -> Ids:
        """Ids of plain text, and of the marks of pictures while those are written."""
        if not self.writing or _MARK not in text:
            return self.inner.encode(text)
        ids: list[int] = []
        at = 0
        for mark in _MARKER.finditer(text):
            ids += self.inner.encode(text[at : mark.start()])
            ids += self.form.ids(int(mark.group(1)))
            at = mark.end()
        return (*ids, *self.inner.encode(text[at:]))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class PictureRenderer:
    """Any renderer, for a model that sees: pictures of messages become placeholders.

    `inner` must have been made with `tokenizer`.
    """

    def __init__(self, inner: Renderer, tokenizer: PictureTokenizer) -> None:
        self.inner, self.tokenizer, self.form = inner, tokenizer, tokenizer.form

    def open(self, messages: Sequence[Message], tools: Sequence[Tool]) -> Ids:
        """As the inner renderer, with pictures."""
        images = images_of(messages)
        return self._written(images, lambda shown: self.inner.open(shown, tools), messages)

    def encode(self, message: Message) -> Ids:
        """As the inner renderer, with pictures."""
        images = images_of([message])
        return self._written(images, lambda shown: self.inner.encode(shown[0]), [message])

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def _written(
        self,
        images: Sequence[Image],
        write: Callable[[Sequence[Message]], Ids],
        messages: Sequence[Message],
    ) -> Ids:
        if not images:
            return write(messages)
        marks = (f"{_MARK}{i}:{self.form.count(image)}{_MARK}" for i, image in enumerate(images))
        shown = [_marked(message, marks) for message in messages]
        self.tokenizer.writing = True
        try:
            ids = write(shown)
        finally:
            self.tokenizer.writing = False
        found = len(runs(ids, self.form))
        if found != len(images):
            raise Bug(
                f"{type(self.inner).__name__} wrote {found} of {len(images)} pictures; it must "
                "hand the text of a message to its tokenizer as it is"
            )
        return ids


def with_pictures(
    make: Callable[[Tokenizer], Renderer], tokenizer: Tokenizer, form: PictureFormat | None
) -> Renderer:
    """`make(tokenizer)`, writing pictures if there is a format for them."""
    if form is None:
        return make(tokenizer)
    seeing = PictureTokenizer(tokenizer, form)
    return cast("Renderer", PictureRenderer(make(cast("Tokenizer", seeing)), seeing))


def plain(tokenizer: Any) -> Any:
    """A tokenizer without its pictures."""
    return tokenizer.inner if isinstance(tokenizer, PictureTokenizer) else tokenizer


def _marked(message: Message, marks: Iterator[str]) -> Message:
    """A message with a mark for each picture; parts stay parts, which some templates look at."""
    if isinstance(message.content, str):
        return replace(message, content=message.content.replace(_MARK, "\ufffd"))
    parts = (
        next(marks) if isinstance(part, Image) else part.replace(_MARK, "\ufffd")
        for part in message.content
    )
    return replace(message, content=tuple(parts))


def images_of(messages: Sequence[Message]) -> list[Image]:
    """The pictures of messages, in order."""
    return [
        part
        for message in messages
        if not isinstance(message.content, str)
        for part in message.content
        if isinstance(part, Image)
    ]


# ---------------------------------------------------------------- finding


def runs(ids: Sequence[int], form: PictureFormat) -> list[tuple[int, int]]:
    """Where placeholders stand behind a start id: first and one past last, for each run.

    >>> runs((5, 1, 2, 2, 3, 2, 1, 3), PictureFormat(start=1, pad=2, end=3))
    [(2, 4)]
    """
    found: list[tuple[int, int]] = []
    at = 1
    while at < len(ids):
        if ids[at] == form.pad and ids[at - 1] == form.start:
            end = at
            while end < len(ids) and ids[end] == form.pad:
                end += 1
            found.append((at, end))
            at = end
        at += 1
    return found


def view_pictures(view: View, log: Log, renderer: Renderer, ids: Ids) -> tuple[Picture, ...]:
    """The pictures of a view that was encoded as `ids`; none for a renderer that writes none.

    What a policy sampled is no picture, even if it looks like one. Raises `MemoryFault` where a
    view shows a part of a picture.
    """
    if not isinstance(renderer, PictureRenderer):
        return ()
    form = renderer.form
    stretches = _stretches(view, log)
    if not any(images for _, images in stretches):
        return ()
    real: list[Image | None] = []
    for shown, images in stretches:
        sizes = [end - start for start, end in runs(shown, form)]
        if not sizes and form.pad not in shown:
            images = []  # left out whole
        if images and [form.count(image) for image in images] != sizes:
            raise MemoryFault(
                f"a view shows {len(sizes)} pictures whole where {len(images)} were written: "
                "leave out whole messages that hold pictures, not parts of them"
            )
        real += images or [None] * len(sizes)
    places = runs(ids, form)
    if len(places) != len(real):
        raise Bug(f"{len(real)} runs of placeholders in a view, {len(places)} in its ids")
    return tuple(
        Picture(start, image)
        for (start, _), image in zip(places, real, strict=True)
        if image is not None
    )


def _stretches(view: View, log: Log) -> list[tuple[Ids, list[Image]]]:
    """The ids of each item and the pictures in them; items of one turn are one stretch."""
    found: list[tuple[Ids, list[Image]]] = []
    speaker = -1
    for item in view.items:
        ids, images, turn = _shown(item, log)
        if turn >= 0 and turn == speaker:
            found[-1] = ((*found[-1][0], *ids), [])
        else:
            found.append((ids, images))
        speaker = turn
    return found


def _shown(item: Ref | Synth, log: Log) -> tuple[Ids, list[Image], int]:
    if isinstance(item, Synth):
        return item.token_ids, images_of(item.messages), -1
    event = log[item.event]
    ids = event.token_ids[item.start : item.end]
    if event.kind in ("model", "memory"):
        return ids, [], event.turn if event.kind == "model" else -1
    return ids, images_of(event.messages), -1
