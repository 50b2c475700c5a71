"""Chat APIs: tries and waits, failures by kind, accounts, recordings, whole episodes."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from chat_server import Table, endpoint, said

from foldgym.agents.conversation import Limits
from foldgym.agents.engines.chat import ChatPolicy, chat_policy
from foldgym.agents.engines.chat_cassette import NotRecorded, Recording, Replay
from foldgym.agents.engines.chat_errors import (
    AccessRefused,
    ContentFiltered,
    ContextFull,
    Hiccup,
    RateLimited,
    RequestRefused,
    Unreachable,
    failure_of,
)
from foldgym.agents.engines.chat_pace import Pace, retry_after, wait_before
from foldgym.agents.engines.chat_renderer import ChatRenderer
from foldgym.agents.engines.chat_transport import OpenAITransport
from foldgym.agents.rollout import Rollout, rollout
from foldgym.config import ChatSection, parse_memory, plug
from foldgym.envs.base import ToolEnv
from foldgym.envs.worker import open_worker
from foldgym.errors import ConfigError, DataError, UserError
from foldgym.memory import MEMORIES, FullHistory
from foldgym.rewards import make_rubric
from foldgym.seeding import generator
from foldgym.tools import tool
from foldgym.types import Budget, Completion, Finish, Message, Prompt, Request, Sampling, Stop

SAMPLING = Sampling(0.0, 50)
PROMPT = Prompt((1, 2, 3), (Message("user", "hello"),))


class Script:
    """A transport that gives these answers in turn and keeps the requests."""

    def __init__(self, *answers: Table | Exception) -> None:
        self.answers, self.requests = list(answers), list[Any]()

    async def send(self, request: Mapping[str, Any]) -> Table:
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Clock:
    """Time that only passes while somebody sleeps."""

    def __init__(self) -> None:
        self.now, self.naps = 0.0, list[float]()

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now += seconds


def ask(policy: ChatPolicy, prompt: Prompt = PROMPT, seed: int = 5) -> Completion:
    return asyncio.run(policy.open(seed).sample(prompt, SAMPLING))


def paced(transport: Any, clock: Clock, **options: Any) -> ChatPolicy:
    section = ChatSection(**options)
    limits = section.requests_per_minute, section.tokens_per_minute
    pace = Pace(*limits, clock=clock, sleep=clock.sleep)
    return ChatPolicy("tiny", transport, section, pace=pace, sleep=clock.sleep)


def test_hiccups_are_tried_again_with_growing_waits_that_the_seed_decides() -> None:
    clocks = [Clock(), Clock(), Clock()]
    for clock, seed in zip(clocks, (5, 5, 6), strict=True):
        script = Script(Hiccup("busy"), Hiccup("busy"), Hiccup("busy"), said("hi"))
        policy = paced(script, clock)
        assert ask(policy, seed=seed).message == Message("assistant", "hi")
        assert (policy.accounts.requests, policy.accounts.retries) == (4, 3)
        for nap, most in zip(clock.naps, (0.5, 1.0, 2.0), strict=True):
            assert most / 2 <= nap <= most
    assert clocks[0].naps == clocks[1].naps != clocks[2].naps


def test_a_rest_that_the_endpoint_asks_for_is_kept_by_everybody() -> None:
    clock = Clock()
    policy = paced(Script(Hiccup("slow down", limited=True, after=7.0), said("hi")), clock)
    ask(policy)
    assert 7.0 <= clock.now <= 7.5
    with pytest.raises(RateLimited, match="rest for 999 s"):
        ask(paced(Script(Hiccup("slow down", limited=True, after=999.0)), Clock()))


def test_after_the_last_try_the_failure_says_what_kept_happening() -> None:
    for limited, kind in ((True, RateLimited), (False, Unreachable)):
        policy = paced(Script(*[Hiccup("busy", limited=limited)] * 3), Clock(), retries=2)
        with pytest.raises(kind, match="busy; given up after 3 tries"):
            ask(policy)
        assert policy.accounts.failures == 1
    with pytest.raises(Unreachable, match="holds no choice: overloaded"):
        ask(paced(Script({"error": {"message": "overloaded"}}), Clock(), retries=0))


@pytest.mark.parametrize(
    ("status", "text", "code", "kind"),
    [
        (401, "bad key", "", AccessRefused),
        (403, "not yours", "", AccessRefused),
        (404, "no such model", "model_not_found", AccessRefused),
        (429, "You exceeded your current quota", "insufficient_quota", AccessRefused),
        (429, "slow down", "rate_limit_exceeded", Hiccup),
        (400, "unknown field", "", RequestRefused),
        (400, "This model's maximum context length is 16 tokens", "", ContextFull),
        (400, "too long", "context_length_exceeded", ContextFull),
        (413, "prompt is too long: 300000 tokens > 200000 maximum", "", ContextFull),
        (400, "the request (9 tokens) exceeds the available context size", "", ContextFull),
        (400, "filtered", "content_filter", ContentFiltered),
        (503, "busy", "", Hiccup),
        (529, "overloaded", "", Hiccup),
    ],
)
def test_failures_by_kind(status: int, text: str, code: str, kind: type[Exception]) -> None:
    assert type(failure_of(status, text, code)) is kind


def test_a_withheld_answer_is_a_failure_and_is_paid_for() -> None:
    answer = said("")
    answer["choices"][0]["finish_reason"] = "content_filter"
    policy = paced(Script(answer), Clock())
    with pytest.raises(ContentFiltered):
        ask(policy)
    assert policy.accounts.prompt_tokens == 100


def test_accounts_add_up_with_the_prices_of_the_user() -> None:
    answer = said("hi")
    answer["usage"]["prompt_tokens_details"] = {"cached_tokens": 40}
    answer["usage"]["completion_tokens_details"] = {"reasoning_tokens": 4}
    prices = {"price_input": 2.0, "price_cached": 0.5, "price_output": 10.0, "currency": "EUR"}
    silent = said("hi")
    del silent["usage"]
    policy = paced(Script(answer, answer, silent), Clock(), **prices)
    for _ in range(3):
        ask(policy)
    accounts = policy.accounts
    # each: 60 new at 2, 40 cached at 0.5 and 10 said at 10 per million = 240 / 1e6
    assert accounts.cost == pytest.approx(2 * 240e-6)
    assert (accounts.prompt_tokens, accounts.cached_tokens) == (200, 80)
    assert (accounts.completion_tokens, accounts.reasoning_tokens) == (20, 8)
    assert accounts.uncounted == 1
    assert paced(Script(), Clock()).accounts.cost is None


def test_no_minute_sees_more_requests_than_allowed() -> None:
    clock = Clock()
    policy = paced(Script(*[said("hi")] * 7), clock, requests_per_minute=3)
    times: list[float] = []
    for _ in range(7):
        ask(policy)
        times.append(clock.now)
    assert times == [0, 0, 0, 60, 60, 60, 120]


def test_tokens_a_minute_are_corrected_by_what_answers_say() -> None:
    clock = Clock()
    # estimated 53 each (3 ids and 50 to say), then counted as 110
    policy = paced(Script(*[said("hi")] * 4), clock, tokens_per_minute=200)
    times: list[float] = []
    for _ in range(4):
        ask(policy)
        times.append(clock.now)
    assert times == [0, 0, 60, 60]  # 110 + 53 fits, then 220 is over
    lonely = Pace(tokens=10, clock=clock, sleep=clock.sleep)
    asyncio.run(lonely.enter(5000))
    assert clock.now == 60


def test_waits_as_endpoints_ask_for_them() -> None:
    assert retry_after({"retry-after": "12"}, 0.0) == 12.0
    assert retry_after({"retry-after-ms": "1500", "retry-after": "9"}, 0.0) == 1.5
    assert retry_after({"retry-after": "Thu, 01 Jan 1970 00:01:30 GMT"}, 60.0) == 30.0
    assert retry_after({"retry-after": "soon"}, 0.0) is None
    assert retry_after({}, 0.0) is None
    assert wait_before(20, generator(0), None) <= 60.0
    assert 3.0 <= wait_before(1, generator(0), 3.0) <= 3.5


def test_a_request_says_what_it_should_and_nothing_that_was_left_out() -> None:
    script = Script(said("hi"), said("hi"))
    policy = paced(script, Clock())
    session = policy.open(5)
    for _ in range(2):
        asyncio.run(session.sample(PROMPT, SAMPLING))
    first, second = script.requests
    assert first["messages"] == [{"role": "user", "content": "hello"}]
    assert (first["model"], first["temperature"], first["max_tokens"]) == ("tiny", 0.0, 50)
    assert 0 <= first["seed"] < 2**31
    assert first["seed"] != second["seed"]
    bare = Script(said("hi"))
    options = {"without": ("temperature", "seed"), "limit": "max_completion_tokens"}
    ask(paced(bare, Clock(), body={"reasoning_effort": "low"}, **options))
    assert set(bare.requests[0]) == {
        *("model", "messages", "max_completion_tokens", "reasoning_effort")
    }


def test_an_api_is_not_trained_and_goes_on_with_no_unfinished_turn() -> None:
    policy = paced(Script(), Clock())
    with pytest.raises(ConfigError, match="can be evaluated, not trained"):
        _ = policy.model
    with pytest.raises(ConfigError, match="unfinished turn"):
        ask(policy, Prompt((1,), (Message("assistant", "so"),)))


# ---------------------------------------------------------------- over HTTP


def test_the_key_and_passwords_stay_out_of_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-secret-123")
    refusal = {"error": {"message": "Incorrect API key provided: sk-secret-123", "code": "x"}}
    with endpoint(lambda request: (401, refusal, {})) as server:
        url = server.url.replace("://", "://me:hunter2@")
        policy = chat_policy("tiny", ChatSection(base_url=url, key_env="MY_KEY"))
        with pytest.raises(AccessRefused) as caught:
            ask(policy)
    assert "sk-secret" not in str(caught.value)
    assert "[key]" in str(caught.value)
    closed = chat_policy("tiny", ChatSection(base_url=url, key_env="MY_KEY", retries=0))
    with pytest.raises(Unreachable, match="cannot reach") as caught_too:
        ask(closed)
    assert "hunter2" not in str(caught_too.value)


def test_statuses_and_headers_arrive_through_the_openai_package() -> None:
    answers: list[Any] = [
        (429, {"error": {"message": "slow"}}, {"Retry-After": "0"}),
        (500, {"error": {"message": "oh"}}, {}),
        said("hi", reasoning_content="because"),
    ]
    with endpoint(lambda request: answers.pop(0)) as server:
        transport = OpenAITransport(server.url, key="sk-1")
        policy = ChatPolicy("tiny", transport, sleep=Clock().sleep)
        assert ask(policy).message == Message("assistant", "hi", "because")
        assert server.keys == ["Bearer sk-1"] * 3
        assert policy.accounts.retries == 2
    odd: list[Any] = [(200, ["no", "object"], {})]
    with endpoint(lambda request: odd[0]) as server:
        policy = chat_policy("tiny", ChatSection(base_url=server.url, retries=0))
        with pytest.raises(Unreachable, match="no JSON object"):
            ask(policy)


def test_without_a_key_or_an_address_one_line_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(UserError, match="OPENAI_API_KEY"):
        chat_policy("tiny")
    with pytest.raises(UserError, match="names no model"):
        chat_policy("", ChatSection(base_url="http://127.0.0.1:1/v1"))


# ---------------------------------------------------------------- recordings


def test_a_recording_replays_what_was_answered_and_nothing_else(tmp_path: Path) -> None:
    tape = tmp_path / "tape.jsonl"
    live = ChatPolicy(
        "tiny", Recording(Script(said("one"), said("two"), ContextFull("too long")), tape)
    )
    other = Prompt((1,), (Message("user", "a very long story"),))

    def play(policy: ChatPolicy) -> list[str]:
        texts = []
        for prompt in (PROMPT, PROMPT, other):
            try:
                answer = ask(policy, prompt).message
                texts.append(answer.text if answer else "")
            except ContextFull as failure:
                texts.append(str(failure))
        return texts

    assert play(live) == play(ChatPolicy("tiny", Replay(tape))) == ["one", "two", "too long"]
    again = ChatPolicy("tiny", Replay(tape))
    play(again)
    with pytest.raises(NotRecorded, match="holds this request 2 times, and all were played"):
        ask(again)
    with pytest.raises(NotRecorded, match=r"lacks a request to other of 1 messages.*'hello'"):
        ask(ChatPolicy("other", Replay(tape)))
    with pytest.raises(DataError, match="already holds a recording"):
        Recording(Script(), tape)
    (tmp_path / "no.jsonl").write_text('{"a": 1}\n')
    with pytest.raises(DataError, match="line 1: not a recording"):
        Replay(tmp_path / "no.jsonl")


def test_a_replay_needs_no_openai_package_and_no_network(tmp_path: Path) -> None:
    tape = tmp_path / "tape.jsonl"
    ask(ChatPolicy("tiny", Recording(Script(said("hi")), tape)))
    code = (
        "import asyncio, sys\n"
        "sys.modules['openai'] = None\n"
        "from foldgym.agents.engines.chat import chat_policy\n"
        "from foldgym.config import ChatSection\n"
        "from foldgym.types import *\n"
        "policy = chat_policy('tiny', ChatSection(replay=sys.argv[1]))\n"
        "prompt = Prompt((1, 2, 3), (Message('user', 'hello'),))\n"
        "said = asyncio.run(policy.open(5).sample(prompt, Sampling(0.0, 50)))\n"
        "assert 'torch' not in sys.modules\n"
        "print(said.message.text)\n"
        "try:\n    chat_policy('tiny', ChatSection(base_url='http://127.0.0.1:1'))\n"
        "except Exception as problem:\n    print(type(problem).__name__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tape)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["hi", "MissingExtra"]


# ---------------------------------------------------------------- whole episodes


class Doors(ToolEnv):
    """Say which door is open."""

    def setup(self, rng: Any) -> str:
        return "which door is open ?"

    @tool
    def look(self) -> str:
        """Look around."""
        return "door 3 is open"

    @tool
    def choose(self, door: int) -> str:
        """Choose a door."""
        self.finish(float(door == 3))
        return "chosen"


def bystander(protocol: str) -> Any:
    """A model that looks, thinks, and chooses the door it was shown."""

    def answer(request: Table) -> Table:
        messages = request["messages"]
        last = messages[-1]["content"]
        opened = "door 3 is open" in last
        if protocol == "text":
            assert "tools" not in request
            assert '"name": "choose"' in messages[0]["content"]
            return said("choose 3" if opened else "<tool_call>look</tool_call>")
        assert {each["function"]["name"] for each in request["tools"]} == {"look", "choose"}
        if opened:
            return said(None, ("choose", '{"door":  3}', "id-2"), reasoning_content="it said so")
        return said("well", ("look", "{}", "id-1"))

    return answer


def episodes(policy: ChatPolicy, count: int = 1) -> list[Any]:
    how = Rollout(ChatRenderer(policy.protocol), FullHistory, Sampling(0.0, 64), retries=0)
    groups = asyncio.run(
        rollout(
            [Request("doors", 3, count)],
            lambda request: open_worker(Doors, "inline", 5.0),
            policy,
            how,
            1,
            make_rubric().score,
        )
    )
    return [*groups[0].trajectories, *groups[0].failures]


@pytest.mark.parametrize("protocol", ["native", "text"])
def test_an_episode_over_http(protocol: Any) -> None:
    with endpoint(bystander(protocol)) as server:
        policy = chat_policy("tiny", ChatSection(base_url=server.url, protocol=protocol))
        played = episodes(policy, 8)
        assert [t.facts["score"] for t in played] == [1.0] * 8
        first = played[0]
        assert [t.message.tool_calls[0].name for t in first.turns] == ["look", "choose"]
        if protocol == "native":
            call = first.turns[1].message.tool_calls[0]
            assert (call.arguments, call.id) == ('{"door":  3}', "id-2")
            assert first.turns[1].message.thinking == "it said so"
            assert first.turns[0].observation[0].tool_call_id == "id-1"
            two = next(r for r in server.requests if len(r["messages"]) > 1)
            assert two["messages"][1]["tool_calls"][0]["id"] == "id-1"
            assert two["messages"][2]["tool_call_id"] == "id-1"
        assert policy.accounts.requests == 16
        assert not any(json.dumps(request).count("sk-") for request in server.requests)


@pytest.mark.parametrize("protocol", ["native", "text"])
def test_whatever_a_memory_shows_calls_and_results_stay_paired(protocol: Any) -> None:
    rounds = 0

    class Strict:
        """Refuses what real endpoints refuse."""

        async def send(self, request: Mapping[str, Any]) -> Table:
            nonlocal rounds
            rounds += 1
            waiting: list[str] = []
            for message in request["messages"]:
                if message["role"] == "tool":
                    waiting.remove(message["tool_call_id"])
                    continue
                assert not waiting
                waiting = [call["id"] for call in message.get("tool_calls", ())]
            assert not waiting
            calls = [("look", "{}", f"id-{rounds}"), ("look", "{}", "again")]
            return said("well", *calls) if "tools" in request and rounds % 3 else said("a note")

    policy = ChatPolicy("tiny", Strict(), ChatSection(protocol=protocol))
    for name in MEMORIES:
        before = rounds
        how = Rollout(
            ChatRenderer(protocol),
            plug("memory", parse_memory(name, {}), MEMORIES, "memory"),
            Sampling(0.0, 64),
            Budget(800, 64),
            Limits(6),
            retries=0,
            aux=policy,
        )
        play = rollout(
            [Request("doors", 3, 1)],
            lambda request: open_worker(Doors, "inline"),
            policy,
            how,
            1,
            make_rubric().score,
        )
        (group,) = asyncio.run(play)
        assert not group.failures, (name, group.failures[0].error)
        assert rounds > before + 1, name


def test_a_conversation_that_is_too_long_stops_and_is_measured() -> None:
    long = {"error": {"message": "maximum context length is 8", "code": "context_length_exceeded"}}

    def answer(request: Table) -> Any:
        if len(request["messages"]) > 1:
            return 400, long, {}
        return said("", ("look", "{}", "id-1"))

    with endpoint(answer) as server:
        (played,) = episodes(chat_policy("tiny", ChatSection(base_url=server.url)))
    assert (played.stop, played.error) == (Stop.MAX_CONTEXT, "")
    assert len(played.turns) == 1
    assert "score" in played.facts


def test_a_refused_request_fails_one_episode_and_a_refused_key_stops_the_run() -> None:
    with endpoint(lambda request: (400, {"error": {"message": "no such field"}}, {})) as server:
        (played,) = episodes(chat_policy("tiny", ChatSection(base_url=server.url)))
        assert played.stop is Stop.ERROR
        assert played.error.startswith("RequestRefused: the endpoint answered 400: no such field")
    with endpoint(lambda request: (401, {"error": {"message": "who ?"}}, {})) as server:
        with pytest.raises(AccessRefused, match="Check the API key"):
            episodes(chat_policy("tiny", ChatSection(base_url=server.url)), 4)


def test_a_message_cut_by_its_length_says_so() -> None:
    answer = said("well then")
    answer["choices"][0]["finish_reason"] = "length"
    assert ask(ChatPolicy("tiny", Script(answer))).finish is Finish.LENGTH
