"""Lineages: one trajectory, several voices, each with its own log, segments and session."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch

import foldgym
from foldgym.agents.engines.models import init_model
from foldgym.agents.engines.scripted import ExpertPolicy
from foldgym.agents.engines.torch_engine import TorchPolicy
from foldgym.agents.renderers import CompactRenderer
from foldgym.agents.rollout import Limits, Rollout, rollout
from foldgym.agents.stage import Stage
from foldgym.envs.worker import open_worker
from foldgym.errors import EngineError, MemoryFault
from foldgym.memory import FullHistory, SlidingWindow
from foldgym.records import to_table
from foldgym.testing.doubles import ByteTokenizer, HashPolicy, witness
from foldgym.tools import tool
from foldgym.types import (
    Budget,
    Completion,
    EnvHandle,
    Finish,
    Group,
    Message,
    Policy,
    Prompt,
    Request,
    Reward,
    Sampling,
    Session,
    Stop,
)


class Tell(foldgym.ToolEnv):
    """Three remarks end it."""

    def setup(self, rng: random.Random) -> str:
        self.said = 0
        return "what do you say?"

    @tool
    def remark(self, text: str) -> str:
        """Remark something."""
        self.said += 1
        if self.said == 3:
            self.finish(1.0)
        return f"heard {self.said}"


RENDERER = CompactRenderer(ByteTokenizer())


def rolled(
    policy: Policy, scaffold: Callable[[], Any], n: int = 1, world: Any = Tell, **more: Any
) -> Group:
    defaults = {"sampling": Sampling(max_tokens=40), "limits": Limits(max_turns=6), "retries": 0}
    how = Rollout(RENDERER, FullHistory, scaffold=scaffold, **(defaults | more))
    (group,) = asyncio.run(
        asyncio.wait_for(
            rollout(
                [Request("tell", 3, n)],
                lambda request: open_worker(world, "thread", 10.0),
                policy,
                how,
                0,
                lambda trajectory: Reward(0.0, 0.0),
            ),
            60,
        )
    )
    return group


class Duet:
    """A critic comments before each of the speaker's turns; two dreamers think at once."""

    roles = ("main", "critic", "dreamer")

    def __init__(self, by: Any = "policy") -> None:
        self.by = by

    async def run(self, stage: Stage) -> Stop:
        main = await stage.lineage("main", memory=stage.memory())
        critic = await stage.lineage(
            "critic", prompt=[Message("system", "be harsh")], tools=(), by=self.by
        )
        dreamers = [await stage.lineage(f"dreamer/{i}") for i in range(2)]
        stop = Stop.MAX_TURNS
        for turn in range(3):
            dreams = await stage.together([d.aside("dream", "dream!", 12) for d in dreamers])
            critic.show(
                Message("user", f"turn {turn} {[dream and dream.text for dream in dreams]}")
            )
            prompt = await critic.prompt("criticise")
            assert prompt is not None
            said = await critic.say(prompt)
            main.show(Message("user", said.message.text or "?"))
            stop = await stage.converse(main, turns=1)
            if stop is not Stop.MAX_TURNS:
                break
        stage.facts["harsh"] = True
        return stop


def test_lineages_share_numbers_and_keep_their_own_segments() -> None:
    policy = HashPolicy(RENDERER, garbage=0.0)
    (trajectory,) = rolled(policy, Duet).trajectories
    assert [turn.index for turn in trajectory.turns] == list(range(len(trajectory.turns)))
    spoken = [(turn.lineage, turn.purpose) for turn in trajectory.turns[:4]]
    assert spoken == [
        *(("dreamer/0", "dream"), ("dreamer/1", "dream")),
        *(("critic", "criticise"), ("main", "act")),
    ]
    assert trajectory.facts["harsh"] is True
    assert witness(trajectory) == sum(len(ids) for _, ids in policy.calls)
    by_lineage = {
        lineage: [s for s in trajectory.segments if s.lineage == lineage]
        for lineage in ("main", "critic", "dreamer/0", "dreamer/1")
    }
    assert sum(map(len, by_lineage.values())) == len(trajectory.segments)
    # the critic and the speaker only append; what dreamers are asked on the side is not kept
    sizes = [len(segments) for segments in by_lineage.values()]
    assert sizes[:2] == [1, 1]
    assert sizes[2:] == [3, 3]
    for lineage, segments in by_lineage.items():
        owners = {trajectory.turns[t].lineage for s in segments for t in s.turn_ids if t >= 0}
        assert owners == {lineage}


