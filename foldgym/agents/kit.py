"""What a transcript is made with and what it hands out: the memory's kit, a loan, a voice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from foldgym.agents.renderers import Renderer, When
from foldgym.types import Budget, Ids, Message, Role, Scorer, Snapshot, Synth, Tool, View


@dataclass(frozen=True, slots=True)
class RendererKit:
    """What a memory is lent (`types.Kit`)."""

    budget: Budget
    renderer: Renderer
    tools: tuple[Tool, ...] = ()
    store: Snapshot = field(default_factory=Snapshot)
    scorer: Callable[[View, Ids], tuple[float, ...]] | None = None

    def synth(self, message: Message, reason: str) -> Synth:
        """A framed message as ids nobody said."""
        return Synth(self.renderer.encode(message), reason, (message,))

    def frame(self, role: Role, before: str = "", after: str = "") -> tuple[Synth, Synth]:
        """A frame whose inside is somebody's recorded ids."""
        opened, closed = self.renderer.frame(role)
        encode = self.renderer.tokenizer.encode
        return (
            Synth((*opened, *encode(before)), "frame"),
            Synth((*encode(after), *closed), "frame"),
        )

    def thoughts(self, ids: Ids, when: When) -> tuple[tuple[int, int], ...]:
        """What the renderer's family leaves out of a turn."""
        return self.renderer.thoughts(ids, when)


@dataclass(frozen=True, slots=True)
class Loan:
    """What comes from outside the episode: the store as it is, and who reads probabilities."""

    store: Snapshot = field(default_factory=Snapshot)
    scorer: Scorer | None = None


@dataclass(frozen=True, slots=True)
class Moment:
    """`memory.view(Log(log[:events]), state)` is the view of that moment."""

    events: int
    state: Any


@dataclass(frozen=True, slots=True)
class Aside:
    """An answer given on the side: the turn it was, and its text."""

    turn: int
    text: str


@dataclass(frozen=True, slots=True)
class Voice:
    """Who speaks: a lineage, spoken by the policy or by the auxiliary one, trained or not."""

    lineage: str = "main"
    by: Literal["policy", "aux"] = "policy"
    trainable: bool = True
