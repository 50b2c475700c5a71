"""A served policy and its clients: those that stream, those that go away, and the last ones."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import openai
import pytest

from foldgym.agents.engines import serve_http
from foldgym.agents.engines.serve import Service
from foldgym.agents.engines.serve_http import PolicyServer
from foldgym.agents.renderers import ChatMLRenderer
from foldgym.testing.doubles import ByteTokenizer
from foldgym.types import Completion, Finish, Ids, Prompt, Sampling, Session

RENDERER = ChatMLRenderer(ByteTokenizer())
TOOL: Any = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
HELLO: Any = [{"role": "user", "content": "hello"}]
PATIENCE = 20.0


@dataclass
class Recital:
    """A token engine that says the same text to everybody, and waits after `pause` ids."""

    text: str
    pause: int = 1 << 30
    go_on: threading.Event = field(default_factory=threading.Event)
    waits: threading.Event = field(default_factory=threading.Event)
    closed: threading.Event = field(default_factory=threading.Event)

    def open(self, seed: int) -> Session:
        return _Reciting(self, (*RENDERER.tokenizer.encode(self.text), *RENDERER.stop_ids))


@dataclass
class _Reciting:
    by: Recital
    left: Ids
    said: int = 0

    async def sample(self, prompt: Prompt, sampling: Sampling) -> Completion:
        ids, self.left = self.left[: sampling.max_tokens], self.left[sampling.max_tokens :]
        self.said += len(ids)
        if self.said > self.by.pause:
            self.by.waits.set()
            while not self.by.go_on.is_set():
                await asyncio.sleep(0.005)
        finish = Finish.LENGTH if self.left else Finish.STOP
        return Completion(ids, (-0.5,) * len(ids), 0, finish)

    def close(self) -> None:
        self.by.closed.set()


@contextmanager
def serving(policy: Recital, host: str = "127.0.0.1", most: int = 4096) -> Generator[PolicyServer]:
    service = Service(policy, RENDERER, "tiny", most)
    with PolicyServer(service, host) as server:
        try:
            yield server
        finally:
            policy.go_on.set()


def client_of(server: PolicyServer) -> openai.OpenAI:
    return openai.OpenAI(base_url=server.url, api_key="none", max_retries=0)


def streamed(client: openai.OpenAI, **how: Any) -> dict[str, str]:
    """What a stream said, by the name of the field."""
    found = {"content": "", "reasoning_content": ""}
    for event in client.chat.completions.create(model="tiny", messages=HELLO, stream=True, **how):
        for name in found:
            found[name] += getattr(event.choices[0].delta, name, None) or ""
    return found


# pieces are 8 ids, which are bytes here
@pytest.mark.parametrize(
    ("text", "stop", "content", "thinking"),
    [
        ("0123456STOP and more", "STOP", "0123456", ""),
        ("0123 STEST and more", "STOP", "0123 STEST and more", ""),
        ("0123456ST", "STOP", "0123456ST", ""),
        ("aaaaaaa東b🙂ccccc🙂", None, "aaaaaaa東b🙂ccccc🙂", ""),
        ("  <think>why\n</think>because", None, "because", "why"),
        ("<think>why\n</think>0123456STOP", "STOP", "0123456", "why"),
        ("<think>why</thin", None, "", "why</thin"),
        (
            '<think>why</think>well <tool_call>{"name": "look"}</tool_call> then',
            None,
            'well <tool_call>{"name": "look"}</tool_call> then',
            "why",
        ),
        ("so <tool_call>{broken</tool_call>", None, "so <tool_call>{broken</tool_call>", ""),
    ],
)
def test_a_stream_says_what_the_whole_answer_says(
    text: str, stop: str | None, content: str, thinking: str
) -> None:
    with serving(Recital(text)) as server, client_of(server) as client:
        whole: Any = client.chat.completions.create(model="tiny", messages=HELLO, stop=stop)
        message = whole.choices[0].message
        assert message.content == content
        assert getattr(message, "reasoning_content", "") == thinking
        found = streamed(client, stop=stop)
        assert found == {"content": content, "reasoning_content": thinking}
        plain: Any = client.completions.create(model="tiny", prompt="a", stop=stop, max_tokens=99)
        pieces = client.completions.create(
            model="tiny", prompt="a", stop=stop, max_tokens=99, stream=True
        )
        assert "".join(piece.choices[0].text for piece in pieces) == plain.choices[0].text


def test_half_a_character_has_no_bytes_of_its_own() -> None:
    with serving(Recital("é")) as server, client_of(server) as client:
        said: Any = client.chat.completions.create(model="tiny", messages=HELLO, logprobs=True)
        shown = [(each.token, each.bytes) for each in said.choices[0].logprobs.content]
        assert shown == [("\ufffd", None), ("\ufffd", None), ("<|im_end|>", [*b"<|im_end|>"])]


@pytest.mark.parametrize(
    "more",
    [{}, {"stream": True}, {"stream": True, "tools": [TOOL]}],
    ids=["whole", "text", "tools"],
)
def test_nothing_is_sampled_for_a_client_that_went_away(more: dict[str, Any]) -> None:
    policy = Recital("word " * 20, pause=20)
    with serving(policy) as server:
        host, port = server.address.removeprefix("http://").split(":")
        body = json.dumps({"model": "tiny", "messages": HELLO, "stop": "never", **more})
        connection = http.client.HTTPConnection(host, int(port))
        connection.request("POST", "/v1/chat/completions", body)
        assert policy.waits.wait(PATIENCE)
        assert not policy.closed.is_set()
        connection.close()
        assert policy.closed.wait(PATIENCE)
        assert not policy.go_on.is_set()  # it did not wait for its end
        assert server.drain(PATIENCE) == 0


def test_a_closing_server_finishes_what_it_began_and_begins_no_more() -> None:
    policy = Recital("word " * 20, pause=20)
    answers: list[Any] = []
    with serving(policy) as server:
        host, port = server.address.removeprefix("http://").split(":")
        idle = http.client.HTTPConnection(host, int(port))
        idle.request("GET", "/health")
        assert json.loads(idle.getresponse().read())["status"] == "ok"

        def ask() -> None:
            with client_of(server) as client:
                answers.append(client.completions.create(model="tiny", prompt="a", max_tokens=99))

        asking = threading.Thread(target=ask)
        asking.start()
        assert policy.waits.wait(PATIENCE)
        closing = threading.Thread(target=server.close)
        closing.start()
        while not server._server.closing:  # type: ignore[reportPrivateUsage]
            asyncio.run(asyncio.sleep(0.005))
        idle.request("POST", "/v1/completions", json.dumps({"model": "tiny", "prompt": "a"}))
        late = idle.getresponse()
        assert (late.status, json.loads(late.read())["error"]["message"]) == (
            503,
            "the server is closing",
        )
        policy.go_on.set()
        closing.join()
        asking.join()
    assert [answer.choices[0].text for answer in answers] == ["word " * 19 + "word"]


@pytest.mark.parametrize("stream", [False, True])
def test_what_is_not_finished_in_time_is_told_so(
    stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve_http, "GRACE", 0.0)
    policy = Recital("word " * 20, pause=20)
    problems: list[openai.APIError] = []
    with serving(policy) as server:

        def ask() -> None:
            how: Any = {"stop": "never", "stream": stream}
            with client_of(server) as client:
                try:
                    list(client.chat.completions.create(model="tiny", messages=HELLO, **how))
                except openai.APIError as problem:
                    problems.append(problem)

        asking = threading.Thread(target=ask)
        asking.start()
        assert policy.waits.wait(PATIENCE)
        server.close()
        asking.join(PATIENCE)
        assert policy.closed.is_set()
    assert ["the server is closing" in str(problem) for problem in problems] == [True]


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as found:
            found.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6")
def test_an_ipv6_address_is_an_address() -> None:
    with serving(Recital("hi"), "::1") as server, client_of(server) as client:
        assert server.url.startswith("http://[::1]:")
        assert [model.id for model in client.models.list()] == ["tiny"]


def _calls(value: Any) -> dict[str, Any]:
    entry = {"role": "assistant", "content": "", "tool_calls": value}
    return {"messages": [*HELLO, entry, *HELLO]}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (_calls(["look"]), "messages.1: tool_calls.0 is no object with a function"),
        (_calls("look"), "messages.1: tool_calls is no list"),
        (_calls([{"function": "look"}]), "messages.1: tool_calls.0 is no object with a function"),
        (
            {"messages": [{"role": "user", "content": "a" * 90}], "n": 2},
            "the maximum context length of tiny is 64 tokens, and the prompt has 109",
        ),
    ],
)
def test_odd_messages_are_the_client_s_mistake(table: dict[str, Any], message: str) -> None:
    with serving(Recital("hi"), most=64) as server, client_of(server) as client:
        with pytest.raises(openai.BadRequestError, match=message):
            client.chat.completions.create(model="tiny", **table)


def test_a_path_may_be_quoted_and_have_a_query() -> None:
    policy = Recital("hi")
    with PolicyServer(Service(policy, RENDERER, "my model/1", 64)) as server:
        with openai.OpenAI(base_url=server.url, api_key="none", max_retries=0) as client:
            assert client.models.retrieve("my model/1").id == "my model/1"
            how: Any = {"model": "my model/1", "messages": HELLO, "extra_query": {"a": "b"}}
            assert client.chat.completions.create(**how).choices[0].message.content == "hi"
