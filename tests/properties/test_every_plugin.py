"""For every memory there is: the ids that were sampled are trained once, where they were sampled.

A fake engine's log-probs are hashes of the exact prefix, so equal multisets of (id, log-prob) mean
that nothing is missing, nothing is twice, and nothing stands in another context. Memories are
enumerated: a new one is played without a line here, with its default options.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from small_worlds import MARKER, Babble, WordTokenizer, Writer

from foldgym.agents.renderers import ChatMLRenderer, CompactRenderer
from foldgym.agents.rollout import Limits, Rollout, rollout
from foldgym.agents.scaffolds import SCAFFOLDS, ReAct
from foldgym.agents.stage import Scaffold
from foldgym.config import resolve
from foldgym.memory import MEMORIES
from foldgym.testing.doubles import PrefixHash, witness
from foldgym.testing.replay import Recorded
from foldgym.types import Budget, Group, Ids, Item, Memory, Request, Reward, Sampling, Snapshot

EPISODES = 200
TOKENS = WordTokenizer()
RENDERERS = {"compact": CompactRenderer(TOKENS), "chatml": ChatMLRenderer(TOKENS)}
rooms = st.integers(60, 1200)  # tokens beyond the task and the reserve
small = st.integers(1, 4)
by = st.sampled_from(["policy", "aux"])
notes = st.integers(4, 40)


def options(**given: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Any of these options, or the default."""
    return st.fixed_dictionaries({}, optional=given)


INNER: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "window": options(turns=small),
    "omit": options(keep=small),
    "errors": options(marks=st.sampled_from([("error:",), ("red", "key")])),
    "mem1": options(instruction=st.sampled_from(["", "keep it"])),
    "notes": options(window=st.integers(2, 9), keep=st.integers(0, 2), notes=small),
    "summarise": st.one_of(
        options(keep=st.integers(0, 2), max_tokens=notes, by=by, keep_task=st.booleans()),
        options(keep=st.integers(0, 2), max_tokens=notes, by=by).flatmap(
            lambda o: st.fixed_dictionaries(
                {"trigger": st.just("turns"), "every": small, **{k: st.just(o[k]) for k in o}}
            )
        ),
    ),
    "hiagent": options(result=st.sampled_from(["ask", "last"]), max_tokens=notes, by=by),
    "deepagent": st.one_of(
        options(
            max_folds=small,
            trigger=st.sampled_from(["marker", "pressure", "both"]),
            max_tokens=notes,
            by=by,
            fallback=st.sampled_from(["raw", "refuse"]),
        ),
        options(max_folds=small, max_tokens=notes, by=by).map(lambda o: {**o, "marker": MARKER}),
    ),
}
inner = st.one_of(
    st.sampled_from([name for name in MEMORIES if name not in INNER]).map(lambda n: (n, {})),
    st.sampled_from(sorted(INNER)).flatmap(lambda n: st.tuples(st.just(n), INNER[n])),
)


