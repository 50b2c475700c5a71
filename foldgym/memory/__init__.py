"""What the agent is shown of its past. A memory decides the view, never what is trained."""

from __future__ import annotations

from foldgym.memory.banks import KvStore, VectorStore
from foldgym.memory.chunks import HiAgent
from foldgym.memory.deepagent import DeepAgentFold
from foldgym.memory.dropping import DropThinking
from foldgym.memory.folding import Summarise
from foldgym.memory.notes import Mem1State, NotesAndClear
from foldgym.memory.pruning import ErrorPrune, MemoryEdit
from foldgym.memory.recursive import RecursiveSummary
from foldgym.memory.reminding import Reminder
from foldgym.memory.reseek import ReSeek
from foldgym.memory.sheets import CheatsheetCu, CheatsheetRs
from foldgym.memory.store import Store
from foldgym.memory.thinking import Delethink
from foldgym.memory.views import FullHistory, OmitObservations, SlidingWindow

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
    "drop_thinking": DropThinking,
    "reminder": Reminder,
    "cheatsheet": CheatsheetCu,
    "cheatsheet_rs": CheatsheetRs,
    "keys": KvStore,
    "vectors": VectorStore,
    "recursive": RecursiveSummary,
    "reseek": ReSeek,
}

__all__ = [
    "MEMORIES",
    "CheatsheetCu",
    "CheatsheetRs",
    "DeepAgentFold",
    "Delethink",
    "DropThinking",
    "ErrorPrune",
    "FullHistory",
    "HiAgent",
    "KvStore",
    "Mem1State",
    "MemoryEdit",
    "NotesAndClear",
    "OmitObservations",
    "ReSeek",
    "RecursiveSummary",
    "Reminder",
    "SlidingWindow",
    "Store",
    "Summarise",
    "VectorStore",
]
