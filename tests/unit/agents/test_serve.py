"""A policy served: prompts that hold what was sampled, requests read strictly, streams, errors."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Generator
from functools import cache
from pathlib import Path
from typing import Any

import openai
import pytest
import torch

from foldgym.agents.engines.chat import ChatPolicy
from foldgym.agents.engines.chat_cassette import Recording
from foldgym.agents.engines.chat_renderer import ChatRenderer
from foldgym.agents.engines.chat_transport import OpenAITransport
from foldgym.agents.engines.models import init_model, save_policy
from foldgym.agents.engines.serve import Service
from foldgym.agents.engines.serve_http import GRACE, PolicyServer
from foldgym.agents.engines.serve_prompts import PromptWriter
from foldgym.agents.engines.serve_requests import read_chat, read_completion
from foldgym.agents.engines.tokenizer import train_tokenizer
from foldgym.agents.renderers import CompactRenderer
from foldgym.agents.rollout import Rollout, rollout
from foldgym.config import ChatSection
from foldgym.envs.registry import maker
from foldgym.envs.worker import open_worker
from foldgym.listening import Refused
from foldgym.memory import FullHistory
from foldgym.records import JsonlReader
from foldgym.rewards import make_rubric
from foldgym.testing.doubles import ByteTokenizer
from foldgym.trainers.wiring import Actor, make_actor
from foldgym.types import Budget, Image, Message, Policy, Request, Sampling, Tool, ToolCall

GUESS = "foldgym/GuessNumber-v0"
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "guess",
        "description": "",
        "parameters": {
            "type": "object",
            "properties": {"number": {"type": "integer"}},
            "required": ["number"],
        },
    },
}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AQI="}}


@cache
def the_actor() -> Actor:
    """A model that has learnt by heart to guess 50, then 7."""
    torch.set_num_threads(1)
    texts = ["Guess my number from 1 to 100 with the tool guess. guess 50 guess 7 higher lower"] * 9
    tokenizer = train_tokenizer(texts, 320)
    model = init_model(
        vocab_size=tokenizer.vocab_size, hidden=32, layers=1, heads=2, max_positions=512, seed=3
    )
    actor = make_actor(model, tokenizer, "compact", "dynamic")
    renderer = actor.renderer
    asked = renderer.open(
        [Message("user", "Guess my number from 1 to 100 with the tool guess.")], ()
    )
    said: list[int] = []
    ids = [*asked]
    for text, reply in (("guess 50", "lower"), ("guess 7", "higher"), ("guess 7", "higher")):
        words = renderer.say(Message("assistant", text), ())
        ids += renderer.header()
        said += range(len(ids), len(ids) + len(words))
        ids += [*words, *renderer.encode(Message("tool", reply))]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    row = torch.tensor([ids])
    for _ in range(60):
        logits = model(input_ids=row).logits[0]
        at = torch.tensor(said)
        loss = torch.nn.functional.cross_entropy(logits[at - 1], row[0, at])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    return actor


@pytest.fixture(scope="module")
def server() -> Generator[PolicyServer]:
    actor = the_actor()
    service = Service(actor.policy, actor.renderer, "tiny", actor.policy.max_positions)
    with PolicyServer(service) as made:
        yield made


@pytest.fixture
def client(server: PolicyServer) -> openai.OpenAI:
    return openai.OpenAI(base_url=server.url, api_key="none", max_retries=0)


def asked(table: Any, server: PolicyServer, path: str = "/v1/chat/completions") -> tuple[int, Any]:
    data = table if isinstance(table, bytes) else json.dumps(table).encode()
    request = urllib.request.Request(server.address + path, data)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as problem:
        return problem.code, json.loads(problem.read())


def play(policy: Policy, renderer: Any, seeds: int = 6, concurrency: int = 64) -> Any:
    how = Rollout(
        renderer,
        FullHistory,
        Sampling(0.0, 12),
        Budget(1 << 40, 12),
        retries=0,
        concurrency=concurrency,
    )
    make_env = maker(GUESS)
    groups = asyncio.run(
        rollout(
            [Request(GUESS, seed) for seed in range(seeds)],
            lambda request: open_worker(make_env, "inline"),
            policy,
            how,
            1,
            make_rubric().score,
        )
    )
    assert not any(group.failures for group in groups)
    return [group.trajectories[0] for group in groups]


def test_an_evaluation_over_http_samples_the_ids_of_the_engine_itself(
    server: PolicyServer, tmp_path: Path
) -> None:
    actor = the_actor()
    here = play(actor.policy, actor.renderer)
    tape = tmp_path / "tape.jsonl"
    section = ChatSection(body={"return_token_ids": True})
    transport = Recording(OpenAITransport(server.url), tape)
    there = play(ChatPolicy("tiny", transport, section), ChatRenderer())
    answers = [table["answer"] for table in JsonlReader(tape)]
    sent = {(*a["prompt_token_ids"], *a["choices"][0]["token_ids"]) for a in answers}
    for mine, theirs in zip(here, there, strict=True):
        assert len(mine.segments) == 1
        assert mine.segments[0].token_ids in sent
        assert mine.facts == theirs.facts
        assert mine.stop == theirs.stop
        for one, other in zip(mine.turns, theirs.turns, strict=True):
            assert one.message.text == other.message.text
            calls = [[(c.name, c.arguments) for c in m.message.tool_calls] for m in (one, other)]
            assert calls[0] == calls[1]
            assert one.observation[0].text == other.observation[0].text
    assert any(len(t.turns) > 2 for t in here)
    assert any(turn.message.tool_calls for t in here for turn in t.turns)


def test_ids_that_were_sampled_are_shown_again_and_others_are_written() -> None:
    renderer = CompactRenderer(ByteTokenizer())
    writer = PromptWriter(renderer)
    start = [Message("user", "hi")]
    odd = (104, 105, 32, 32, *renderer.stop_ids)  # how the policy spelt it
    said = Message("assistant", "hi", tool_calls=(ToolCall("a", "{}", "x"),))
    writer.remember(start, said, odd)
    result = Message("tool", "ok", tool_call_id="y")
    heard = Message("assistant", "hi", "thoughts", (ToolCall("a", "{}", "y"),))
    ids, _ = writer.write([*start, heard, result], ())
    header = renderer.header()
    assert ids == (
        *renderer.open(start, ()),
        *header,
        *odd,
        *renderer.encode(result),
        *header,
    )
    other, _ = writer.write([Message("user", "ho"), heard, result], ())
    assert odd not in [other[i : i + len(odd)] for i in range(len(other))]


def test_the_openai_client_gets_messages_calls_and_usage(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").owned_by == "foldgym"
    prompt: Any = [
        {"role": "user", "content": "Guess my number from 1 to 100 with the tool guess."}
    ]
    tools: Any = [TOOL]
    answer = client.chat.completions.create(
        model="tiny",
        messages=prompt,
        tools=tools,
        temperature=0,
        max_tokens=12,
        logprobs=True,
        extra_body={"return_token_ids": True},
    )
    choice: Any = answer.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    call = choice.message.tool_calls[0]
    assert (call.function.name, json.loads(call.function.arguments)) == ("guess", {"number": 50})
    assert answer.usage is not None
    assert answer.usage.completion_tokens == len(choice.token_ids) == len(choice.logprobs.content)
    assert answer.usage.prompt_tokens == len(answer.prompt_token_ids)  # type: ignore[attr-defined]
    plain: Any = client.chat.completions.create(
        model="tiny", messages=prompt, tools=tools, tool_choice="none", temperature=0, max_tokens=12
    )
    assert plain.choices[0].message.content == "guess 50"
    assert plain.choices[0].finish_reason == "stop"


def test_seeds_repeat_and_choices_differ(client: openai.OpenAI) -> None:
    def texts(seed: int) -> list[str]:
        answer = client.completions.create(
            model="tiny", prompt="my number", max_tokens=8, seed=seed, n=4, temperature=3.0
        )
        return [choice.text for choice in answer.choices]

    first = texts(5)
    assert texts(5) == first
    assert texts(6) != first
    assert len(set(first)) > 1


def test_completions_take_text_or_ids_and_give_log_probs(client: openai.OpenAI) -> None:
    actor = the_actor()
    ids = list(actor.tokenizer.encode("my number"))
    both: Any = client.completions.create(
        model="tiny",
        prompt=[ids, ids[:2]],
        max_tokens=3,
        temperature=1.0,
        seed=1,
        logprobs=0,
        extra_body={"return_token_ids": True},
    )
    assert [choice.prompt_token_ids for choice in both.choices] == [ids, ids[:2]]
    text: Any = client.completions.create(
        model="tiny",
        prompt="my number",
        max_tokens=3,
        temperature=1.0,
        seed=1,
        logprobs=1,
        extra_body={"return_token_ids": True},
    )
    assert text.choices[0].token_ids == both.choices[0].token_ids
    expected = actor.policy.logprobs(tuple(ids), tuple(text.choices[0].token_ids))
    assert text.choices[0].logprobs.token_logprobs == pytest.approx(expected, abs=1e-5)


def test_streams_add_up_to_the_whole_answer(client: openai.OpenAI) -> None:
    prompt: Any = [{"role": "user", "content": "my number"}]
    how: Any = {"model": "tiny", "temperature": 9.0, "seed": 4, "max_tokens": 40}
    whole = client.chat.completions.create(messages=prompt, **how)
    events = list(
        client.chat.completions.create(
            messages=prompt, stream=True, stream_options={"include_usage": True}, **how
        )
    )
    deltas = [event.choices[0] for event in events if event.choices]
    text = "".join(choice.delta.content or "" for choice in deltas)
    assert text == whole.choices[0].message.content
    assert len(deltas) > 2
    assert deltas[-1].finish_reason == whole.choices[0].finish_reason
    assert events[-1].usage == whole.usage
    plain = client.completions.create(prompt="my number", **how)
    pieces = list(client.completions.create(prompt="my number", stream=True, **how))
    assert "".join(piece.choices[0].text for piece in pieces) == plain.choices[0].text
    call: Any = [{"role": "user", "content": "Guess my number from 1 to 100 with the tool guess."}]
    tools: Any = [TOOL]
    streamed: Any = list(
        client.chat.completions.create(
            model="tiny", messages=call, tools=tools, temperature=0, max_tokens=12, stream=True
        )
    )
    found = [event.choices[0].delta.tool_calls for event in streamed]
    assert [calls[0].function.arguments for calls in found if calls] == ['{"number": 50}']
    assert streamed[-1].choices[0].finish_reason == "tool_calls"


def test_stop_strings_end_a_text_and_are_no_part_of_it(client: openai.OpenAI) -> None:
    how: Any = {"model": "tiny", "prompt": "my number", "temperature": 9.0, "seed": 4}
    whole = client.completions.create(max_tokens=40, **how).choices[0].text
    stop = whole[5:8]
    cut = client.completions.create(max_tokens=40, stop=stop, **how).choices[0]
    assert cut.text == whole[: whole.index(stop)]
    assert cut.finish_reason == "stop"


@pytest.mark.parametrize(
    ("table", "status", "message"),
    [
        (b"{", 400, "the body is no JSON"),
        ({"messages": []}, 400, "messages: give a list of at least one message"),
        ({"messages": [{"role": "wizard"}]}, 400, "none of system, user"),
        ({"messages": [{"role": "user", "content": 3}]}, 400, "messages.0.content: give a text"),
        ({"messages": [{"role": "user", "content": [PICTURE]}]}, 400, "tiny does not see pictures"),
        ({"top_p": 0.5}, 400, "top_p: 0.5 is not offered"),
        ({"tempreature": 0.5}, 400, "tempreature: there is no such option"),
        ({"temperature": -1}, 400, "temperature: give a number"),
        ({"n": 0}, 400, "n: give a whole number"),
        ({"tool_choice": "required"}, 400, "only auto and none are offered"),
        ({"model": "huge"}, 404, "there is no model 'huge' here, only 'tiny'"),
        ({"messages": [{"role": "user", "content": "my " * 900}]}, 400, "maximum context length"),
    ],
)
def test_errors_have_the_shape_that_clients_know(
    server: PolicyServer, table: Any, status: int, message: str
) -> None:
    if isinstance(table, dict):
        table = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], **table}
    got, body = asked(table, server)
    assert got == status
    assert message in body["error"]["message"]
    assert body["error"]["type"] == "invalid_request_error"
    codes = {"maximum context length": "context_length_exceeded"}
    assert body["error"]["code"] == ("model_not_found" if status == 404 else codes.get(message))
    streamed = {**table, "stream": True} if isinstance(table, dict) else table
    assert asked(streamed, server)[0] == status


def test_requests_are_read_strictly() -> None:
    entries: list[Any] = [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "look"}, PICTURE]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
            ],
        },
        {"role": "tool", "tool_call_id": "a", "content": [{"type": "text", "text": "ok"}]},
    ]
    read = read_chat({"model": "m", "messages": entries, "tools": [TOOL], "seed": 3})
    assert read.messages == (
        Message("system", "be brief"),
        Message("user", ("look", Image(b"\x01\x02"))),
        Message("assistant", tool_calls=(ToolCall("f", "{}", "a"),)),
        Message("tool", "ok", tool_call_id="a"),
    )
    parameters = TOOL["function"]["parameters"]
    assert read.tools == (Tool("guess", "", parameters),)
    assert read_completion({"prompt": [1, 2]}).prompts == ((1, 2),)
    assert read_completion({"prompt": ["a", "b"]}).prompts == ("a", "b")
    for table in ({"prompt": []}, {"prompt": [-1]}, {"prompt": [[]]}, {"prompt": {}}):
        with pytest.raises(Refused):
            read_completion(table)
    remote = {"type": "image_url", "image_url": {"url": "http://example.org/a.png"}}
    with pytest.raises(Refused, match="pictures must come as data"):
        read_chat({"messages": [{"role": "user", "content": [remote]}]})


def test_requests_at_the_same_time_share_forward_passes() -> None:
    actor = the_actor()
    service = Service(actor.policy, actor.renderer, "tiny", actor.policy.max_positions)
    with PolicyServer(service) as server:
        table = {"model": "tiny", "prompt": "my number", "max_tokens": 60, "temperature": 9.0}
        before = actor.policy.counters()["forwards"]
        answers: list[Any] = []
        threads = [
            threading.Thread(target=lambda: answers.append(asked(table, server, "/v1/completions")))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        spent = actor.policy.counters()["forwards"] - before
    said = sum(body["usage"]["completion_tokens"] for status, body in answers if status == 200)
    assert len(answers) == 8
    assert spent < said
    server.close()  # a second time


def test_a_server_that_closes_finishes_what_it_began() -> None:
    actor = the_actor()
    service = Service(actor.policy, actor.renderer, "tiny", actor.policy.max_positions)
    table = {"model": "tiny", "prompt": "my number", "max_tokens": 300, "temperature": 9.0}
    answers: list[tuple[int, Any]] = []
    with PolicyServer(service) as server:
        path = "/v1/completions"
        threads = [
            threading.Thread(target=lambda: answers.append(asked(table, server, path)))
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        while server.drain(0.0) < 3 and not answers:
            time.sleep(0.001)
    for thread in threads:
        thread.join()
    assert [status for status, _ in answers] == [200] * 3
    with pytest.raises(urllib.error.URLError):
        asked(table, server, path)


def test_who_is_told_to_stop_twice_stops_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    actor = the_actor()
    service = Service(actor.policy, actor.renderer, "tiny", actor.policy.max_positions)
    before = set(threading.enumerate())
    server = PolicyServer(service)
    told: list[float] = []

    def drain(seconds: float) -> int:
        told.append(seconds)
        if len(told) == 1:
            raise KeyboardInterrupt
        return 0

    monkeypatch.setattr(server, "drain", drain)
    with pytest.raises(KeyboardInterrupt):
        server.close()
    assert told == [GRACE, 1.0]
    assert set(threading.enumerate()) <= before


@pytest.mark.slow
def test_the_command_serves_until_it_is_told_to_stop(tmp_path: Path) -> None:
    actor = the_actor()
    folder = save_policy(tmp_path / "policy", actor.policy.model, actor.tokenizer, "compact")
    words = ["serve-policy", str(folder), "--port", "0", "--served-name", "by-name"]
    process = subprocess.Popen(
        [sys.executable, "-m", "foldgym", *words], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        assert "by-name listens on http://127.0.0.1:" in line
        url = line.split("listens on ")[1].split()[0]
        evaluated = subprocess.run(
            [
                *(sys.executable, "-m", "foldgym", "eval", "--policy", "chat:by-name"),
                *("--base-url", url, "--env", GUESS, "--episodes", "3", "--temperature", "0"),
                *("--max-tokens", "12", "--json"),
            ],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ,
        )
        report = json.loads(evaluated.stdout)
        assert report["envs"][GUESS]["episodes"] == 3
        assert report["accounts"]["failures"] == 0
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
        process.stderr.close()
