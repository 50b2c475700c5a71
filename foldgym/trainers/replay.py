"""Old trajectories for new updates: SPEAR's self-imitation and ReMix's recent policies.

Trajectories keep the versions and log-probs of their sampler, which is what makes training on them
again sound. Everything survives `state` / `load`, so a resumed run replays the same ones. To add a
buffer, write the class and a line in `REPLAYS`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from foldgym.errors import ConfigError
from foldgym.records import from_table, group_table, read_groups, to_table
from foldgym.seeding import generator
from foldgym.trainers.advantages.credit import broadcast
from foldgym.types import Credits, Group, Json, Request, Reward, Trajectory

if TYPE_CHECKING:
    from foldgym.types import Floats


class Extra(NamedTuple):
    """Groups that are trained beside a batch, with their own credit and share of the loss."""

    groups: list[Group]
    credits: Credits
    scale: float


class Replay(Protocol):
    """What a run asks of a buffer, in this order each step."""

    def again(self, step: int, fresh: int) -> list[Group]:
        """Groups that join the `fresh` new ones before credit is given."""
        ...

    def extra(self, step: int) -> Extra | None:
        """Groups that come beside the batch with a credit of their own."""
        ...

    def store(self, groups: Sequence[Group], credits: Credits, step: int) -> None:
        """The fresh groups of this step and their credit."""
        ...

    def state(self) -> dict[str, Json]:
        """Everything a resumed run needs, as JSON."""
        ...

    def load(self, state: Mapping[str, Json]) -> None:
        """The inverse of `state`."""
        ...


# ---------------------------------------------------------------- SPEAR


def recalibrated(rewards_M: Floats, history_H: Floats) -> tuple[float, Floats]:
    """The median of earlier group means, and `R - median` [M].

    Source: SPEAR (CODE); linear interpolation. Without history the baseline is 0.
    """
    median = float(np.median(history_H)) if len(history_H) else 0.0
    return median, rewards_M - median


def replay_coef(step: int, max_steps: int, coef: float) -> float:
    """`coef (1 - cos(pi step / max_steps)) / 2`, and `coef` afterwards. Source: SPEAR (CODE)."""
    if step >= max_steps:
        return coef
    return coef * (1 - math.cos(math.pi * step / max_steps)) / 2


@dataclass(frozen=True, slots=True)
class _Kept:
    trajectory: Trajectory
    reward: Reward
    step: int


class SelfImitation:
    """SPEAR: good tool-using trajectories, imitated as long as they beat what is usual now.

    Stores trajectories with credit above 0 and at least one tool call. When more than
    `1.5 * size` are there (and at least `size` group means, since a percentile of few is noise),
    all that are at most `tolerate` updates old are replayed once, with `A = R - P50` of the last
    `history` group means, those with `A > 0` only; then the buffer starts anew. The loss of what is
    replayed is clip-cov times `replay_coef`. Source: SPEAR (CODE). README and code disagree on the
    threshold of admission; this is the code's.
    """

    def __init__(
        self,
        *,
        size: int = 128,
        tolerate: int = 10,
        history: int = 10240,
        coef: float = 1.0,
        steps: int = 200,
    ) -> None:
        if not 1 <= tolerate <= 10:
            raise ConfigError(
                f"replay.tolerate: {tolerate} is not allowed; SPEAR replays what is 1 to 10 "
                "updates old"
            )
        if size < 1 or history < 1 or steps < 1 or coef <= 0:
            raise ConfigError(
                "replay: size, history and steps must be at least 1 and coef above 0, "
                f"not {size}, {history}, {steps} and {coef}"
            )
        self.size, self.tolerate, self.coef, self.steps = size, tolerate, coef, steps
        self._kept: list[_Kept] = []
        self._means: deque[float] = deque(maxlen=history)

    def again(self, step: int, fresh: int) -> list[Group]:
        """Nothing: what is replayed has its own baseline."""
        del step, fresh
        return []

    def extra(self, step: int) -> Extra | None:
        """The whole buffer once it is full, as one group."""
        self._kept = [kept for kept in self._kept if step - kept.step <= self.tolerate]
        if len(self._kept) <= 1.5 * self.size or len(self._means) < min(
            self.size, self._means.maxlen or self.size
        ):
            return None
        rewards_M = np.array([kept.reward.total for kept in self._kept])
        _, advantage_M = recalibrated(rewards_M, np.array(self._means))
        chosen = [i for i in range(len(self._kept)) if advantage_M[i] > 0]
        members = [self._kept[i] for i in chosen]
        self._kept = []
        scale = replay_coef(step, self.steps, self.coef)
        if not members or scale == 0:
            return None
        group = Group(
            Request("replay", 0, len(members)),
            tuple(kept.trajectory for kept in members),
            tuple(kept.reward for kept in members),
        )
        credit = tuple(
            broadcast(kept.trajectory, float(advantage_M[i]))
            for i, kept in zip(chosen, members, strict=True)
        )
        return Extra([group], (credit,), scale)

    def store(self, groups: Sequence[Group], credits: Credits, step: int) -> None:
        """Keeps the good ones, and the mean of every group."""
        for group, credit_G in zip(groups, credits, strict=True):
            if not group.rewards:
                continue
            self._means.append(float(np.mean([reward.total for reward in group.rewards])))
            if _guided(group):
                continue
            for trajectory, reward, credit in zip(
                group.trajectories, group.rewards, credit_G, strict=True
            ):
                used_tools = any(turn.message.tool_calls for turn in trajectory.turns)
                if used_tools and any((part > 0).any() for part in credit):
                    self._kept.append(_Kept(trajectory, reward, step))

    def state(self) -> dict[str, Json]:
        """The buffer and the history."""
        return {
            "kept": [to_table(k.trajectory, k.reward, step=k.step) for k in self._kept],
            "means": list(self._means),
        }

    def load(self, state: Mapping[str, Json]) -> None:
        """The inverse of `state`."""
        self._kept = [
            _Kept(*_scored(table), step=table["notes"]["step"]) for table in state["kept"]
        ]
        self._means.clear()
        self._means.extend(state["means"])


# ---------------------------------------------------------------- ReMix


class RecentPolicies:
    """ReMix: whole groups of the last `policies` updates make up `share` of a batch.

    Their advantages are those of their own rewards; the loss must know how far the policy has
    moved since (`mix_ppg`, `remix`, `decoupled`). From update `until` on nothing is replayed
    (0: always). Source: ReMix (NOTE): share 0.4 of the last 2 policies.
    """

    def __init__(
        self, *, policies: int = 2, share: float = 0.4, until: int = 50, seed: int = 0
    ) -> None:
        if policies < 1 or not 0 < share < 1:
            raise ConfigError(
                f"replay: policies must be at least 1 and share in (0, 1), not {policies} "
                f"and {share}"
            )
        self.policies, self.share, self.until, self.seed = policies, share, until, seed
        self._steps: deque[tuple[int, list[Group]]] = deque(maxlen=policies)

    def again(self, step: int, fresh: int) -> list[Group]:
        """As many old groups as make `share` of the batch beside `fresh` new ones, if there are."""
        if self.until and step >= self.until:
            self._steps.clear()
            return []
        pool = [group for _, groups in self._steps for group in groups]
        want = round(self.share / (1 - self.share) * fresh)
        picked = generator(self.seed, "remix", step).sample(range(len(pool)), min(want, len(pool)))
        return [pool[i] for i in sorted(picked)]

    def extra(self, step: int) -> Extra | None:
        """Nothing: what is replayed lies in the batch itself."""
        del step

    def store(self, groups: Sequence[Group], credits: Credits, step: int) -> None:
        """Keeps the groups of this update and forgets those of the oldest."""
        del credits
        self._steps.append((step, [g for g in groups if g.trajectories and not _guided(g)]))

    def state(self) -> dict[str, Json]:
        """The groups of each update."""
        return {
            "steps": [
                [step, [group_table(group) for group in groups]] for step, groups in self._steps
            ]
        }

    def load(self, state: Mapping[str, Json]) -> None:
        """The inverse of `state`."""
        self._steps.clear()
        for step, tables in state["steps"]:
            self._steps.append((step, list(read_groups(tables))))


REPLAYS: dict[str, Callable[..., Replay]] = {"remix": RecentPolicies, "spear": SelfImitation}


# ---------------------------------------------------------------- asynchronous rollout


def capacity(
    *,
    max_staleness: int,
    version: int,
    batch: int,
    accepted: int,
    running: int,
    max_concurrent: int,
) -> int:
    """How many rollouts may start so that none is older than `max_staleness` when consumed.

    `min(max_concurrent - running, (max_staleness + version + 1) batch - (accepted + running))`;
    may be negative. A run resumed at version v has `accepted = v * batch`. Source: AReaL (CODE).
    """
    free = max_concurrent - running
    return min(free, (max_staleness + version + 1) * batch - (accepted + running))


def _guided(group: Group) -> bool:
    """Guided attempts are not what the policy would do by itself, and are never replayed."""
    return any(guide.helps for guide in group.request.guides)


def _scored(table: Mapping[str, Json]) -> tuple[Trajectory, Reward]:
    record = from_table(table)
    assert record.reward is not None
    return record.trajectory, record.reward
