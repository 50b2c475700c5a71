"""Whatever a memory shows: each sampled id is trained once, in the context it was sampled in."""

# a memory's options are its own, which `Memory` does not tell
# pyright: reportCallIssue=false, reportArgumentType=false, reportAssignmentType=false

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foldgym.agents.renderers import ChatMLRenderer, CompactRenderer
from foldgym.agents.rollout import Limits, Rollout, rollout
from foldgym.envs import registry
from foldgym.envs.worker import open_worker
from foldgym.memory import MEMORIES
from foldgym.testing.doubles import ByteTokenizer, HashPolicy, PrefixHash, witness
from foldgym.types import Budget, EnvHandle, Group, Memory, Request, Reward, Sampling, Stop

WORLDS = sorted(
    spec.name
    for spec in registry.specs(ready=True)
    if spec.name.startswith("foldgym/")
    and not (spec.sandbox or spec.browser)  # a box or page for each episode takes minutes
)
RENDERERS = {"compact": CompactRenderer, "chatml": ChatMLRenderer}
VARIANTS: dict[str, list[Callable[[], Memory]]] = {
    name: [make] for name, make in MEMORIES.items()
} | {
    "window": [lambda: MEMORIES["window"](turns=1), lambda: MEMORIES["window"](turns=3)],
    "omit": [lambda: MEMORIES["omit"](keep=1), lambda: MEMORIES["omit"](keep=2)],
    "summarise": [
        lambda: MEMORIES["summarise"](),
        lambda: MEMORIES["summarise"](trigger="turns", every=2, keep=1, max_tokens=16),
        lambda: MEMORIES["summarise"](trigger="turns", every=1, keep_task=False, max_tokens=40),
    ],
    "notes": [
        lambda: MEMORIES["notes"](window=3),
        lambda: MEMORIES["notes"](window=4, keep=0, notes=1),
    ],
    "hiagent": [lambda: MEMORIES["hiagent"](), lambda: MEMORIES["hiagent"](result="last")],
    "deepagent": [
        lambda: MEMORIES["deepagent"](max_tokens=16),
        lambda: MEMORIES["deepagent"](trigger="marker", max_folds=9, fallback="refuse"),
    ],
    "delethink": [
        lambda: MEMORIES["delethink"](),
        lambda: MEMORIES["delethink"](chunk=12, head=2, tail=4, max_chunks=4),
        lambda: MEMORIES["delethink"]("hiagent", 16, 0, 8, options={"result": "last"}),
        lambda: MEMORIES["reminder"](MEMORIES["delethink"](chunk=9, head=3, tail=3), 1),
    ],
    "reminder": [
        lambda: MEMORIES["reminder"](every=1),
        lambda: MEMORIES["reminder"]("summarise", 2, options={"trigger": "turns", "every": 2}),
        lambda: MEMORIES["reminder"](MEMORIES["edit"](), 2),
    ],
}


def open_env(request: Request) -> EnvHandle:
    return open_worker(lambda: registry.make(request.env), "inline", 30.0)


def play(
    world: str, memory: Callable[[], Memory], renderer: str, seed: int, overflow: str
) -> tuple[HashPolicy, Group, Budget]:
    render = RENDERERS[renderer](ByteTokenizer())
    policy = HashPolicy(render)
    budget = Budget(max_context=3000, reserve=120, soft=0.3, overflow=overflow)  # type: ignore[arg-type]
    how = Rollout(
        render,
        memory,
        sampling=Sampling(max_tokens=120),
        budget=budget,
        limits=Limits(max_turns=7, max_parse_errors=3),
    )
    requests = [Request(world, seed, 2)]
    (group,) = asyncio.run(
        rollout(requests, open_env, policy, how, seed, lambda t: Reward(0.0, 0.0))
    )
    return policy, group, budget


@pytest.mark.parametrize("memory", sorted(MEMORIES))
@pytest.mark.parametrize("world", WORLDS)
@settings(max_examples=6)
@given(
    seed=st.integers(0, 2**32),
    variant=st.integers(0, 5),
    renderer=st.sampled_from(sorted(RENDERERS)),
    overflow=st.sampled_from(["stop", "squeeze"]),
)
def test_every_sampled_id_is_trained_once_in_its_context(
    world: str, memory: str, seed: int, variant: int, renderer: str, overflow: str
) -> None:
    makers = VARIANTS[memory]
    policy, group, budget = play(world, makers[variant % len(makers)], renderer, seed, overflow)
    assert not group.failures, group.failures[0].error
    sampled = sum(len(ids) for _, ids in policy.calls)
    assert sum(witness(trajectory) for trajectory in group.trajectories) == sampled
    trained = Counter(
        (segment.token_ids[position], segment.logprobs[position])
        for trajectory in group.trajectories
        for segment in trajectory.segments
        for position, turn in enumerate(segment.turn_ids)
        if turn >= 0
    )
    expected: Counter[tuple[int, float]] = Counter()
    for context, ids in policy.calls:
        assert len(context) + len(ids) <= budget.max_context
        prefix = PrefixHash(context)
        expected.update((token, prefix.push(token)) for token in ids)
    assert trained == expected
    if memory == "full":
        assert all(
            len(trajectory.segments) <= 1
            for trajectory in group.trajectories
            if not trajectory.counters.get("squeezed")
        )


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("renderer", sorted(RENDERERS))
def test_segments_read_back_as_the_conversation(world: str, renderer: str) -> None:
    render = RENDERERS[renderer](ByteTokenizer())
    for seed in range(20):
        _, group, _ = play(world, MEMORIES["full"], renderer, seed, "stop")
        for trajectory in group.trajectories:
            if trajectory.stop is Stop.MAX_CONTEXT:
                continue
            (segment,) = trajectory.segments
            tools = registry.make(world)
            tools.reset(seed=seed)
            ids = list(render.open(trajectory.task.prompt, tools.tools))
            for turn in trajectory.turns:
                ids += render.header()
                spoken = [
                    token
                    for token, owner in zip(segment.token_ids, segment.turn_ids, strict=True)
                    if owner == turn.index
                ]
                assert render.parse(tuple(spoken), tools.tools).message == turn.message
                ids += [*spoken, *render.seal(tuple(spoken))]
                for message in turn.observation:
                    ids += render.encode(message)
            assert tuple(ids[: len(segment.token_ids)]) == segment.token_ids
