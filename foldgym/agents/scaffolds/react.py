"""ReAct: one lineage that speaks, acts and hears, with the run's memory."""

from __future__ import annotations

from foldgym.agents.stage import Stage
from foldgym.types import Stop


class ReAct:
    """Think and act in one stream: `agents.conversation.converse`, and nothing around it."""

    roles = ("main",)

    async def run(self, stage: Stage) -> Stop:
        """One conversation with the world."""
        return await stage.converse(await stage.lineage("main", memory=stage.memory()))
