"""Chat APIs that misbehave: cut answers, odd shapes, endless ones; keys, accounts and Ctrl-C."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from chat_server import Table, endpoint, said
from hypothesis import example, given
from hypothesis import strategies as st

from foldgym.agents.engines.chat import ChatPolicy, chat_policy
from foldgym.agents.engines.chat_errors import Hiccup, Unreachable
from foldgym.agents.engines.chat_pace import Pace, retry_after
from foldgym.agents.engines.chat_renderer import ChatRenderer
from foldgym.agents.engines.chat_transport import OpenAITransport
from foldgym.config import ChatSection
from foldgym.errors import ConfigError, EngineError
from foldgym.types import Message, Prompt, Sampling, ToolCall

PROMPT = Prompt((1, 2, 3), (Message("user", "hello"),))


def ask(policy: ChatPolicy) -> Message:
    found = asyncio.run(policy.open(5).sample(PROMPT, Sampling(0.0, 50))).message
    assert found is not None
    return found


@contextmanager
def saying(answer: Callable[[socket.socket], None]) -> Generator[str]:
    """A server that reads a request and lets `answer` do what it likes to the connection."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    try:
                        heard = b""
                        while b"\r\n\r\n" not in heard:
                            heard += connection.recv(1 << 16)
                        head, _, body = heard.partition(b"\r\n\r\n")
                        size = re.search(rb"content-length: (\d+)", head.lower())
                        while size and len(body) < int(size[1]):
                            body += connection.recv(1 << 16)
                        answer(connection)
                    except OSError:
                        continue

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def http(body: bytes, kind: str = "application/json", size: int | None = None) -> bytes:
    length = len(body) if size is None else size
    head = ("HTTP/1.1 200 OK", f"Content-Type: {kind}", f"Content-Length: {length}")
    # The server hangs up after it: a client that keeps the line could send its next request there.
    return "\r\n".join((*head, "Connection: close", "", "")).encode() + body


GOOD = json.dumps(said("hi")).encode()


def shaped(**message: Any) -> bytes:
    table = said("hi")
    table["choices"][0]["message"] = message
    return http(json.dumps(table).encode())


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (http(GOOD[:40], size=len(GOOD)), "cannot reach"),
        (b"", "cannot reach"),
        (b"\x00\xff\x00 nonsense\r\n\r\n", "cannot reach"),
        (http(b"<html>busy</html>", "text/html"), "no JSON"),
        (http(GOOD[:-2]), "no JSON"),
        (http(b"\xff\xfe{}"), "no JSON"),
        (http(b"[" * 200_000), "no JSON"),
        (http(b"[1]"), "no JSON object"),
        (http(b'{"choices": []}'), "holds no choice"),
        (http(b'{"choices": {"0": 1}}'), "holds no choice"),
        (http(b'{"choices": [null]}'), "holds no choice"),
        (http(b'{"choices": [{"message": "hi"}]}'), "the message is no object"),
        (shaped(content="a", tool_calls="look"), "tool_calls is no list"),
        (shaped(content="a", tool_calls=[None]), "tool_calls.0 is no object"),
        (shaped(content="a", tool_calls=[{"function": "look"}]), "tool_calls.0 is no object"),
    ],
)
def test_what_cannot_be_read_is_tried_again_and_then_a_failure(answer: bytes, why: str) -> None:
    with saying(lambda connection: connection.sendall(answer)) as url:
        transport = OpenAITransport(url, timeout=20.0)
        policy = ChatPolicy("tiny", transport, ChatSection(retries=1), sleep=_at_once)
        with pytest.raises(Unreachable, match=why) as caught:
            ask(policy)
    assert "\n" not in str(caught.value)
    accounts = policy.accounts
    assert (accounts.requests, accounts.retries, accounts.failures) == (2, 1, 1)


async def _at_once(seconds: float) -> None:
    """Sleeps without sleeping."""


