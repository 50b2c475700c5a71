"""ReSeek's reward: the policy's own verdict on what a search brought, against a relevance score."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from foldgym.rewards.judge import Verdict, verdict_rewards
from foldgym.rewards.outcomes import golds, normalise
from foldgym.rewards.retrieval import Search, brought, searches
from foldgym.types import Trajectory

Relevance = Callable[[Trajectory, Search, Sequence[str]], float]


def support(trajectory: Trajectory, search: Search, documents: Sequence[str]) -> float:
    """1 if the search brought a supporting document, else 0."""
    wanted = set(cast("Sequence[str]", trajectory.facts.get("supporting", ())))
    return float(not wanted.isdisjoint(documents))


def overlap(trajectory: Trajectory, search: Search, documents: Sequence[str]) -> float:
    """The largest share of a right answer's words that the result holds, in [0, 1]."""
    held = set(normalise(search.text).split())
    shares = [set(normalise(gold).split()) for gold in golds(trajectory.task)]
    return max((len(words & held) / len(words) for words in shares if words), default=0.0)


RELEVANCE: Mapping[str, Relevance] = {"support": support, "overlap": overlap}


def verdicts(
    trajectory: Trajectory,
    *,
    relevance: str = "support",
    threshold: float = 0.7,
    match: float = 0.3,
    false_accept: float = -0.6,
    false_reject: float = -0.3,
    most: int = 4,
    tool: str = "search",
) -> list[float]:
    """Per turn: what its `judge` call earns, given to the turn that judged.

    The right verdict is Yes exactly if the relevance of the search is above `threshold`.
    `relevance` is "support", "overlap" or `module:function` of (trajectory, search, documents),
    for instance a reranker; where the world does not measure what a search retrieved, `documents`
    are none, and "support" is an error. At most `most` verdicts that were right are paid, since
    many right verdicts on junk searches pay too. Sources: ReSeek (the numbers are from a
    third-party note); the cap is ours.
    """
    from foldgym.config import resolve

    score = cast("Relevance", resolve("relevance", relevance, RELEVANCE))
    known = "retrieved" in trajectory.facts or score is support
    nothing: Sequence[str] = ()
    found = (
        brought(trajectory, tool)
        if known
        else [(search, nothing) for search in searches(trajectory, tool)]
    )
    values = [0.0] * len(trajectory.turns)
    paid = 0
    for place, said in _said(trajectory):
        earlier = [each for each in found if each[0].turn < place]
        if not earlier:
            continue
        search, documents = earlier[-1]
        (earned,) = verdict_rewards(
            [score(trajectory, search, documents)],
            [said],
            threshold,
            match,
            false_accept,
            false_reject,
        )
        paid += earned > 0
        values[place] += earned if earned <= 0 or paid <= most else 0.0
    return values


def _said(trajectory: Trajectory) -> list[tuple[int, Verdict]]:
    """Turn and verdict of every `judge` call that was accepted."""
    accepted: list[tuple[int, Verdict]] = []
    for turn in trajectory.turns:
        replies = {reply.tool_call_id: reply.text for reply in turn.observation}
        for call in turn.message.tool_calls:
            reply = replies.get(call.id, "error:")
            if call.name == "judge" and not reply.startswith("error:"):
                given: Mapping[str, Any] = json.loads(call.arguments)
                accepted.append((turn.index, given["verdict"]))
    return accepted
