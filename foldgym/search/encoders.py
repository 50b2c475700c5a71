"""From texts to vectors: any sentence-transformers model, or a function of your own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from foldgym.config import resolve
from foldgym.errors import DataError, UserError
from foldgym.search.extras import encodable, optional

BATCH = 64


class Encoder(Protocol):
    """Texts to their vectors, [N, D], any floating type; the same text, the same vector."""

    def __call__(self, texts: Sequence[str], /) -> Any:
        """One row for each text."""
        ...


def load_encoder(model: str = "", encoder: str | Encoder = "", device: str = "") -> Encoder:
    """A sentence-transformers `model` by name or folder, or an `encoder`: a function, or where one
    is ("module:function", "file.py:function"). Exactly one of the two.
    """
    if bool(model) == bool(encoder):
        raise UserError(
            "dense search needs a model (sentence-transformers) or an encoder (module:function), "
            f"and not both; model is {model!r}, encoder is {encoder!r}"
        )
    if encoder:
        if device:
            raise UserError("device is for a model; an encoder looks after its own")
        return resolve("encoder", encoder, {}) if isinstance(encoder, str) else encoder
    package = optional("sentence_transformers", f"the model {model!r}", "search-models")
    try:
        loaded = package.SentenceTransformer(model, device=device or None)
    except Exception as problem:  # of many kinds: no such folder, no network, no such device
        raise DataError(f"cannot load the model {model!r}: {problem}") from None

    def encode(texts: Sequence[str]) -> Any:
        return loaded.encode(
            list(texts), batch_size=BATCH, convert_to_numpy=True, show_progress_bar=False
        )

    return encode


def vectors(encode: Encoder, texts: Sequence[str], size: int = 0) -> NDArray[np.float32]:
    """[N, D]; raises `UserError` unless they are finite and, where `size` is given, `size` long."""
    found = np.asarray(encode([encodable(text) for text in texts]), dtype=np.float32)
    wrong = found.ndim != 2 or len(found) != len(texts) or (size and found.shape[1] != size)
    if wrong:
        expected = f"({len(texts)}, {size or 'D'})"
        raise UserError(f"the encoder returned an array of shape {found.shape}, not {expected}")
    if not np.isfinite(found).all():
        raise UserError("the encoder returned numbers that are not finite")
    return found
