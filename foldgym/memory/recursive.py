"""One summary of everything so far, written again at the end of every episode."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from foldgym.memory.blocks import NOTICE, as_data, behind_task, recap
from foldgym.memory.wrapping import Wrapped, Wrapper
from foldgym.types import Ask, At, Boundary, Kit, Log, Memory, Message, Proposal, Synth, View

SUMMARY = "summary"
INSTRUCTION = (
    "Write the summary that later episodes will see instead of the one above: what it says that "
    "still matters, and what this episode adds."
)


@dataclass(frozen=True, slots=True)
class Summed(Wrapped):
    """State of `RecursiveSummary`: the old summary in view, and the new one once it is written."""

    kit: Kit
    instruction: Synth
    block: tuple[Synth, ...] = ()
    written: str = ""
    refused: int = 0
    ended: bool = False

    @property
    def failed(self) -> int:
        """Summaries that could not be taken, and the inner memory's refused folds."""
        return self.refused + getattr(self.inner, "failed", 0)

    @property
    def proposal(self) -> Proposal | None:
        """The new summary, behind what the inner memory proposes; none before the end."""
        if not self.ended:
            return None
        inner: Proposal = getattr(self.inner, "proposal", None) or Proposal()
        put = ((SUMMARY, self.written),) if self.written else ()
        used = (SUMMARY,) if self.block else ()
        return Proposal((*inner.put, *put), inner.drop, (*inner.used, *used))


class RecursiveSummary(Wrapper):
    """Any memory with the summary of all earlier episodes behind the task.

    At the end the writer sees the task, the summary and the newest turns, and writes the next
    summary, of at most `max_tokens`. If nothing comes, the old one stays. Of a group's summaries
    the store takes one: let `"best"` or `"majority"` write.
    Source: the recursive-summary memory of BFCL (memory spec C9).
    """

    def __init__(
        self,
        inner: Memory | str = "full",
        max_tokens: int = 256,
        by: Literal["policy", "aux"] = "policy",
        instruction: str = INSTRUCTION,
        options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(inner, options)
        if max_tokens < 1:
            raise ValueError(f"RecursiveSummary needs max_tokens >= 1, not {max_tokens}")
        self.max_tokens, self.instruction = max_tokens, instruction
        self.by: Literal["policy", "aux"] = by
        self.keeps = True

    @property
    def rewrites(self) -> bool:
        """What the policy sums up is said on a view of its own."""
        return self.by == "policy" or self.inner.rewrites

    @property
    def asks(self) -> tuple[str, ...]:
        """Purposes for which the policy writes."""
        inner: tuple[str, ...] = getattr(self.inner, "asks", ())
        return (*inner, "recap") if self.by == "policy" else inner

    def start(self, log: Log, kit: Kit) -> Summed:
        """The summary as it is, tokenised once."""
        instruction = kit.synth(Message("user", self.instruction), "recap")
        texts = [item.text for item in kit.store.items if item.key == SUMMARY]
        block = tuple(kit.synth(Message("user", as_data([t], NOTICE)), "store") for t in texts)
        return Summed(self.inner.start(log, kit), kit, instruction, block)

    def view(self, log: Log, state: Summed) -> View:
        """The inner view, the summary behind its task."""
        return behind_task(self.inner.view(log, state.inner), log, state.block)

    async def on(self, boundary: Boundary, log: Log, state: Summed, ask: Ask) -> Summed:
        """Sums up at the end; otherwise the boundary is the inner memory's."""
        state = replace(state, inner=await self.inner.on(boundary, log, state.inner, ask))
        if boundary.at is not At.EPISODE_END:
            return state
        prompt = recap(log, state.kit, state.block, state.instruction, self.max_tokens)
        note = await ask("recap", prompt, self.max_tokens, self.by)
        text = note.messages[0].text.strip() if note else ""
        return replace(state, written=text, refused=state.refused + (not text), ended=True)