def test_an_answer_that_never_ends_is_given_up() -> None:
    stop = threading.Event()

    def drip(connection: socket.socket) -> None:
        connection.sendall(http(b"", size=1 << 20))
        while not stop.wait(0.02):
            connection.sendall(b" ")

    with saying(drip) as url:
        section = ChatSection(base_url=url, timeout=0.4, retries=0)
        try:
            with pytest.raises(Unreachable, match=r"no answer within 0.4 seconds"):
                ask(chat_policy("tiny", section))
        finally:
            stop.set()


def test_halves_of_characters_and_odd_calls_can_be_written_down() -> None:
    calls = [
        {"function": {"name": "look\ud83d", "arguments": '{"a": "\ud83d"'}},
        {"id": 7, "type": "custom", "custom": {"name": "x"}},
        {"id": "c", "function": {"name": "go", "arguments": {"far": 1}}},
    ]
    table = said("so \ud83d")
    table["choices"][0]["message"] |= {"reasoning_content": "hm\udc00", "tool_calls": calls}
    with endpoint(lambda request: table) as server:
        message = ask(chat_policy("tiny", ChatSection(base_url=server.url)))
    assert message.text == "so ?"
    assert message.thinking == "hm?"
    assert message.tool_calls == (
        ToolCall("look?", '{"a": "?"', ""),
        ToolCall("", "{}", "7"),
        ToolCall("go", '{"far": 1}', "c"),
    )
    message.text.encode()
    renderer = ChatRenderer()
    assert renderer.parse(renderer.say(message, ()), ()).message == message


# ---------------------------------------------------------------- accounts


class Script:
    """A transport that gives these answers in turn."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    async def send(self, request: Mapping[str, Any]) -> Table:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_every_answer_is_paid_for_once_however_often_it_was_tried() -> None:
    usage = {"prompt_tokens": 100, "completion_tokens": 10}
    empty: Table = {"choices": [], "usage": usage}
    error: Table = {"error": {"message": "overloaded"}}
    prices: Any = {"price_input": 1.0, "price_output": 10.0}
    answers = (empty, Hiccup("busy"), error, said("hi"))
    policy = ChatPolicy("tiny", Script(*answers), ChatSection(**prices), sleep=_at_once)
    ask(policy)
    accounts = policy.accounts
    assert (accounts.requests, accounts.retries, accounts.failures) == (4, 3, 0)
    assert (accounts.prompt_tokens, accounts.completion_tokens) == (200, 20)  # two were paid for
    assert accounts.cost == pytest.approx(2 * (100 * 1 + 10 * 10) / 1e6)
    assert accounts.uncounted == 0


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        ("much", (0, 0, 0, 1)),
        ({"prompt_tokens": -5, "completion_tokens": None}, (0, 0, 0, 0)),
        (
            {"prompt_tokens": 12.0, "completion_tokens": 3, "prompt_tokens_details": 7},
            (12, 0, 3, 0),
        ),
        (
            {
                "prompt_tokens": 12,
                "completion_tokens": 3,
                "prompt_tokens_details": {"cached_tokens": 40},
            },
            (12, 12, 3, 0),
        ),
    ],
)
def test_odd_counts_are_counted_as_far_as_they_go(usage: Any, counts: tuple[int, ...]) -> None:
    table = {**said("hi"), "usage": usage}
    policy = ChatPolicy("tiny", Script(table), sleep=_at_once)
    ask(policy)
    found = policy.accounts
    assert counts == (
        found.prompt_tokens,
        found.cached_tokens,
        found.completion_tokens,
        found.uncounted,
    )


# ---------------------------------------------------------------- waiting


@given(st.text(max_size=40))
@example("nan")
@example("inf")
@example("Thu, 01 Jan 1970 00:01:30 +99999999999999999999")
@example("Thu, 01 Jan 0001 00:00:00")
def test_no_rest_that_an_endpoint_asks_for_breaks_anything(text: str) -> None:
    found = retry_after({"retry-after": text, "retry-after-ms": text}, 60.0)
    assert found is None or found >= 0.0


def test_a_date_without_a_zone_is_of_greenwich(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        for zone in ("GMT", "-0000", ""):
            header = f"Thu, 01 Jan 1970 00:01:30 {zone}".strip()
            assert retry_after({"retry-after": header}, 60.0) == 30.0
    finally:
        monkeypatch.undo()
        time.tzset()


class Clock:
    """Time that only passes while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize("limited", [True, False])
