"""Typed looks into a row of a data set; what is wrong is told with the field and its value."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from foldgym.envs.qa.rows import Malformed
from foldgym.types import Json

_SHOWN = 80


@dataclass(frozen=True, slots=True)
class Columns:
    """One row. Every method raises `Malformed` for a field that is missing or of another kind."""

    row: Mapping[str, Json]

    def text(self, name: str, default: str | None = None) -> str:
        """A text; `default` where the field is missing or null."""
        value = self._value(name, default)
        if not isinstance(value, str):
            raise Malformed(f"{name} is {shown(value)}, not a text")
        return value

    def tests(self, name: str, default: tuple[str, ...] | None = None) -> tuple[str, ...]:
        """Names of tests: a list, or a text that holds one as JSON."""
        value = self._value(name, default)
        if isinstance(value, str):
            value = self._json(name, value)
        names = cast("list[Any]", value)
        if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in names):
            raise Malformed(f"{name} is {shown(value)}, not a list of tests' names")
        return tuple(names)

    def table(self, name: str, default: Mapping[str, Json] | None = None) -> dict[str, Json]:
        """An object, or a text that holds one as JSON."""
        value = self._value(name, default)
        if isinstance(value, str):
            value = self._json(name, value)
        if not isinstance(value, Mapping):
            raise Malformed(f"{name} is {shown(value)}, not an object")
        return dict(cast("Mapping[str, Json]", value))

    def others(self, *read: str) -> dict[str, Json]:
        """The fields that have a value and are none of these."""
        return {k: v for k, v in self.row.items() if k not in read and v is not None}

    def _value(self, name: str, default: Any) -> Any:
        value = self.row.get(name)
        if value is None:
            value = default
        if value is None:
            raise Malformed(f"{name} is missing; there are {', '.join(sorted(self.row))}")
        return value

    def _json(self, name: str, value: str) -> Any:
        try:
            return json.loads(value)
        except (json.JSONDecodeError, RecursionError):
            raise Malformed(f"{name} is {shown(value)}, which is no JSON") from None


def shown(value: Any) -> str:
    """A value, cut to what fits on a line."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
