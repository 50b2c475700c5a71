"""A sampler made of slots: a selector picks the world, a gate decides which groups are kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate

from foldgym.errors import ConfigError
from foldgym.seeding import derive_seed, generator
from foldgym.types import Group, Json, Request, Verdict

Selector = Callable[[int, int], str]  # (step, place) -> environment
Gate = Callable[[Group], str]  # why a group is rejected; empty to keep it


class TaskSampler:
    """Plans seeds, judges groups and refills until a step has what it wanted.

    The seed of a request is derived from the run's seed, the step and the request's place in the
    step, so no seed is played twice in a run and a resumed run plans what it would have planned.
    """

    def __init__(
        self, select: Selector, gate: Gate, seed: int, group_size: int, max_rounds: int
    ) -> None:
        if max_rounds < 1:
            raise ConfigError(f"max_rounds must be at least 1, not {max_rounds}")
        self._select, self._gate = select, gate
        self._seed, self._size, self._max_rounds = seed, group_size, max_rounds
        self._step, self._place, self._round = -1, 0, 0
        self._reasons: Counter[str] = Counter()

    def plan(self, step: int, want: int) -> list[Request]:
        """`want` new requests. Called again within a step, it refills what was rejected.

        Raises `ConfigError` when a step is still not full after `max_rounds` rounds.
        """
        if step != self._step:
            self._step, self._place, self._round = step, 0, 0
            self._reasons.clear()
        if self._round == self._max_rounds:
            why = "; ".join(f"{count} x {why}" for why, count in self._reasons.most_common(3))
            raise ConfigError(
                f"step {step} still lacks {want} groups after {self._round} rounds of rollouts. "
                f"Rejected: {why}. Choose tasks that this policy sometimes solves and sometimes "
                'does not, raise sampler.max_rounds, or set sampler.use = "uniform"'
            )
        self._round += 1
        places = range(self._place, self._place + want)
        self._place += want
        return [
            Request(
                self._select(step, place), derive_seed(self._seed, "task", step, place), self._size
            )
            for place in places
        ]

    def judge(self, group: Group) -> Verdict:
        """Keeps the group unless the gate has a reason."""
        if not group.trajectories:
            last = group.failures[-1].error if group.failures else "nothing was played"
            why = f"every episode failed, the last by {last}"
        else:
            why = self._gate(group)
        if why:
            self._reasons[why] += 1
        return Verdict.REJECT if why else Verdict.ACCEPT

    def update(self, accepted: Sequence[Group], rejected: Sequence[Group]) -> dict[str, float]:
        """Numbers of the finished step."""
        played = len(accepted) + len(rejected)
        return {
            "sampler/rounds": float(self._round),
            "sampler/rejected": len(rejected) / played if played else 0.0,
        }

    def state(self) -> dict[str, Json]:
        """Where the plan stands."""
        return {
            "step": self._step,
            "place": self._place,
            "round": self._round,
            "reasons": dict(self._reasons),
        }

    def load(self, state: Mapping[str, Json]) -> None:
        """The inverse of `state`."""
        self._step, self._place, self._round = state["step"], state["place"], state["round"]
        self._reasons = Counter(state["reasons"])


def weighted(envs: Mapping[str, float], seed: int) -> Selector:
    """Picks environments in proportion to their weights, independently for every place."""
    if not envs or min(envs.values()) < 0 or sum(envs.values()) <= 0:
        raise ConfigError(f"environment weights must be positive, not {dict(envs)}")
    names, bounds = list(envs), list(accumulate(envs.values()))

    def select(step: int, place: int) -> str:
        point = generator(seed, "env", step, place).random() * bounds[-1]
        return next(name for name, bound in zip(names, bounds, strict=True) if point < bound)

    return select
