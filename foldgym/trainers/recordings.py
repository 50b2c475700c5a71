"""Recorded episodes that a learner can clone: in ids of its own vocabulary, or told again in them.

A chat API leaves messages and no ids. Its episodes are played again from the record, the messages
written by the learner's renderer; one counts if every turn is read back as it was said.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from foldgym.agents.engines.chat_renderer import opened_with
from foldgym.agents.engines.scripted import ExpertPolicy
from foldgym.agents.engines.tokenizer import Tokenizer
from foldgym.agents.rollout import Limits, Rollout, rollout
from foldgym.console import note
from foldgym.errors import DataError, EnvCrashed
from foldgym.memory import FullHistory
from foldgym.trainers.judging import unscored
from foldgym.trainers.wiring import Actor
from foldgym.types import (
    Budget,
    Evidence,
    Finish,
    Json,
    Message,
    Opening,
    Request,
    Step,
    Stop,
    Tool,
    ToolCall,
    Trajectory,
)

_ENDLESS = 1 << 30  # tokens, of a model that sets no limit


def cloneable(found: Sequence[Trajectory], actor: Actor, path: Path) -> list[Trajectory]:
    """The trajectories in the ids of `actor`, in their order.

    Those of a chat API are told again; what cannot be is left out and said on stderr. Raises
    `DataError` if nothing is left, or for ids of another vocabulary.
    """
    offered = [_tools(each) for each in found]
    pairs = list(zip(found, offered, strict=True))
    _check_ids([each for each, tools in pairs if tools is None], actor.tokenizer, path)
    again = iter(_told_again([(each, tools) for each, tools in pairs if tools is not None], actor))
    kept = [each if tools is None else next(again) for each, tools in pairs]
    good = [each for each in kept if not each.failed]
    if len(good) < len(found):
        worst = next(each for each in kept if each.failed)
        text = f"{path}: {len(found) - len(good)} of {len(found)} episodes cannot be cloned, the "
        text += f"first ({worst.id}) because {worst.error.partition(': ')[2]}"
        if not good:
            raise DataError(text)
        note(text)
    return good


def _tools(trajectory: Trajectory) -> tuple[Tool, ...] | None:
    """What a chat API was offered in an episode; None if it was no chat API's."""
    if not trajectory.segments:
        return None
    return opened_with(trajectory.segments[0].token_ids, trajectory.task.prompt)


# ---------------------------------------------------------------- ids


def _check_ids(found: Sequence[Trajectory], tokenizer: Tokenizer, path: Path) -> None:
    """Raises `DataError` unless all ids exist, and some task can be read in them."""
    size = tokenizer.vocab_size
    strange = any(max(s.token_ids, default=0) >= size for each in found for s in each.segments)
    if strange or (found and not any(_shows_its_task(each, tokenizer) for each in found)):
        raise DataError(
            f"{path} holds ids of another vocabulary than the policy's: clone into the [policy] "
            "that they come from, or play that policy through foldgym serve-policy as chat:NAME "
            "and clone what it says"
        )


def _shows_its_task(trajectory: Trajectory, tokenizer: Tokenizer) -> bool:
    shown = ["".join(tokenizer.decode(s.token_ids).split()) for s in trajectory.segments]
    parts = [part for m in trajectory.task.prompt for part in _parts(m) if part.strip()]
    asked = ["".join(tokenizer.decode(tokenizer.encode(part)).split()) for part in parts]
    return not asked or any(part in text for part in asked for text in shown)


def _parts(message: Message) -> list[str]:
    if isinstance(message.content, str):
        return [message.content]
    return [part for part in message.content if isinstance(part, str)]


# ---------------------------------------------------------------- messages


@dataclass(slots=True)
class Retelling:
    """The environment of a recorded episode: its expert says what was said then.

    Raises `EnvCrashed` where the record cannot be told in the renderer's words.
    """

    episode: Trajectory
    tools: tuple[Tool, ...]
    heard: int = field(default=0, init=False)
    said: int = field(default=0, init=False)

    async def reset(self, seed: int, options: Mapping[str, Json]) -> Opening:
        """The task as it was shown, and the tools that were offered."""
        if not self.episode.turns:
            raise EnvCrashed("nothing was said")
        return Opening(self.episode.task, self.tools)

    async def expert(self, style: str, seed: int) -> Message:
        """The next turn."""
        if self.said > self.heard:
            raise EnvCrashed(f"the renderer cannot read turn {self.heard} as it would write it")
        turn = self.episode.turns[self.said]
        if turn.purpose != "act" or turn.lineage != "main":
            raise EnvCrashed(f"turn {turn.index} was said for {turn.purpose!r} by {turn.lineage!r}")
        if turn.problem or turn.finish is not Finish.STOP:
            why = turn.problem or "it was cut off by its length"
            raise EnvCrashed(f"turn {turn.index} was not understood: {why}")
        self.said += 1
        return turn.message

    async def step(self, action: Message) -> Step:
        """What came back then."""
        turn = self.episode.turns[self.heard]
        if not _same(action, turn.message):
            raise EnvCrashed(f"the renderer reads turn {turn.index} otherwise than it was said")
        self.heard += 1
        over = self.heard == len(self.episode.turns)
        return Step(turn.observation, turn.reward, over, False, dict(turn.info))

    async def measure(self) -> dict[str, Json]:
        """The facts of then."""
        return dict(self.episode.facts)

    async def evidence(self) -> tuple[Evidence, ...]:
        """None is known."""
        return ()

    async def close(self) -> None:
        """Nothing is held."""


def _same(read: Message, said: Message) -> bool:
    """Whether the world hears the same: equal calls, or without calls equal words."""
    if said.tool_calls or read.tool_calls:
        return list(map(_call, read.tool_calls)) == list(map(_call, said.tool_calls))
    return read.text.split() == said.text.split()


def _call(call: ToolCall) -> tuple[str, str]:
    try:
        return call.name, json.dumps(json.loads(call.arguments), sort_keys=True)
    except ValueError:
        return call.name, call.arguments


def _told_again(
    found: Sequence[tuple[Trajectory, tuple[Tool, ...]]], actor: Actor
) -> list[Trajectory]:
    """The same episodes in the actor's ids; one that cannot be told has failed, with the reason."""
    context = actor.policy.max_positions
    how = Rollout(
        actor.renderer,
        FullHistory,
        budget=Budget(int(min(context, _ENDLESS)), 0),
        limits=Limits(max((len(each.turns) for each, _ in found), default=1)),
        retries=0,
    )
    requests = [Request(each.env, number) for number, (each, _) in enumerate(found)]
    groups = asyncio.run(
        rollout(
            requests,
            lambda request: Retelling(*found[request.seed]),
            ExpertPolicy(),
            how,
            0,
            unscored,
        )
    )
    told: list[Trajectory] = []
    for (each, _), group in zip(found, groups, strict=True):
        (made,) = (*group.trajectories, *group.failures)
        if made.stop is not Stop.DONE and not made.failed:
            why = f"MaxContext: it is longer than the model's {context} positions"
            made = replace(made, stop=Stop.ERROR, error=why)
        stop = made.stop if made.failed else each.stop
        told.append(replace(made, id=each.id, task=each.task, seed=each.seed, stop=stop))
    return told
