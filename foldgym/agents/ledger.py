"""What the lineages of one trajectory share: numbered turns, counters, segments."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from foldgym.agents.counting import shared_prefix
from foldgym.agents.recorder import Recorder
from foldgym.types import Completion, Finish, Ids, Message, Prompt, Segment, Turn

REPLAY = "replay"  # purpose of a turn that nobody sampled in this episode
INSTEAD = "instead"  # in the info of a memory's turn: the prompt of an act in its place


class Ledger:
    """Turns are numbered when they begin, so that lineages may speak at the same time."""

    def __init__(self) -> None:
        self.turns: list[Turn] = []
        self.counters: Counter[str] = Counter()
        self._recorder = Recorder()
        self._unsaid: set[int] = set()

    def begin(self, purpose: str, lineage: str) -> int:
        """A turn that somebody is about to say; returns its number."""
        turn = len(self.turns)
        self.turns.append(Turn(turn, Message("assistant"), purpose=purpose, lineage=lineage))
        self._unsaid.add(turn)
        return turn

    def recall(self, message: Message, problem: str, lineage: str, finish: Finish) -> int:
        """A turn of somebody else's; returns its number."""
        turn = len(self.turns)
        self.turns.append(
            Turn(turn, message, (), 0.0, REPLAY, lineage, problem=problem, finish=finish)
        )
        self.counters["replayed_turns"] += 1
        return turn

    def call(
        self, prompt: Prompt, said: Completion, lineage: str, *, trainable: bool, may_rewrite: bool
    ) -> None:
        """One call of the policy: its segment grows."""
        self._recorder.call(
            prompt.ids,
            said,
            prompt.turn,
            lineage=lineage,
            trainable=trainable,
            may_rewrite=may_rewrite,
            pictures=prompt.pictures,
        )

    def said(self, prompt: Prompt, said: Completion, message: Message, problem: str) -> None:
        """The turn `prompt.turn` so far: what it says, and one call more."""
        turn = self.turns[prompt.turn]
        self._unsaid.discard(prompt.turn)
        self.turns[prompt.turn] = replace(
            turn,
            message=message,
            problem=problem,
            finish=said.finish,
            prompt_tokens=turn.prompt_tokens + len(prompt.ids),
            sampled_tokens=turn.sampled_tokens + len(said.ids),
        )

    def instead(self, prompt: Prompt, acting: Ids) -> None:
        """The turn `prompt.turn` was said for a memory; `acting` would have been shown to act.

        Its info tells these ids by the prompt's: how many first ids they share, then the rest.
        """
        shared = shared_prefix(prompt.ids, acting)
        info = {INSTEAD: [shared, *acting[shared:]]}
        self.turns[prompt.turn] = replace(self.turns[prompt.turn], info=info)

    def finished(self) -> tuple[Turn, ...]:
        """All turns but the last ones that nobody came to say, as when an engine failed."""
        turns = list(self.turns)
        while turns and turns[-1].index in self._unsaid:
            turns.pop()
        return tuple(turns)

    def freeze(self) -> tuple[Segment, ...]:
        """The segments; the episode's tokens exactly as they were sampled."""
        return self._recorder.freeze()