def around(**given: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Options of a wrapper, its inner memory among them."""
    return st.builds(
        lambda pair, more: {"inner": pair[0], "options": pair[1], **more}, inner, options(**given)
    )


OPTIONS: dict[str, st.SearchStrategy[dict[str, Any]]] = INNER | {
    "delethink": around(chunk=st.integers(12, 20), head=st.integers(0, 4), tail=small),
    "reminder": st.one_of(around(every=small), around().map(lambda o: {**o, "drift": 0.2})),
    "cheatsheet": around(
        max_tokens=notes, by=by, copy=st.sampled_from(["keep", "refuse", "trust"])
    ),
    "cheatsheet_rs": around(top=small, max_tokens=notes, by=by),
    "keys": around(top=small),
    "vectors": around(top=small),
    "recursive": around(max_tokens=notes, by=by),
}
item = st.builds(
    Item,
    st.sampled_from(["sheet/", "pair/", "key/", "text/"]).flatmap(
        lambda prefix: st.sampled_from("abc123").map(lambda name: prefix + name)
    )
    | st.just("summary"),
    st.sampled_from(["red key", "look left\nanswered: 3", "<|end|> door", "well " * 9]),
)
snapshots = st.lists(item, max_size=6, unique_by=lambda i: i.key).map(
    lambda items: Snapshot(tuple(sorted(items, key=lambda i: i.key)))
)


class Played:
    """One episode of a memory, and everything that was said in it."""

    def __init__(
        self,
        make: Callable[[], Memory],
        seed: int,
        renderer: str,
        room: int,
        store: Snapshot,
        scaffold: Callable[[], Scaffold] = ReAct,
    ) -> None:
        render = RENDERERS[renderer]
        self.policy, aux = Writer(render), Writer(render)
        opening = asyncio.run(Babble().reset(seed, {}))
        tools = (*opening.tools, *make().tools())
        fixed = len(render.open(opening.task.prompt, tools))
        overflow = "squeeze" if seed % 2 else "stop"
        self.budget = Budget(fixed + room, 40, (fixed + room / 2) / (fixed + room), overflow)
        self.memories: list[Recorded] = []
        self.make = make

        def recorded() -> Recorded:
            self.memories.append(Recorded(make()))
            return self.memories[-1]

        how = Rollout(
            render,
            recorded,
            Sampling(max_tokens=40),
            self.budget,
            Limits(max_turns=12),
            aux=aux,
            store=store,
            scaffold=scaffold,
        )
        requests = [Request("babble", seed)]
        self.group: Group = asyncio.run(
            rollout(
                requests, lambda _: Babble(), self.policy, how, seed, lambda _: Reward(0.0, 0.0)
            )
        )[0]

    def said(self) -> list[tuple[str, Ids, Ids]]:
        """Purpose, context and sampled ids of every call, up to the stop string of the memory."""
        stops = {stop for memory in self.memories for stop in getattr(memory, "stops", ())}
        found: list[tuple[str, Ids, Ids]] = []
        for purpose, (context, ids) in zip(self.policy.purposes, self.policy.calls, strict=True):
            ends = [k for k in range(1, len(ids) + 1) if MARKER in TOKENS.decode(ids[:k])]
            cut = purpose == "act" and MARKER in stops and ends
            found.append((purpose, context, ids[: ends[0]] if cut else ids))
        return found


@pytest.mark.parametrize("name", sorted(MEMORIES))
def test_every_memory_keeps_the_invariants(name: str) -> None:
    played: list[int] = []

    @settings(
        max_examples=EPISODES,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(
        given_options=OPTIONS.get(name, st.just({})),
        seed=st.integers(0, 2**32),
        renderer=st.sampled_from(sorted(RENDERERS)),
        room=rooms,
        store=snapshots,
    )
    def holds(
        given_options: dict[str, Any], seed: int, renderer: str, room: int, store: Snapshot
    ) -> None:
        def make() -> Memory:
            return MEMORIES[name](**given_options)

        try:
            make()
        except ValueError:  # options that exclude each other, as two memories with one tool
            assume(False)
        episode = Played(make, seed, renderer, room, store)
        check(episode, store)
        played.append(seed)

    holds()
    assert len(played) >= EPISODES


@pytest.mark.parametrize("name", sorted(SCAFFOLDS))
def test_every_scaffold_keeps_the_invariants(name: str) -> None:
    scaffold = resolve("scaffold", name, SCAFFOLDS)

    @settings(
        max_examples=EPISODES,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(
        memory=st.sampled_from(sorted(MEMORIES)),
        seed=st.integers(0, 2**32),
        renderer=st.sampled_from(sorted(RENDERERS)),
        room=rooms,
    )
    def holds(memory: str, seed: int, renderer: str, room: int) -> None:
        make = MEMORIES[memory]
        check(Played(make, seed, renderer, room, Snapshot(), scaffold), Snapshot())

    holds()


def check(episode: Played, store: Snapshot) -> None:
    assert not episode.group.failures, episode.group.failures[0].error
    (trajectory,) = episode.group.trajectories
    expected: Counter[tuple[int, float]] = Counter()
    for purpose, context, ids in episode.said():
        prefix = PrefixHash(context)
        expected.update((token, prefix.push(token)) for token in ids)
        if purpose == "act":
            assert len(context) <= episode.budget.hard_limit
        assert len(context) + len(ids) <= episode.budget.max_context
    trained = Counter(
        (segment.token_ids[place], segment.logprobs[place])
        for segment in trajectory.segments
        for place, turn in enumerate(segment.turn_ids)
        if turn >= 0
    )
    assert trained == expected  # exactly once; so nothing of the aux policy, and nothing injected
    assert witness(trajectory) == expected.total()  # in the contexts they were sampled in
    for memory in episode.memories:
        assert memory.problems == []
        assert asyncio.run(memory.replay(episode.make)) == []
    if getattr(episode.memories[0], "keeps", False):
        assert trajectory.proposal is not None
        assert trajectory.proposal.read == store.address
