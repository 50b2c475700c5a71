"""What a memory cost and what it lost, counted while an episode is played (memory spec 4.9)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from foldgym.types import Ids, Log, Ref, Segment, ToolCall, Trajectory, View


class Tally:
    """What one lineage adds to an episode's counters; docs/evaluating_memory.md explains them."""

    def __init__(self, counters: Counter[str]) -> None:
        self.counters = counters
        self._held: dict[tuple[str, str], Ids] = {}
        self.visible = frozenset[int]()
        self._made: dict[tuple[str, str], set[int]] = {}

    def shown(self, view: View, log: Log) -> None:
        """A view on which the next turn is sampled."""
        events = [log[item.event] for item in view.items if isinstance(item, Ref)]
        self.visible = frozenset(each.turn for each in events if each.kind == "observation")
        block = sum(
            len(log[item.event].token_ids[item.start : item.end])
            if isinstance(item, Ref)
            else len(item.token_ids)
            for item in view.items
            if not isinstance(item, Ref) or log[item.event].kind == "memory"
        )
        self.counters["memory_peak"] = max(self.counters["memory_peak"], block)

    def called(self, by: str, prompt: Ids, said: Ids, speaker: str = "main") -> None:
        """A call of the policy, or of an auxiliary one, whose counters are kept apart."""
        count, mark = self.counters, "" if by == "policy" else f"{by}_"
        count[f"{mark}calls"] += 1
        count[f"{mark}prompt_tokens"] += len(prompt)
        count[f"{mark}sampled_tokens"] += len(said)
        count[f"{mark}reused_tokens"] += shared_prefix(self._held.get((by, speaker), ()), prompt)
        self._held[by, speaker] = (*prompt, *said[:-1])  # nobody computes keys for the last id
        peak = f"{mark}context_peak"
        count[peak] = max(count[peak], len(prompt) + len(said))

    def shortened(self, before: int, after: int) -> bool:
        """The memory changed its state, its view `before` and `after` in tokens; if it shrank."""
        if after < before:
            self.counters["shortenings"] += 1
            self.counters["removed_tokens"] += before - after
        return after < before

    def acted(self, calls: Sequence[ToolCall], turn: int) -> None:
        """Calls of the world's tools that were made on what was last `shown`."""
        keys = [(call.name, call.arguments) for call in calls]
        for turns in [self._made[key] for key in keys if key in self._made]:
            self.counters["duplicate_calls"] += 1
            self.counters["forgotten_calls"] += not (turns & self.visible)
        for key in keys:
            self._made.setdefault(key, set()).add(turn)


def shared_prefix(held: Sequence[int], prompt: Ids) -> int:
    """How many leading ids agree, at most all but the last of `prompt`: its logits are needed."""
    most = min(len(held), len(prompt) - 1)
    if tuple(held[:most]) == prompt[:most]:
        return most
    return next(place for place in range(most) if held[place] != prompt[place])


def of_segments(segments: Sequence[Segment]) -> dict[str, float]:
    """`segments`, their tokens, and the rewrite ratio: those tokens over what was sampled."""
    tokens = sum(len(segment.token_ids) for segment in segments)
    sampled = sum(turn >= 0 for segment in segments for turn in segment.turn_ids)
    found: dict[str, float] = {"segments": len(segments), "segment_tokens": tokens}
    return {**found, "rewrite_ratio": tokens / sampled} if sampled else found


def costs(trajectories: Sequence[Trajectory]) -> dict[str, float]:
    """What memory cost and lost, over episodes; empty if none of them was counted.

    Means of an episode, but for `segments_max`, `context_mean` (tokens a call), `reuse` (share of
    the prompt tokens), `removed_tokens` (a shortening) and `notes` (share of the sampled tokens of
    lineages that act which were written for the memory).
    """
    tables = [each.counters for each in trajectories if each.counters.get("calls")]
    if not tables:
        return {}

    def total(name: str) -> float:
        return math.fsum(table.get(name, 0) for table in tables)

    purposes = [
        (turn.purpose, turn.sampled_tokens)
        for trajectory in trajectories
        for acting in [{t.lineage for t in trajectory.turns if t.purpose == "act"}]
        for turn in trajectory.turns
        if turn.lineage in acting
    ]
    written = sum(count for purpose, count in purposes if purpose != "act")
    means = {
        name: total(name) / len(tables)
        for name in (
            "calls",
            "prompt_tokens",
            "sampled_tokens",
            "segment_tokens",
            "rewrite_ratio",
            "context_peak",
            "memory_peak",
            "shortenings",
            "failed_folds",
            "duplicate_calls",
            "forgotten_calls",
        )
    }
    both = total("prompt_tokens") + total("sampled_tokens")
    return means | {
        "context_mean": both / total("calls"),
        "reuse": total("reused_tokens") / max(1.0, total("prompt_tokens")),
        "removed_tokens": total("removed_tokens") / max(1.0, total("shortenings")),
        "segments_max": max(table.get("segments", 0) for table in tables),
        "notes": written / max(1, sum(count for _, count in purposes)),
    }
