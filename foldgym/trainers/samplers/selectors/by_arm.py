"""What selectors of arms share: places are filled one by one, each with a new task of its arm."""

from __future__ import annotations

from collections.abc import Sequence

from foldgym.trainers.samplers.slots import Arm, Desk, Pick, Stateless


class ByArm(Stateless):
    """Subclasses write `probs`; `pick` draws every place from it independently."""

    by_task = False

    def probs(self, desk: Desk) -> dict[str, float]:
        """Probability of every live arm."""
        raise NotImplementedError

    def pick(self, want: int, place: int, desk: Desk) -> list[Pick]:
        """Exactly `want` tasks; `place` counts the step's tasks so far."""
        probs = self.probs(desk)
        arms = {arm.name: arm for arm in desk.arms}
        names = desk.rng.choices(list(probs), list(probs.values()), k=want)
        return drawn([arms[name] for name in names], place, desk)


def drawn(arms: Sequence[Arm], place: int, desk: Desk) -> list[Pick]:
    """A task of each of these arms, no task twice as long as the source has enough of them."""
    picks: list[Pick] = []
    taken = set[str]()
    for number, arm in enumerate(arms):
        pick = desk.source.draw(arm, place + number, desk)
        for _ in range(100 if desk.source.fixed else 0):
            if pick.key not in taken:
                break
            pick = desk.source.draw(arm, place + number, desk)
        taken.add(pick.key)
        picks.append(pick)
    return picks
