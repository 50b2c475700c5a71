"""How a selector of tasks keeps every arm alive: some places are filled whatever it thinks."""

from __future__ import annotations

from collections.abc import Sequence

from foldgym.trainers.samplers.counts import floored
from foldgym.trainers.samplers.selectors.by_arm import drawn
from foldgym.trainers.samplers.slots import Desk, Pick


def explored(best: Sequence[Pick], want: int, place: int, desk: Desk) -> list[Pick]:
    """`want` tasks, the first of `best` but for places given to a random arm.

    Each place is random with probability `n floor`, so an arm's share is at least `floor`.
    """
    share = min(1.0, desk.floor * len(desk.arms))
    random_places = sum(desk.rng.random() < share for _ in range(want))
    taken = list(best[: want - random_places])
    arms = desk.rng.choices(desk.arms, k=want - len(taken))
    keys = {pick.key for pick in taken}
    extra: list[Pick] = []
    for number, arm in enumerate(arms):
        (pick,) = drawn([arm], place + number, desk)
        for _ in range(100 if desk.source.fixed else 0):
            if pick.key not in keys:
                break
            (pick,) = drawn([arm], place + number, desk)
        keys.add(pick.key)
        extra.append(pick)
    return [*taken, *extra]


def arm_shares(picks: Sequence[Pick], weights: Sequence[float], desk: Desk) -> dict[str, float]:
    """Probabilities of arms from weights of tasks, with the floor."""
    total = sum(weights)
    shares = dict.fromkeys((arm.name for arm in desk.arms), 0.0)
    for pick, weight in zip(picks, weights, strict=True):
        shares[pick.arm.name] += weight / total if total else 1 / len(picks)
    if not picks:
        shares = dict.fromkeys(shares, 1 / len(shares))
    return floored(shares, desk.floor)
