"""What every memory, renderer and policy promises, checked: run it on yours before you train."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator, Sequence

from foldgym.agents.kit import RendererKit
from foldgym.agents.recorder import encode_view
from foldgym.agents.renderers import CompactRenderer, Renderer
from foldgym.agents.rollout import Limits, Rollout, rollout
from foldgym.envs import registry
from foldgym.envs.worker import open_worker
from foldgym.errors import FoldgymError
from foldgym.memory import Store
from foldgym.seeding import generator
from foldgym.testing.contracts import Finding
from foldgym.testing.doubles import ByteTokenizer, HashPolicy, witness
from foldgym.testing.replay import Recorded
from foldgym.types import (
    Budget,
    Finish,
    Ids,
    Log,
    Memory,
    Message,
    Policy,
    Prompt,
    Ref,
    Request,
    Reward,
    Role,
    Sampling,
    Tool,
    ToolCall,
    Trajectory,
    View,
)

WORLD = "foldgym/KeyDoor-v0"


def check_memory(
    make: Callable[[], Memory],
    seeds: Sequence[int] = range(10),
    world: str = WORLD,
    renderer: Renderer | None = None,
) -> list[Finding]:
    """Every promise that a memory breaks; an empty list means that it keeps them all.

    Plays random episodes whose log-probs are hashes of the exact prefix. Checked: each sampled id
    is trained once and in its context, what an auxiliary policy says never, contexts stay within
    the budget, `view` is pure and shows no answer without the call it answers, `rewrites = False`
    is kept, and a new memory told the same log shows the same views. What one episode proposes to
    the store the next one reads. `renderer` is by default our smallest one over bytes.
    """
    store = Store()
    findings: list[Finding] = []
    for seed in seeds:
        problems = _episode(make, seed, world, store, renderer)
        findings += [Finding("memory", f"seed {seed}: {what}") for what in problems]
    return findings


def _episode(
    make: Callable[[], Memory], seed: int, world: str, store: Store, written: Renderer | None
) -> Iterator[str]:
    memories: list[Recorded] = []

    def recorded() -> Recorded:
        memories.append(Recorded(make()))
        return memories[-1]

    renderer = written or CompactRenderer(ByteTokenizer())
    policy, aux = HashPolicy(renderer), HashPolicy(renderer)
    budget = Budget(max_context=1500 if written is None else 4000, reserve=120, soft=0.4)
    how = Rollout(
        renderer,
        recorded,
        Sampling(max_tokens=120),
        budget,
        Limits(max_turns=10),
        aux=aux,
        store=store.head,
    )
    try:
        (group,) = asyncio.run(
            rollout(
                [Request(world, seed)],
                lambda request: open_worker(registry.maker(world), "inline", 30.0),
                policy,
                how,
                seed,
                lambda trajectory: Reward(0.0, 0.0),
            )
        )
    except FoldgymError as broken:
        yield f"{type(broken).__name__}: {broken}"
        return
    for memory in memories:
        yield from dict.fromkeys(memory.problems)
        yield from asyncio.run(memory.replay(make))[:1]
    for trajectory in group.trajectories:
        yield from _trained_once(trajectory, policy)
    longest = max((len(context) for context, _ in policy.calls), default=0)
    if longest > budget.max_context:
        yield f"a context of {longest} ids was shown, but only {budget.max_context} are allowed"
    store.merge([group])


def _trained_once(trajectory: Trajectory, policy: HashPolicy) -> Iterator[str]:
    sampled = sum(len(ids) for _, ids in policy.calls)
    try:
        trained = witness(trajectory)
    except AssertionError as broken:
        yield str(broken)
        return
    if trained != sampled:
        yield f"{sampled} ids were sampled but {trained} are trained"


_TOOLS = (
    Tool(
        "look",
        "Look for something.",
        {"type": "object", "properties": {"what": {"type": "string"}}, "required": ["what"]},
    ),
)
_SAID = (
    Message("assistant", "just text"),
    Message("assistant", tool_calls=(ToolCall("look", '{"what": "a key"}', "call_0"),)),
)


def check_renderer(renderer: Renderer) -> list[Finding]:
    """Every promise that a renderer breaks: round trips, frames, and text that stays text."""
    return [Finding("renderer", what) for what in _renderer(renderer)]


def _renderer(renderer: Renderer) -> Iterator[str]:
    for message in _SAID:
        ids = renderer.say(message, _TOOLS)
        if not ids or ids[-1] not in renderer.stop_ids:
            yield f"say({message.text or message.tool_calls}) does not end with a stop id"
        read = renderer.parse(ids, _TOOLS)
        said = (read.message.text, [call.name for call in read.message.tool_calls])
        if read.problem or said != (message.text, [call.name for call in message.tool_calls]):
            yield f"what say writes reads back as {said}"
        if _followed(renderer, message, ids[:-1]) != _followed(renderer, message, ids):
            yield "a turn cut short is not closed like one that ended"
    marks = [renderer.tokenizer.decode([i]) for i in (*renderer.stop_ids, *renderer.header()[:1])]
    roles: tuple[Role, ...] = ("system", "user", "tool")
    for role in roles:
        plain = renderer.encode(Message(role, "".join(marks)))
        before, after = renderer.frame(role)
        inside = plain[len(before) : len(plain) - len(after)]
        if plain[: len(before)] != before or plain[len(plain) - len(after) :] != after:
            yield f"a {role} message does not stand in its frame"
        if set(inside) & {*renderer.stop_ids, renderer.header()[0]}:
            yield f"text of a {role} message became a control token"
    log = Log()
    kit = RendererKit(Budget(), renderer)
    log.append("task", renderer.open([Message("user", "go")], _TOOLS), "env")
    shown = encode_view(View((Ref(0),)), log, renderer)
    log.append("model", renderer.say(_SAID[1], _TOOLS), "policy", turn=0)
    log.append("observation", kit.synth(Message("tool", "a key"), "").token_ids, "env", turn=0)
    if encode_view(View((Ref(0), Ref(1), Ref(2))), log, renderer)[: len(shown)] != shown:
        yield "a longer view does not begin with the ids of the shorter one"


def _followed(renderer: Renderer, said: Message, ids: Ids) -> Ids:
    """A turn that said these ids, and the message that answers it."""
    kit = RendererKit(Budget(), renderer)
    answer = Message("tool" if said.tool_calls else "user", "go on", name="look")
    log = Log()
    log.append("task", renderer.open([Message("user", "go")], _TOOLS), "env")
    log.append("model", ids, "policy", turn=0, messages=(said,))
    log.append("observation", kit.synth(answer, "").token_ids, "env", turn=0, messages=(answer,))
    shown = encode_view(View((Ref(0), Ref(1), Ref(2))), log, renderer)
    ends = {*renderer.stop_ids, *renderer.seal(())[:1]}  # of which one may stand for another
    return tuple(stop if i in ends else i for i in shown for stop in [renderer.stop_ids[0]])


def check_policy(policy: Policy, renderer: Renderer, seed: int = 0) -> list[Finding]:
    """Every promise that a policy breaks: columns of one length, limits kept, seeds obeyed."""
    return [Finding("policy", what) for what in asyncio.run(_policy(policy, renderer, seed))]


async def _policy(policy: Policy, renderer: Renderer, seed: int) -> list[str]:
    messages = (Message("user", "find a key"),)
    ids = (*renderer.open(messages, _TOOLS), *renderer.header())
    prompt = Prompt(ids, messages, _TOOLS)
    env = open_worker(registry.maker(WORLD), "inline", 30.0)
    await env.reset(generator(seed, "check").randrange(1000), {})
    problems: list[str] = []
    seen: list[object] = []
    for _ in range(2):
        session = policy.open(seed, env)
        try:
            said = await session.sample(prompt, Sampling(max_tokens=8))
        finally:
            session.close()
        seen.append((said.ids, said.message))
        if len(said.ids) != len(said.logprobs):
            problems.append(f"{len(said.ids)} ids but {len(said.logprobs)} log-probs")
        if not all(math.isfinite(each) and each <= 1e-6 for each in said.logprobs):
            problems.append("a log-prob is positive or not finite")
        if not said.ids and said.message is None:
            problems.append("it gave neither ids nor a message")
        if len(said.ids) > 8:
            problems.append(f"{len(said.ids)} ids although max_tokens was 8")
        stopped = bool(said.ids) and said.ids[-1] in renderer.stop_ids
        if said.ids and stopped != (said.finish is Finish.STOP):
            problems.append(f"it says {said.finish.name} but its last id is {said.ids[-1]}")
        if said.version != policy.version and said.ids:
            problems.append(f"sampled by version {said.version}, but it is {policy.version}")
    await env.close()
    if seen[0] != seen[1]:
        problems.append("two sessions with one seed said different things")
    return problems
