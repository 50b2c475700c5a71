"""Episodes of chat APIs cloned into a policy: the ids are those of the policy's own renderer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from foldgym.agents.engines.chat_renderer import ChatRenderer, opened_with
from foldgym.agents.engines.models import init_model, save_policy
from foldgym.agents.engines.scripted import ExpertPolicy
from foldgym.agents.engines.tokenizer import CHATML_CONTROLS, CONTROLS, Tokenizer, train_tokenizer
from foldgym.agents.rollout import Limits, Rollout, rollout
from foldgym.cli.main import main
from foldgym.config import SftRun, parse
from foldgym.envs import registry
from foldgym.envs.worker import open_worker
from foldgym.errors import DataError
from foldgym.memory import FullHistory, SlidingWindow
from foldgym.records import JsonlWriter, to_table
from foldgym.rewards import make_rubric
from foldgym.testing.families import FAMILIES, backend
from foldgym.trainers.recordings import cloneable
from foldgym.trainers.sft import recorded, sft
from foldgym.trainers.wiring import Actor, make_actor
from foldgym.types import (
    Budget,
    Completion,
    EnvHandle,
    Finish,
    Message,
    Prompt,
    Request,
    Sampling,
    Session,
    Trajectory,
)

WORLDS = ("foldgym/GuessNumber-v0", "foldgym/FictionalSearch-v0", "foldgym/KeyDoor-v0")
PATH = Path("big.jsonl")


class Talkative(ExpertPolicy):
    """The expert as a chat model would have said it: with thoughts, and ids of its own."""

    def open(self, seed: int, env: EnvHandle) -> Session:
        inner = super().open(seed, env)

        class Talking:
            async def sample(self, prompt: Prompt, sampling: Sampling) -> Completion:
                said: Any = (await inner.sample(prompt, sampling)).message
                if isinstance(said, str) or not said.tool_calls:
                    return Completion(message=said)
                calls = tuple(
                    replace(call, id=f"call_x{n}") for n, call in enumerate(said.tool_calls)
                )
                return Completion(message=replace(said, thinking="Let me see.", tool_calls=calls))

            def close(self) -> None:
                inner.close()

        return Talking()


def played(
    renderer: Any, worlds: Sequence[str] = WORLDS, n: int = 2, **how: Any
) -> list[Trajectory]:
    """Episodes of the expert in these worlds, written down by `renderer`."""
    options: dict[str, Any] = {"memory": FullHistory, "budget": Budget(1 << 30, 0)}
    way = Rollout(renderer, **{**options, "limits": Limits(40), **how})
    groups = asyncio.run(
        rollout(
            [Request(name, seed) for name in worlds for seed in range(n)],
            lambda request: open_worker(registry.maker(request.env), "inline", 5.0),
            Talkative(),
            way,
            7,
            make_rubric().score,
        )
    )
    return [trajectory for group in groups for trajectory in group.trajectories]


def actor(name: str = "chatml", positions: int = 1 << 20) -> Actor:
    """A learner with a renderer of this family."""
    if name in ("compact", "chatml"):
        controls = CONTROLS if name == "compact" else (CONTROLS[0], *CHATML_CONTROLS)
        tokenizer = train_tokenizer(["where is the number ? guess higher lower"] * 9, 300, controls)
    else:
        tokenizer = Tokenizer(backend(FAMILIES[name]))
    size = tokenizer.vocab_size
    model = init_model(vocab_size=size, hidden=8, layers=1, heads=1, max_positions=positions)
    return make_actor(model, tokenizer, FAMILIES[name].renderer if name in FAMILIES else name)


def write(path: Path, found: Sequence[Trajectory]) -> Path:
    with JsonlWriter(path) as file:
        for each in found:
            file.write(to_table(each, make_rubric().score(each)))
    return path


@pytest.mark.parametrize("protocol", ["native", "text"])
@pytest.mark.parametrize(
    "name", ["compact", "chatml", "qwen3", "llama3.1", "deepseek-v3", "glm4", "gpt-oss", "gemma3"]
)
def test_a_chat_models_episodes_are_told_as_the_learner_would_have_said_them(
    name: str, protocol: Any
) -> None:
    learner = actor(name)
    chats = played(ChatRenderer(protocol))
    told = cloneable(chats, learner, PATH)
    direct = played(learner.renderer)
    assert len(told) == 6
    for chat, made, wanted in zip(chats, told, direct, strict=True):
        assert (made.id, made.task, made.facts) == (chat.id, chat.task, chat.facts)
        (ours,), (theirs,) = made.segments, wanted.segments
        assert (ours.token_ids, ours.turn_ids) == (theirs.token_ids, theirs.turn_ids)
        assert max(ours.token_ids) < learner.tokenizer.vocab_size
        said = [learner.renderer.say(t.message, ()) for t in chat.turns if not t.message.tool_calls]
        assert made.trained == wanted.trained > sum(map(len, said))


def test_the_tools_that_were_offered_are_read_back() -> None:
    (chat,) = played(ChatRenderer(), WORLDS[1:2], 1)
    env = registry.make(WORLDS[1])
    env.reset(seed=0)
    tools = opened_with(chat.segments[0].token_ids, chat.task.prompt)
    offered = env.get_wrapper_attr("tools")
    assert tools is not None
    assert [(t.name, t.description, t.parameters) for t in tools] == [
        (t.name, t.description, t.parameters) for t in offered
    ]
    assert len(tools) > 1
    assert opened_with(chat.segments[0].token_ids, (Message("user", "Another task"),)) is None
    ours = played(actor().renderer, WORLDS[:1], 1)[0]
    assert opened_with(ours.segments[0].token_ids, ours.task.prompt) is None


def test_what_cannot_be_told_is_left_out_and_said(capsys: Any) -> None:
    good, cut, odd, memo, unread = played(ChatRenderer(), WORLDS[:1], 5)
    cut = replace(cut, turns=(replace(cut.turns[0], finish=Finish.LENGTH), *cut.turns[1:]))
    (call,) = odd.turns[0].message.tool_calls
    broken = replace(odd.turns[0].message, tool_calls=(replace(call, arguments='{"number": '),))
    odd = replace(odd, turns=(replace(odd.turns[0], message=broken), *odd.turns[1:]))
    memo = replace(memo, turns=(replace(memo.turns[0], purpose="fold"), *memo.turns[1:]))
    unread = replace(unread, turns=(replace(unread.turns[0], problem="error: what?"),))
    learner = actor()
    assert [t.id for t in cloneable([cut, odd, good, memo, unread], learner, PATH)] == [good.id]
    said = capsys.readouterr().err
    assert "4 of 5 episodes cannot be cloned" in said
    assert f"the first ({cut.id}) because turn 0 was not understood: it was cut off" in said
    for each, why in (
        (odd, "turn 0"),
        (memo, "turn 0 was said for 'fold'"),
        (unread, "error: what"),
    ):
        with pytest.raises(DataError, match=f"1 of 1 episodes cannot be cloned.*{why}"):
            cloneable([each], learner, PATH)
    with pytest.raises(DataError, match="longer than the model's 64 positions"):
        cloneable([good], actor(positions=64), PATH)


def test_a_window_of_the_chat_model_is_no_window_of_the_learners(capsys: Any) -> None:
    """What the chat model was shown last is not all that it said."""
    chats = played(ChatRenderer(), WORLDS[:1], 2, memory=lambda: SlidingWindow(1))
    assert max(len(chat.segments) for chat in chats) > 1
    told = cloneable(chats, actor(), PATH)
    assert [len(each.segments) for each in told] == [1, 1]
    assert [len(each.turns) for each in told] == [len(each.turns) for each in chats]


def test_ids_go_only_into_the_vocabulary_they_are_of() -> None:
    compact, chatml = actor("compact"), actor("chatml")
    ours = played(compact.renderer, WORLDS[:1], 2)
    chats = played(ChatRenderer(), WORLDS[:1], 1)
    assert cloneable(ours, compact, PATH) == ours
    mixed = cloneable([ours[0], *chats, ours[1]], compact, PATH)
    assert (mixed[0], mixed[2], mixed[1].id) == (ours[0], ours[1], chats[0].id)
    with pytest.raises(DataError, match="ids of another vocabulary"):
        cloneable(ours, chatml, PATH)
    segment = replace(ours[0].segments[0])
    far = replace(segment, token_ids=(9999, *segment.token_ids[1:]))
    with pytest.raises(DataError, match="ids of another vocabulary"):
        cloneable([*ours, replace(ours[0], segments=(far,))], compact, PATH)


def test_cloning_a_chat_model_is_cloning_what_it_said(tmp_path: Path) -> None:
    learner = actor("chatml")
    save_policy(tmp_path / "small", learner.policy.model, learner.tokenizer, "chatml")
    losses: list[list[float]] = []
    for name, renderer in (("chat", ChatRenderer()), ("ids", learner.renderer)):
        file = write(tmp_path / f"{name}.jsonl", played(renderer, WORLDS[:1], 6))
        text = f"""
        output = "{tmp_path / name}"
        [policy]
        path = "{tmp_path / "small"}"
        [[envs]]
        name = "{WORLDS[0]}"
        [sft]
        steps = 4
        batch = 4
        trajectories = "{file}"
        min_reward = 1.0
        """
        sft(parse(SftRun, text))
        lines = (tmp_path / name / "metrics.jsonl").read_text("utf-8").splitlines()
        losses.append([json.loads(line)["loss"] for line in lines])
    assert losses[0] == losses[1]
    assert losses[0][-1] < losses[0][0]


def test_foldgym_sft_refuses_a_foreign_file_in_one_line(tmp_path: Path, capsys: Any) -> None:
    learner = actor("chatml")
    save_policy(tmp_path / "small", learner.policy.model, learner.tokenizer, "chatml")
    file = write(tmp_path / "foreign.jsonl", played(actor("qwen3").renderer, WORLDS[:1], 2))
    text = f"""
    output = "{tmp_path / "run"}"
    [policy]
    path = "{tmp_path / "small"}"
    [[envs]]
    name = "{WORLDS[0]}"
    [sft]
    trajectories = "{file}"
    """
    (tmp_path / "sft.toml").write_text(text)
    assert main(["sft", str(tmp_path / "sft.toml")]) == 2
    err = capsys.readouterr().err
    assert "foreign.jsonl holds ids of another vocabulary than the policy's" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "run").exists()
    assert len(recorded(file, 1, 0)(1)) == 1  # who gives no actor takes the ids as they are
