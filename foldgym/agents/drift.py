"""How far a policy has drifted from what it would say with the goal fresh before it (spec A10).

D_t is the mean, over the ids that were sampled in turn t, of a divergence between the policy in the
context it had and the same policy shown the task and the newest turn alone. The two contexts are
one in the first turn, so D_0 is 0. From the log-probs of the sampled ids the divergence is
estimated as r - 1 - log r with r = p_fresh / p_actual, which is never negative and has the
expectation KL(actual || fresh).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import fmean

from foldgym.agents.recorder import encode_view
from foldgym.agents.rollout import Episode
from foldgym.agents.stage import Stage
from foldgym.memory.reminding import divergence
from foldgym.memory.views import SlidingWindow
from foldgym.types import Ids, Json, Log, Scorer, Segment, Trajectory

_FRESH = SlidingWindow(1)


@dataclass(frozen=True, slots=True)
class Fresh:
    """For each turn of an episode, by index, the task and newest turn before it.

    `folds` are the pairs of turns (before, after) between which the memory was shortened.
    """

    contexts: dict[int, Ids]
    folds: tuple[tuple[int, int], ...]


@dataclass(slots=True)
class FreshContexts:
    """A `Rollout.watch`: fresh contexts of at most `most` episodes, by the id of the episode."""

    most: int = 8
    found: dict[str, Fresh] = field(default_factory=dict[str, Fresh])

    async def __call__(self, episode: Episode, stage: Stage) -> None:
        """Writes down one episode: every lineage that spoke."""
        if len(self.found) == self.most:
            return
        contexts: dict[int, Ids] = {}
        folds: list[tuple[int, int]] = []
        for talk in stage.talks:
            starts: list[tuple[int, int]] = []
            for event in talk.log:
                if event.kind == "model" and event.turn not in contexts:
                    log = Log(talk.log[: event.id])
                    contexts[event.turn] = encode_view(_FRESH.view(log, None), log, talk.renderer)
                    starts.append((event.id, event.turn))
            folds += [
                (before, after)
                for (first, before), (second, after) in pairwise(starts)
                if any(first < moment.events <= second for moment in talk.shortenings)
            ]
        self.found[episode.id] = Fresh(contexts, tuple(folds))


def spoken(segments: Sequence[Segment], turn: int) -> list[tuple[Ids, Ids]]:
    """(context, ids sampled in it) of a turn, in order; several if it was cut and went on."""
    found: list[tuple[Ids, Ids]] = []
    for segment in segments:
        places = [place for place, owner in enumerate(segment.turn_ids) if owner == turn]
        if places:
            first, end = places[0], places[-1] + 1
            found.append((segment.token_ids[:first], segment.token_ids[first:end]))
    return found


def drift(trajectory: Trajectory, fresh: Fresh, scorer: Scorer) -> dict[int, float]:
    """D_t by the index of the turn. A turn in several pieces is fresh with its earlier pieces."""
    found: dict[int, float] = {}
    for turn, context in fresh.contexts.items():
        terms: list[float] = []
        for actual, ids in spoken(trajectory.segments, turn):
            pairs = zip(scorer.logprobs(context, ids), scorer.logprobs(actual, ids), strict=True)
            terms += [divergence(anew, here) for anew, here in pairs]
            context += ids
        if terms:
            found[turn] = fmean(terms)
    return found


def summarise(
    trajectories: Sequence[Trajectory], fresh: dict[str, Fresh], scorer: Scorer
) -> dict[str, Json]:
    """Mean D_t by the number of the turn among those of the episode, and around folds.

    `before` and `after` are None without folds.
    """
    curves: dict[int, list[float]] = {}
    around: list[tuple[float, float]] = []
    for trajectory in trajectories:
        found = drift(trajectory, fresh[trajectory.id], scorer)
        for number, value in enumerate(found.values()):
            curves.setdefault(number, []).append(value)
        folds = fresh[trajectory.id].folds
        around += [(found[a], found[b]) for a, b in folds if a in found and b in found]
    return {
        "episodes": len(trajectories),
        "by_turn": {str(number): fmean(values) for number, values in curves.items()},
        "folds": len(around),
        "before": fmean(before for before, _ in around) if around else None,
        "after": fmean(after for _, after in around) if around else None,
    }