def test_a_rest_holds_for_all_whatever_the_status(limited: bool) -> None:
    clock = Clock()
    pace = Pace(clock=clock, sleep=clock.sleep)
    busy = Hiccup("busy", limited=limited, after=9.0)
    policy = ChatPolicy("tiny", Script(busy, said("hi")), pace=pace, sleep=_at_once)
    ask(policy)
    assert clock.now == 9.0


def test_many_episodes_at_once_keep_the_limits_of_a_minute() -> None:
    clock = Clock()
    pace = Pace(7, 500, clock=clock, sleep=clock.sleep)
    sent: list[tuple[float, int]] = []

    class Noting:
        async def send(self, request: Mapping[str, Any]) -> Table:
            sent.append((clock.now, 53))  # 3 ids and 50 to say
            table = said("hi")
            table["usage"] = {"prompt_tokens": 3, "completion_tokens": 50}
            await asyncio.sleep(0)
            return table

    policy = ChatPolicy("tiny", Noting(), pace=pace, sleep=clock.sleep)

    async def all_of_them() -> None:
        sessions = [policy.open(seed) for seed in range(40)]
        await asyncio.gather(*(each.sample(PROMPT, Sampling(0.0, 50)) for each in sessions))

    asyncio.run(all_of_them())
    assert len(sent) == 40
    for when, _ in sent:
        minute = [tokens for at, tokens in sent if when <= at < when + 60]
        assert len(minute) <= 7
        assert sum(minute) <= 500
    assert sent[-1][0] == 5 * 60.0  # 7 a minute: the last five in the sixth


# ---------------------------------------------------------------- keys and Ctrl-C


def test_a_key_with_a_line_break_is_a_key_and_another_is_refused_unseen() -> None:
    with endpoint(lambda request: said("hi")) as server:
        section = ChatSection(base_url=server.url)
        assert ask(chat_policy("tiny", section, "sk-secret\n")).text == "hi"
        assert server.keys == ["Bearer sk-secret"]
        for key in ("sk-sec\nret", "sk-sec ret", "sk-secr\u00e9t"):
            with pytest.raises(ConfigError, match="the API key in OPENAI_API_KEY") as caught:
                chat_policy("tiny", section, key)
            assert "sec" not in str(caught.value)


def test_an_address_that_is_none_is_a_failure_not_a_traceback() -> None:
    for url in ("http://[bad", "nowhere", "http://127.0.0.1:99999/v1", "ftp://127.0.0.1/v1"):
        policy = ChatPolicy("tiny", OpenAITransport(url), ChatSection(retries=0), sleep=_at_once)
        with pytest.raises((EngineError, ConfigError)) as caught:
            ask(policy)
        assert "\n" not in str(caught.value)


def test_ctrl_c_ends_a_wait_between_tries_at_once() -> None:
    asked = threading.Event()

    def busy(request: Table) -> Any:
        asked.set()
        return 429, {"error": {"message": "slow down"}}, {"Retry-After": "100"}

    with endpoint(busy) as server:
        words = ["eval", "--policy", "chat:tiny", "--base-url", server.url]
        process = subprocess.Popen(
            [sys.executable, "-m", "foldgym", *words, "--env", "foldgym/GuessNumber-v0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OPENAI_API_KEY": "sk-secret"},
        )
        try:
            assert asked.wait(60)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "interrupted" in err
    assert "sk-secret" not in out + err
