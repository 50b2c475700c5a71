"""Programs over lineages: who speaks when in an episode, each with its own memory and segments."""

from __future__ import annotations

from foldgym.agents.scaffolds.react import ReAct

SCAFFOLDS = {"react": ReAct}

__all__ = ["SCAFFOLDS", "ReAct"]
