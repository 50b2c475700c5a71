"""Parallel drafts, distilled to a bounded workspace and refined; or one draft after another."""

from __future__ import annotations

from typing import Literal

from foldgym.agents.kit import Aside
from foldgym.agents.scaffolds.wording import blocks, clip, wording
from foldgym.agents.stage import Stage
from foldgym.agents.transcript import Transcript
from foldgym.types import Message, Stop

WORDS = {
    "draft": "Think the task above through and write down a full attempt at what to do now.",
    "distil": "Write notes that will replace everything below: what holds, what turned out wrong, "
    "what is left to try.",
    "extract": "Copy out of this attempt what is worth keeping, and nothing else.",
    "workspace": "Worked out beforehand:",
}


class PDR:
    """Rounds of parallel drafts before the speaker's turn; what is left of them is shown to it.

    Round r has `drafts[r]` drafts of at most `draft_tokens` tokens. Each sees what the speaker
    sees and the workspace of the round before; then the workspace is distilled anew, to at most
    `kappa` tokens: `"summary"` folds one draft after another into it, `"extract"` takes a part of
    each, written on its own, `"sample"` keeps `keep` drafts by chance, word for word. So no call
    sees more than the task, one workspace and one draft. The speaker's turn is the last round.

    `each_turn` drafts before every turn, otherwise before the first only. The counter
    `sequential_tokens` is the longest path (latency), `sampled_tokens` the cost.
    Source: Rethinking Thinking Tokens (memory spec A8); the released kinds of distillation are
    unverified, so all three are here.
    """

    roles = ("main", "draft", "distil")

    def __init__(
        self,
        drafts: tuple[int, ...] = (4,),
        kappa: int = 256,
        draft_tokens: int = 256,
        distil: Literal["summary", "extract", "sample"] = "summary",
        keep: int = 2,
        each_turn: bool = False,
        words: dict[str, str] | None = None,
    ) -> None:
        if not drafts or min(drafts) < 1:
            raise ValueError(
                f"drafts must hold a number of at least 1 for each round, not {drafts}"
            )
        if min(kappa, draft_tokens, keep) < 1:
            raise ValueError(
                f"kappa, draft_tokens and keep must be at least 1, not {kappa}, {draft_tokens}, "
                f"{keep}"
            )
        self.drafts, self.kappa, self.draft_tokens = drafts, kappa, draft_tokens
        self.distil, self.keep, self.each_turn = distil, keep, each_turn
        self.words = wording(WORDS, words)

    async def run(self, stage: Stage) -> Stop:
        """Drafts, then the speaker's turn, and so on."""
        main = await stage.lineage("main", memory=stage.memory())
        thought = False

        async def think() -> None:
            nonlocal thought
            if (self.each_turn or not thought) and stage.seconds_left > 0:
                thought = True
                await self._think(stage, main)

        stop = await stage.converse(main, before=think)
        spoken = [turn.sampled_tokens for turn in main.turns if turn.lineage == "main"]
        main.counters["sequential_tokens"] += sum(spoken)
        return stop

    async def _think(self, stage: Stage, main: Transcript) -> None:
        workspace = ""
        for number, count in enumerate(self.drafts):
            told = blocks(self.words["draft"], notes=workspace)
            voices = [stage.voice(f"draft/{place}") for place in range(count)]
            written = await stage.together(
                [main.aside("draft", told, self.draft_tokens, voice) for voice in voices]
            )
            drafts = [draft for draft in written if draft is not None]
            main.counters["sequential_tokens"] += self._longest(main, drafts)
            texts = [clip(d.text, self.draft_tokens, stage.renderer.tokenizer) for d in drafts]
            workspace = await self._distilled(stage, main, workspace, texts, number)
        if workspace:
            main.show(Message("user", f"{self.words['workspace']}\n{workspace}"))

    async def _distilled(
        self, stage: Stage, main: Transcript, workspace: str, drafts: list[str], number: int
    ) -> str:
        """The workspace of the next round, at most `kappa` tokens; the old one if nothing came."""
        tokenizer = stage.renderer.tokenizer
        if self.distil == "sample":
            chosen = stage.rng("distil", main.acted, number).sample(
                range(len(drafts)), min(self.keep, len(drafts))
            )
            kept = "\n\n".join(drafts[place] for place in sorted(chosen))
            return clip(kept, self.kappa, tokenizer) or workspace
        if self.distil == "extract":
            told = [blocks(self.words["extract"], attempt=draft) for draft in drafts]
            share = max(1, self.kappa // max(1, len(drafts)))
            parts = await stage.together(
                [
                    main.aside("distil", text, share, stage.voice(f"distil/{place}"))
                    for place, text in enumerate(told)
                ]
            )
            good = [part for part in parts if part is not None]
            main.counters["sequential_tokens"] += self._longest(main, good)
            return clip("\n".join(part.text for part in good), self.kappa, tokenizer) or workspace
        for draft in drafts:
            told = blocks(self.words["distil"], notes=workspace, attempt=draft)
            notes = await main.aside("distil", told, self.kappa, stage.voice("distil"))
            if notes is not None:
                workspace = clip(notes.text, self.kappa, tokenizer) or workspace
                main.counters["sequential_tokens"] += self._longest(main, [notes])
        return workspace

    def _longest(self, main: Transcript, asides: list[Aside]) -> int:
        """Tokens of the longest among answers that were given at once."""
        return max((main.turns[aside.turn].sampled_tokens for aside in asides), default=0)


class SequentialRefinement(PDR):
    """PDR with one draft a round: each attempt sees the last one, cut to `kappa` tokens."""

    def __init__(
        self,
        rounds: int = 3,
        kappa: int = 256,
        draft_tokens: int = 256,
        each_turn: bool = False,
        words: dict[str, str] | None = None,
    ) -> None:
        if rounds < 1:
            raise ValueError(f"rounds must be at least 1, not {rounds}")
        super().__init__((1,) * rounds, kappa, draft_tokens, "sample", 1, each_turn, words)
