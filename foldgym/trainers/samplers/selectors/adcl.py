"""ADCL: blocks of tasks, each sorted from easy to hard by what is known when its turn comes."""

from __future__ import annotations

from collections.abc import Mapping

from foldgym.errors import ConfigError
from foldgym.trainers.samplers.selectors.by_arm import ByArm
from foldgym.trainers.samplers.selectors.explore import arm_shares
from foldgym.trainers.samplers.slots import Desk, Pick
from foldgym.types import Json

_ALL = 1 << 30


class Adcl(ByArm):
    """Goes through all tasks in random order, `block` at a time; each block is sorted when begun.

    How hard a task is, is what the statistics say now: its own faded success rate, else its arm's,
    else 1/2. So difficulty follows the policy, and only the next block is judged anew. A block is a
    permutation of itself, and every task is met once per round. No task is left out, so arms need
    no floor.
    Source: ADCL (text); `block` 64 is OURS. The paper re-estimates with extra rollouts of the
    policy; here past rollouts of the same tasks serve, which costs nothing and lags a round.
    """

    by_task = True

    def __init__(self, block: int = 64) -> None:
        if block < 1:
            raise ConfigError(f"adcl needs block >= 1, not {block}")
        self._block = block
        self._round: list[list[Json]] = []  # [arm, seed] still to come, in the round's order
        self._next: list[list[Json]] = []  # the block being played, sorted

    def probs(self, desk: Desk) -> dict[str, float]:
        """Every task comes once per round, so arms have equal shares."""
        pool = desk.source.pool(_ALL, desk)
        return arm_shares(pool, [1.0] * len(pool), desk)

    def pick(self, want: int, place: int, desk: Desk) -> list[Pick]:
        """The next tasks of the block; a new block, or a new round, where it ends."""
        arms = {arm.name: arm for arm in desk.arms}
        picks: list[Pick] = []
        while len(picks) < want:
            if not self._next:
                self._begin(desk)
            arm, seed = self._next.pop(0)
            picks.append(Pick(arms[arm], seed))
        return picks

    def _begin(self, desk: Desk) -> None:
        if not self._round:
            pool = desk.source.pool(_ALL, desk)
            desk.rng.shuffle(pool)
            self._round = [[pick.arm.name, pick.seed] for pick in pool]
        block, self._round = self._round[: self._block], self._round[self._block :]
        ease = [_ease(arm, seed, desk) for arm, seed in block]
        order = sorted(range(len(block)), key=lambda i: -ease[i])
        self._next = [block[i] for i in order]

    def state(self) -> dict[str, Json]:
        """What is left of the block and of the round."""
        return {"round": self._round, "next": self._next}

    def load(self, state: Mapping[str, Json]) -> None:
        """The inverse of `state`."""
        self._round, self._next = list(state["round"]), list(state["next"])


def _ease(arm: str, seed: int, desk: Desk) -> float:
    for key in (f"{arm}#{seed}", arm):
        stat = desk.stats.get(key, desk.version)
        if stat is not None:
            return stat.mean
    return 0.5
