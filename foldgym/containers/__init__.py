"""Sandboxes: where a model's commands run, and nothing outlives the run that started them."""

from foldgym.containers.opening import BACKENDS, available, open_box
from foldgym.containers.pool import Pool
from foldgym.containers.reaper import Found, find, reap
from foldgym.containers.sandbox import BoxSpec, End, Limits, Result, Sandbox, Snapshot, pack

__all__ = [
    "BACKENDS",
    "BoxSpec",
    "End",
    "Found",
    "Limits",
    "Pool",
    "Result",
    "Sandbox",
    "Snapshot",
    "available",
    "find",
    "open_box",
    "pack",
    "reap",
]
