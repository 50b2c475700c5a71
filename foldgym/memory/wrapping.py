"""Memories around another memory: what they all share, and the inner memory by its name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from foldgym.types import (
    Memory,
    Proposal,
    Tool,
)


def inner_memory(inner: Memory | str, options: Mapping[str, Any] | None) -> Memory:
    """The memory to wrap: itself, or by the name and the options that a run file gives.

    Raises `UnknownName` and `ConfigError` as `[memory] use` does, and `ValueError` for options
    beside a memory that is already made.
    """
    if isinstance(inner, str):
        from foldgym.config.plugins import bind, resolve
        from foldgym.memory import MEMORIES

        make = resolve("memory", inner, MEMORIES)
        return bind("memory", make, options or {}, "memory.options")()
    if options:
        raise ValueError(f"options go with the name of a memory, not with {inner!r}")
    if not hasattr(inner, "view"):
        raise ValueError(f"inner must be a memory or the name of one, not {inner!r}")
    return inner


@dataclass(frozen=True, slots=True)
class Wrapped:
    """Base of the states of memories around another: what the inner state has to say, it says."""

    inner: Any

    @property
    def reply(self) -> str:
        """The inner memory's answer to a call of its tool."""
        return getattr(self.inner, "reply", "")

    @property
    def failed(self) -> int:
        """The inner memory's refused folds."""
        return getattr(self.inner, "failed", 0)

    @property
    def proposal(self) -> Proposal | None:
        """What the inner memory wants of the store."""
        return getattr(self.inner, "proposal", None)

    @property
    def numbers(self) -> Mapping[str, float]:
        """The inner memory's counters."""
        return getattr(self.inner, "numbers", {})


class Wrapper:
    """Base of memories around another: tools and promises are the inner memory's.

    `keeps` says whether it reads and writes a store.
    """

    def __init__(self, inner: Memory | str, options: Mapping[str, Any] | None = None) -> None:
        self.inner = inner_memory(inner, options)
        self.keeps: bool = getattr(self.inner, "keeps", False)

    @property
    def rewrites(self) -> bool:
        """As the inner memory."""
        return self.inner.rewrites

    @property
    def stops(self) -> tuple[str, ...]:
        """The inner memory's stop strings."""
        return getattr(self.inner, "stops", ())

    @property
    def asks(self) -> tuple[str, ...]:
        """Purposes for which the policy writes."""
        return getattr(self.inner, "asks", ())

    def tools(self) -> tuple[Tool, ...]:
        """The inner memory's."""
        return self.inner.tools()