def test_what_is_shown_is_context_and_stands_in_the_turn_it_follows() -> None:
    policy = HashPolicy(RENDERER, garbage=0.0)
    (trajectory,) = rolled(policy, Duet).trajectories
    mine = [turn for turn in trajectory.turns if turn.lineage == "main"]
    assert [len(turn.observation) for turn in mine] == [2, 2, 1]  # an answer, then a comment
    contexts = [context for context, _ in policy.calls]
    comment = RENDERER.encode(mine[0].observation[1])
    assert any(context[i : i + len(comment)] == comment for context in contexts for i in range(200))


def test_untrained_roles_and_auxiliary_lineages_are_never_trained() -> None:
    policy = HashPolicy(RENDERER, garbage=0.0)
    (trajectory,) = rolled(policy, Duet, untrained=frozenset({"critic"})).trajectories
    assert {(s.lineage, s.trainable) for s in trajectory.segments if s.lineage == "critic"} == {
        ("critic", False)
    }
    assert trajectory.trained < sum(len(ids) for _, ids in policy.calls)

    aux = HashPolicy(RENDERER, garbage=0.0)
    policy.calls.clear()
    (trajectory,) = rolled(policy, lambda: Duet("aux"), aux=aux).trajectories
    assert "critic" not in {segment.lineage for segment in trajectory.segments}
    assert [t.message.text for t in trajectory.turns if t.lineage == "critic"] == [
        RENDERER.parse(ids, ()).message.text for _, ids in aux.calls
    ]
    assert trajectory.trained == sum(len(ids) for _, ids in policy.calls)
    with pytest.raises(MemoryFault, match="lineage 'critic' asks an auxiliary policy"):
        rolled(policy, lambda: Duet("aux"))


def test_the_memory_of_the_run_is_the_speakers_alone() -> None:
    policy = HashPolicy(RENDERER, garbage=0.0)
    how = Rollout(RENDERER, lambda: SlidingWindow(1), scaffold=Duet, sampling=Sampling(1.0, 40))

    async def play() -> Group:
        (group,) = await rollout(
            [Request("tell", 3)],
            lambda request: open_worker(Tell, "inline", 10.0),
            policy,
            how,
            0,
            lambda trajectory: Reward(0.0, 0.0),
        )
        return group

    (trajectory,) = asyncio.run(play()).trajectories
    sizes = {
        lineage: sum(segment.lineage == lineage for segment in trajectory.segments)
        for lineage in ("main", "critic")
    }
    assert sizes == {"main": 2, "critic": 1}  # the third turn no longer shows the first


class Planted:
    """Half of every turn is put into the speaker's mouth."""

    roles = ("main",)

    def __init__(self, hold: int = 0) -> None:
        self.hold = hold

    async def run(self, stage: Stage) -> Stop:
        talk = await stage.lineage("main", memory=stage.memory())
        for turn in range(3):
            talk.plant(f"well {turn}. ", aloud=False)
            for hold in (self.hold, self.hold, 0):
                prompt = await talk.prompt()
                assert prompt is not None
                said = await talk.say(prompt, hold=hold)
                if not talk.unfinished:
                    break
                talk.plant("hm, ")
            step = await stage.env.step(said.message)
            await talk.hear(step.observation, step.reward, step.info)
            assert talk.turns[-1].message.thinking.startswith(f"well {turn}. ")
        return Stop.DONE


@pytest.mark.parametrize("hold", [0, 5])
def test_planted_words_are_context_inside_the_turn(hold: int) -> None:
    policy = HashPolicy(RENDERER, garbage=0.0)
    (trajectory,) = rolled(policy, lambda: Planted(hold)).trajectories
    assert len(trajectory.turns) == 3
    calls = [call.name for turn in trajectory.turns for call in turn.message.tool_calls]
    assert hold or calls == ["remark"] * 3
    assert witness(trajectory) == sum(len(ids) for _, ids in policy.calls)
    (segment,) = trajectory.segments
    text = RENDERER.tokenizer.decode(segment.token_ids)
    for turn in range(3):
        assert f"<|assistant|>well {turn}. " in text
    sampled = [i for i, turn in zip(segment.token_ids, segment.turn_ids, strict=True) if turn >= 0]
    assert "well" not in RENDERER.tokenizer.decode(sampled)
    if hold:
        assert len(policy.calls) > 3
        assert "hm, " in text
        assert all(len(ids) == hold for _, ids in policy.calls[:2])


