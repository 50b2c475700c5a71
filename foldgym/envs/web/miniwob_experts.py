"""Scripted players of MiniWoB++ tasks: they read what a player sees, and act by ref."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from foldgym.types import Message

Node = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Scene:
    """The question, the elements in document order, and what the player has done so far."""

    said: str
    nodes: tuple[Node, ...]
    done: tuple[Message, ...] = ()


Expert = Callable[[Scene], Message]


EXPERTS: Mapping[str, Expert] = {}
