"""What the agent is shown of its past. A memory decides the view, never what is trained."""

from __future__ import annotations

from foldgym.memory.folding import Summarise
from foldgym.memory.views import FullHistory, OmitObservations, SlidingWindow

MEMORIES = {
    "full": FullHistory,
    "window": SlidingWindow,
    "omit": OmitObservations,
    "summarise": Summarise,
}

__all__ = ["MEMORIES", "FullHistory", "OmitObservations", "SlidingWindow", "Summarise"]