class Unsaid:
    """Says something, takes the end back, and goes on."""

    roles = ("main",)

    async def run(self, stage: Stage) -> Stop:
        talk = await stage.lineage("main", memory=stage.memory())
        prompt = await talk.prompt()
        assert prompt is not None
        await talk.say(prompt, hold=6)
        assert talk.unfinished
        talk.unsay(2)
        again = await talk.prompt()
        assert again is not None
        assert len(again.ids) == len(prompt.ids) + 4
        await talk.say(again)
        return Stop.DONE


def test_words_taken_back_are_trained_once_and_shown_no_more() -> None:
    policy = HashPolicy(RENDERER, garbage=0.0)
    (trajectory,) = rolled(policy, Unsaid).trajectories
    assert len(trajectory.segments) == 2
    assert len(trajectory.turns) == 1
    assert witness(trajectory) == sum(len(ids) for _, ids in policy.calls)


class Failing:
    """A policy whose lineages fail: every session but the first."""

    version = 0

    def __init__(self) -> None:
        self.opened: list[bool] = []

    def open(self, seed: int, env: EnvHandle) -> Session:
        place = len(self.opened)
        self.opened.append(True)
        policy = self

        class One:
            async def sample(self, prompt: Prompt, sampling: Sampling) -> Completion:
                if place == 2:
                    raise EngineError("no electricity")
                ids = RENDERER.say(Message("assistant", "x"), ())
                return Completion(ids, (-1.0,) * len(ids), 0, Finish.STOP)

            def close(self) -> None:
                policy.opened[place] = False

        return One()


def test_an_engine_that_fails_one_lineage_fails_the_trajectory() -> None:
    policy = Failing()
    group = rolled(policy, Duet)
    (failed,) = group.failures
    assert failed.stop is Stop.ERROR
    assert failed.error == "EngineError: no electricity"
    assert not any(policy.opened)  # every lineage's session was closed
    assert len(policy.opened) >= 3
    assert [turn.index for turn in failed.turns] == list(range(len(failed.turns)))
    assert not group.trajectories


def test_an_expert_may_play_every_lineage() -> None:
    class Taught(Tell):
        experts = ("optimal", "dream", "criticise")

        def expert(self, style: str, rng: random.Random) -> str:
            return "remark well" if style == "optimal" else f"a {style} of {rng.random()}"

    (trajectory,) = rolled(ExpertPolicy(), Duet, world=Taught).trajectories
    assert trajectory.stop is Stop.DONE
    said = [turn.message.text for turn in trajectory.turns if turn.purpose == "dream"]
    assert len(set(said)) == 6


# ---------------------------------------------------------------- engines in rounds


def tiny(batching: Any = "rounds") -> TorchPolicy:
    torch.set_num_threads(1)
    model = init_model(
        vocab_size=RENDERER.tokenizer.vocab_size,
        hidden=16,
        layers=1,
        heads=2,
        mlp=16,
        max_positions=2048,
        seed=1,
    )
    return TorchPolicy(model, RENDERER.stop_ids, pad_id=256, batching=batching)


def tables(policy: TorchPolicy, **more: Any) -> list[Any]:
    group = rolled(policy, Duet, n=3, sampling=Sampling(max_tokens=6), **more)
    assert not group.failures, group.failures[0].error
    found = [to_table(trajectory) for trajectory in group.trajectories]
    return [{key: value for key, value in table.items() if key != "seconds"} for table in found]


def test_several_sessions_of_one_episode_do_not_block_an_engine_in_rounds() -> None:
    budget = Budget(max_context=2048)
    first = tables(tiny(), budget=budget)
    assert {segment["lineage"] for segment in first[0]["segments"]} == {
        *("main", "critic", "dreamer/0", "dreamer/1")
    }
    assert first == tables(tiny(), budget=budget)
    # fewer seats than episodes: places are handed on
    assert tables(tiny(), budget=budget, concurrency=2)


def test_an_auxiliary_policy_in_rounds_is_waited_for_only_while_it_speaks() -> None:
    budget, aux = Budget(max_context=2048), tiny()
    how = {"budget": budget, "sampling": Sampling(max_tokens=6)}
    group = rolled(tiny(), lambda: Duet("aux"), n=3, aux=aux, **how)
    assert len(group.trajectories) == 3
    policy = tiny()  # the policy may be its own auxiliary
    group = rolled(policy, lambda: Duet("aux"), n=3, aux=policy, **how)
    assert len(group.trajectories) == 3
    assert {segment.lineage for segment in group.trajectories[0].segments} == {
        *("main", "dreamer/0", "dreamer/1")
    }
