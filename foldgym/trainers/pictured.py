"""The layout of batches for models that see: padded rows, with the pictures of each."""

from __future__ import annotations

from typing import Any

import numpy as np

from foldgym.agents.engines.vision import feed, format_of
from foldgym.agents.pictures import PictureFormat
from foldgym.errors import ConfigError
from foldgym.trainers.layout import Layout, Padded, Sheet
from foldgym.types import Batch


class Pictured(Padded):
    """As `Padded`; pixels and rotary positions are those that the sampler fed."""

    def __init__(self, form: PictureFormat) -> None:
        self._form = form

    def lay(self, batch: Batch, device: Any) -> Sheet:
        """See `Layout`."""
        trained, columns = np.nonzero(batch.weight_BT)
        pictures = batch.pictures or ((),) * batch.rows
        rows = [
            (ids_T[:length].tolist(), seen)
            for ids_T, length, seen in zip(batch.ids_BT, batch.length_B, pictures, strict=True)
        ]
        inputs: dict[str, Any] = {**feed(rows, self._form, device).inputs, "use_cache": False}
        return Sheet(inputs, trained, columns - 1, batch.ids_BT[trained, columns])


def pictured(layout: Layout, model: Any) -> Layout:
    """The layout that a model needs. Raises `ConfigError` where packing would meet pictures."""
    form = format_of(model)
    if form is None or isinstance(layout, Pictured):
        return layout
    if type(layout) is Padded:
        return Pictured(form)
    raise ConfigError(
        f"{type(layout).__name__.lower()} rows do not go with a model that sees pictures, whose "
        'positions have three axes; use layout = "padded"'
    )
