"""Pictures from a world through the chat engine to a served model that sees, and its renderers."""

from __future__ import annotations

import asyncio
import base64
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from chat_server import Table, endpoint, said
from chats import FAMILIES, backend
from seeing import picture, seeing_model, tokenizer

from foldgym.agents.engines.chat import ChatPolicy, chat_policy
from foldgym.agents.engines.chat_cassette import Recording
from foldgym.agents.engines.chat_errors import RequestRefused
from foldgym.agents.engines.chat_renderer import ChatRenderer
from foldgym.agents.engines.chat_transport import OpenAITransport
from foldgym.agents.engines.serve import Service
from foldgym.agents.engines.serve_http import PolicyServer
from foldgym.agents.engines.tokenizer import Tokenizer
from foldgym.agents.pictures import PictureFormat, runs, with_pictures
from foldgym.agents.renderers import Renderer, make_renderer
from foldgym.agents.rollout import Rollout, rollout
from foldgym.config import ChatSection
from foldgym.envs.base import ToolEnv
from foldgym.envs.worker import open_worker
from foldgym.memory import FullHistory
from foldgym.records import JsonlReader
from foldgym.rewards import make_rubric
from foldgym.tools import tool
from foldgym.trainers.wiring import make_actor
from foldgym.types import (
    Budget,
    Image,
    Message,
    Policy,
    Prompt,
    Request,
    Role,
    Sampling,
    Step,
    Trajectory,
)


class Slides(ToolEnv):
    """A picture with the question, and one with every answer."""

    max_turns = 3

    def setup(self, rng: random.Random) -> Any:
        self.number = rng.randrange(100)
        return Message("user", ("what is it ?", picture(self.number, 16, 16), "look"))

    @tool
    def look(self) -> str:
        """Look at the next slide."""
        return "red"

    def step(self, action: Any) -> Step:
        step = super().step(action)
        shown = picture(self.number + 1, 24, 16)
        seen = tuple(
            replace(message, content=(message.text, shown)) for message in step.observation
        )
        return step._replace(observation=seen)


def play(policy: Policy, renderer: Any, seeds: int = 2) -> list[Trajectory]:
    how = Rollout(renderer, FullHistory, Sampling(0.0, 8), Budget(1 << 20, 8), retries=0)
    groups = asyncio.run(
        rollout(
            [Request("slides", seed) for seed in range(seeds)],
            lambda request: open_worker(Slides, "inline"),
            policy,
            how,
            1,
            make_rubric().score,
        )
    )
    assert not any(group.failures for group in groups)
    return [group.trajectories[0] for group in groups]


@pytest.mark.parametrize("protocol", ["native", "text"])
@pytest.mark.parametrize("place", ["inline", "after"])
def test_an_endpoint_gets_the_bytes_of_each_picture(protocol: Any, place: Any) -> None:
    def answer(request: Table) -> Table:
        if protocol == "text":
            return said("<tool_call>look</tool_call>")
        return said("", ("look", "{}", f"id-{len(request['messages'])}"))

    with endpoint(answer) as server:
        section = ChatSection(base_url=server.url, protocol=protocol, tool_images=place)
        (played,) = play(chat_policy("tiny", section), ChatRenderer(protocol), 1)
    shown = [
        part.data
        for message in (*played.task.prompt, *(m for t in played.turns[:2] for m in t.observation))
        for part in message.content
        if not isinstance(part, str)
    ]
    last = server.requests[-1]["messages"]
    sent = [
        (message["role"], base64.b64decode(part["image_url"]["url"].split(",")[1]))
        for message in last
        if isinstance(message["content"], list)
        for part in message["content"]
        if part["type"] == "image_url"
    ]
    assert [data for _, data in sent] == shown
    roles = {role for role, _ in sent[1:]}
    assert roles == ({"tool"} if (protocol, place) == ("native", "inline") else {"user"})


def test_a_served_model_sees_what_the_engine_itself_is_shown(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    actor = make_actor(seeing_model(seed=8), tokenizer(), "compact", "dynamic")
    here = play(actor.policy, actor.renderer, 4)
    tape = tmp_path / "tape.jsonl"
    service = Service(actor.policy, actor.renderer, "tiny", actor.policy.max_positions)
    with PolicyServer(service) as server:
        section = ChatSection(body={"return_token_ids": True})
        transport = Recording(OpenAITransport(server.url), tape)
        play(ChatPolicy("tiny", transport, section), ChatRenderer(), 4)
        torn = Prompt((), (Message("user", ("look", Image(b"torn"))),))
        session = ChatPolicy("tiny", transport, section).open(0)
        with pytest.raises(RequestRefused, match="a picture of 4 bytes cannot be read"):
            asyncio.run(session.sample(torn, Sampling(0.0, 4)))
    answers = [table["answer"] for table in JsonlReader(tape) if "answer" in table]
    sent = {(*a["prompt_token_ids"], *a["choices"][0]["token_ids"]) for a in answers}
    assert all(t.segments[0].token_ids in sent for t in here)
    assert all(len(t.segments[0].pictures) == 3 for t in here)
    assert len({t.segments[0].token_ids for t in here}) == 4
    assert "base64" not in tape.read_text()


@pytest.mark.parametrize("name", FAMILIES)
def test_renderers_of_all_families_carry_pictures(name: str) -> None:
    family = FAMILIES[name]
    words = Tokenizer(backend(family))
    form = PictureFormat(1 << 20, (1 << 20) + 1, (1 << 20) + 2)

    def made(inner: Any) -> Renderer:
        return make_renderer(family.renderer, inner, **family.options)

    seeing, blind = with_pictures(made, words, form), made(words)
    roles: tuple[Role, ...] = ("user", "tool")
    for role in roles:
        shown = Message(role, ("see: ", picture(1), " there"), name="search")
        ids = seeing.encode(shown)
        ((at, end),) = runs(ids, form)
        assert end - at == 4
        without = (*ids[: at - 1], *ids[end + 1 :])
        text = replace(shown, content=("see: ", " there"))
        assert words.decode(without) == words.decode(blind.encode(text))
