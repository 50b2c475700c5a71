"""The sampler: slots put together, what every step plans, judges, weighs and learns."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate

from foldgym.errors import ConfigError
from foldgym.seeding import generator
from foldgym.trainers.samplers.allocators.even import Even
from foldgym.trainers.samplers.rescues.common import RESCUE
from foldgym.trainers.samplers.selectors.weighted import Weighted
from foldgym.trainers.samplers.slots import (
    Allocator,
    Arm,
    Desk,
    Gate,
    Knobs,
    Pick,
    Rescue,
    Schedule,
    Selector,
    Slot,
    Source,
    Thin,
    Trim,
    Weighter,
    arm_of,
)
from foldgym.trainers.samplers.sources.fresh import Fresh
from foldgym.trainers.samplers.stats import StatStore, guided, result_of, score_of
from foldgym.types import Credits, Decision, Group, Json, Keep, Request, Retry, Verdict


class TaskSampler:
    """One member per slot; every slot has a default that does nothing.

    `max_rounds` bounds how often a step is refilled, `rescue_share` how many rollouts of a step a
    rescue may spend (25 % as in spec 5.6), `floor` is the least probability of a live arm (1 %),
    `metric` the measured fact that says how well an attempt went.
    """

    def __init__(
        self,
        arms: Sequence[Arm],
        seed: int,
        group_size: int,
        *,
        max_rounds: int = 10,
        source: Source | None = None,
        schedules: Sequence[Schedule] = (),
        selector: Selector | None = None,
        allocator: Allocator | None = None,
        gate: Gate | None = None,
        rescue: Rescue | None = None,
        trim: Trim | None = None,
        weighter: Weighter | None = None,
        thin: Thin | None = None,
        metric: str = "score",
        floor: float = 0.01,
        rescue_share: float = 0.25,
    ) -> None:
        if max_rounds < 1:
            raise ConfigError(f"max_rounds must be at least 1, not {max_rounds}")
        if not arms or min(arm.weight for arm in arms) < 0 or sum(arm.weight for arm in arms) <= 0:
            weights = {arm.name: arm.weight for arm in arms}
            raise ConfigError(f"environment weights must be positive, not {weights}")
        live = [arm for arm in arms if arm.weight > 0]
        self._arms = tuple(sorted(live, key=lambda arm: arm.name))
        self._seed, self._size, self._max_rounds = seed, group_size, max_rounds
        self._source = source or Fresh(seed)
        self._schedules = tuple(schedules)
        self._selector = selector or Weighted()
        self._allocator = allocator or Even()
        self._gate, self._rescue, self._trim = gate, rescue, trim
        self._weighter, self._thin = weighter, thin
        self._metric, self._floor, self._rescue_share = metric, floor, rescue_share
        self._stats = StatStore(tasks=self._source.fixed)
        self._step, self._place, self._round, self._version = -1, 0, 0, 0
        self._planned, self._spent = 0, 0
        self._reasons: Counter[str] = Counter()
        self._tried: Counter[str] = Counter()

    # ------------------------------------------------------------ what is played

    def plan(self, step: int, want: int) -> list[Request]:
        """`want` new requests. Called again within a step, it refills what was rejected.

        Raises `ConfigError` when a step is still not full after `max_rounds` rounds.
        """
        if step != self._step:
            self._step, self._place, self._round = step, 0, 0
            self._planned, self._spent = 0, 0
            self._reasons.clear()
            self._tried.clear()
        if self._round == self._max_rounds:
            why = "; ".join(f"{count} x {why}" for why, count in self._reasons.most_common(3))
            raise ConfigError(
                f"step {step} still lacks {want} groups after {self._round} rounds of rollouts. "
                f"Rejected: {why}. Choose tasks that this policy sometimes solves and sometimes "
                'does not, raise sampler.max_rounds, or set sampler.use = "uniform"'
            )
        self._round += 1
        total = want * self._size
        knobs = self._knobs()
        desk = replace(self._desk("selector"), kwargs=knobs.kwargs)
        picks = self._selector.pick(want, self._place, desk)
        counts = self._allocator.split(picks, total, self._desk("allocator"))
        self._place += want
        self._planned += total
        return [
            self._request(pick, n, knobs) for pick, n in zip(picks, counts, strict=True) if n > 0
        ]

    def _desk(self, slot: str) -> Desk:
        rng = generator(self._seed, slot, self._step, self._round)
        live = self._source.arms(self._arms)
        return Desk(
            self._step, self._version, live, self._stats, self._source, rng, self._floor
        )  # fmt: skip

    def _knobs(self) -> Knobs:
        """All schedules together; where two set the same, the later one holds."""
        desk, merged = self._desk("schedule"), Knobs()
        for schedule in self._schedules:
            now = schedule.knobs(desk)
            merged = Knobs(
                {**merged.kwargs, **now.kwargs},
                now.max_turns or merged.max_turns,
                now.max_context or merged.max_context,
                now.guides or merged.guides,
            )
        return merged

    def _request(self, pick: Pick, n: int, knobs: Knobs) -> Request:
        kwargs = {**pick.arm.kwargs, **knobs.kwargs, **pick.kwargs}
        arm = "" if pick.arm.name == pick.arm.env else pick.arm.name
        guides = knobs.guides(n) if knobs.guides else ()
        return Request(
            pick.arm.env,
            pick.seed,
            n,
            arm=arm,
            kwargs=kwargs,
            max_turns=knobs.max_turns,
            max_context=knobs.max_context,
            guides=guides if any(guide.helps for guide in guides) else (),
        )

    # ------------------------------------------------------------ what is kept

    def judge(self, group: Group) -> Decision:
        """Rescue first, within its share of the step; then the gate; then the trim."""
        if not group.trajectories:
            last = group.failures[-1].error if group.failures else "nothing was played"
            return self._reject(f"every episode failed, the last by {last}")
        retry = self._retry(group)
        if retry is not None and retry.merge != "new_group":
            return retry
        why = self._refusal(group)
        if retry is not None:
            return replace(retry, verdict=self._reject(why) if why else Verdict.ACCEPT)
        if why:
            return self._reject(why)
        if self._trim is not None:
            keep = tuple(sorted(self._trim(group)))
            if not keep:
                return self._reject("no member was kept")
            if len(keep) < len(group.trajectories):
                return Keep(keep)
        return Verdict.ACCEPT

    def _reject(self, why: str) -> Verdict:
        self._reasons[why] += 1
        return Verdict.REJECT

    def _refusal(self, group: Group) -> str:
        """Why the group is not trained on; a helped group must also have something to compare."""
        scores = (
            [score_of(t, self._metric) for t in group.trajectories] if self._helped(group) else []
        )
        if len(scores) > 1 and max(scores) == min(scores):
            return f"helped, and still all have {self._metric} {scores[0]:g}"
        return self._gate(group) if self._gate else ""

    def _helped(self, group: Group) -> bool:
        return group.request.reason == RESCUE

    def _retry(self, group: Group) -> Retry | None:
        if self._rescue is None or group.request.reason not in ("", RESCUE):
            return None
        key = f"{arm_of(group.request)}#{group.request.seed}"
        retry = self._rescue.next(group, self._tried[key], self._desk("rescue"))
        if retry is None:
            return None
        left = self._rescue_share * self._planned - self._spent
        requests = retry.requests
        if retry.merge == "new_group":  # as many of them as there are rollouts for
            costs = accumulate(request.n for request in requests)
            requests = requests[: sum(cost <= left for cost in costs)]
        cost = sum(request.n for request in requests)
        if not requests or cost > left:
            return None
        self._tried[key] += 1
        self._spent += cost
        return replace(retry, requests=requests)

    def weigh(self, groups: Sequence[Group], credits: Credits) -> tuple[list[Group], Credits]:
        """Credit times the group's weight; then the members that the thinning keeps.

        Statistics are not taken again: a smaller group keeps the advantages it had.
        """
        if self._weighter is not None:
            factors = [self._weighter(group) for group in groups]
            credits = tuple(
                tuple(tuple(part * factor for part in credit) for credit in row)
                for row, factor in zip(credits, factors, strict=True)
            )
        if self._thin is None:
            return list(groups), credits
        kept = self._thin(groups, credits, self._desk("thin"))
        rows = [(part_of(g, keep), keep) for g, keep in zip(groups, kept, strict=True)]
        left = tuple(
            tuple(row[i] for i in keep)
            for row, (_, keep) in zip(credits, rows, strict=True)
            if keep
        )
        return [group for group, keep in rows if keep], left

    # ------------------------------------------------------------ what is learned

    def update(self, accepted: Sequence[Group], rejected: Sequence[Group]) -> dict[str, float]:
        """Takes in the finished step; the only place where slots change. Returns its numbers."""
        played = [*accepted, *rejected]
        found = [result_of(group, self._metric) for group in played if group.trajectories]
        results = [result for result in found if result is not None]
        self._version = max([self._version, *(result.version for result in results)])
        self._stats.observe(results, self._step)
        numbers = self._numbers(accepted, rejected)
        slots: list[tuple[str, Slot]] = [("selector", self._selector), ("source", self._source)]
        slots += [(f"schedule{i}", schedule) for i, schedule in enumerate(self._schedules)]
        for name, slot in slots:
            numbers |= slot.observe(results, self._desk(name))
        return numbers

    def _numbers(self, accepted: Sequence[Group], rejected: Sequence[Group]) -> dict[str, float]:
        played = [*accepted, *rejected]
        rollouts = sum(len(g.trajectories) + len(g.failures) for g in played)
        flat = [
            g for g in played
            if len({score_of(t, self._metric) for t in g.trajectories}) == 1 < len(g.trajectories)
        ]  # fmt: skip
        helped = sum(guided(t) for g in played for t in g.trajectories)
        probs = self._selector.probs(self._desk("selector"))
        return {
            "sampler/rounds": float(self._round),
            "sampler/rejected": len(rejected) / len(played) if played else 0.0,
            "sampler/degenerate": len(flat) / len(played) if played else 0.0,
            "sampler/rollouts_per_group": rollouts / len(accepted) if accepted else 0.0,
            "sampler/guided": helped / rollouts if rollouts else 0.0,
            "sampler/entropy": -sum(p * math.log(p) for p in probs.values() if p > 0),
        }

    # ------------------------------------------------------------ saved with the run

    def state(self) -> dict[str, Json]:
        """All that the next plan depends on, as JSON."""
        return {
            "step": self._step,
            "place": self._place,
            "round": self._round,
            "version": self._version,
            "planned": self._planned,
            "spent": self._spent,
            "reasons": dict(self._reasons),
            "tried": dict(self._tried),
            "stats": self._stats.state(),
            "selector": self._selector.state(),
            "source": self._source.state(),
            "schedules": [schedule.state() for schedule in self._schedules],
        }

    def load(self, state: Mapping[str, Json]) -> None:
        """The inverse of `state`."""
        self._step, self._place, self._round = state["step"], state["place"], state["round"]
        self._version = state["version"]
        self._planned, self._spent = state["planned"], state["spent"]
        self._reasons, self._tried = Counter(state["reasons"]), Counter(state["tried"])
        self._stats.load(state["stats"])
        self._selector.load(state["selector"])
        self._source.load(state["source"])
        for schedule, saved in zip(self._schedules, state["schedules"], strict=True):
            schedule.load(saved)


def part_of(group: Group, members: Sequence[int]) -> Group:
    """The group with these members only."""
    return replace(
        group,
        trajectories=tuple(group.trajectories[i] for i in members),
        rewards=tuple(group.rewards[i] for i in members),
    )


def arms_of(envs: Mapping[str, float]) -> list[Arm]:
    """Every environment of a run as an arm of its weight."""
    return [Arm(env, env, weight=weight) for env, weight in envs.items()]
