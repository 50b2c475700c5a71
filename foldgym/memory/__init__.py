"""What the agent is shown of its past. A memory decides the view, never what is trained."""

from __future__ import annotations

from foldgym.memory.chunks import HiAgent
from foldgym.memory.deepagent import DeepAgentFold
from foldgym.memory.folding import Summarise
from foldgym.memory.notes import Mem1State, NotesAndClear
from foldgym.memory.pruning import ErrorPrune, MemoryEdit
from foldgym.memory.thinking import Delethink
from foldgym.memory.views import FullHistory, OmitObservations, SlidingWindow
from foldgym.memory.wrapping import Reminder

MEMORIES = {
    "full": FullHistory,
    "window": SlidingWindow,
    "omit": OmitObservations,
    "errors": ErrorPrune,
    "mem1": Mem1State,
    "notes": NotesAndClear,
    "edit": MemoryEdit,
    "summarise": Summarise,
    "hiagent": HiAgent,
    "deepagent": DeepAgentFold,
    "delethink": Delethink,
    "reminder": Reminder,
}

__all__ = [
    "MEMORIES",
    "DeepAgentFold",
    "Delethink",
    "ErrorPrune",
    "FullHistory",
    "HiAgent",
    "Mem1State",
    "MemoryEdit",
    "NotesAndClear",
    "OmitObservations",
    "Reminder",
    "SlidingWindow",
    "Summarise",
]
