"""Plays an OpenAI-compatible chat API: for evaluation, since an API gives no weights to train.

    policy = chat_policy("gpt-x", ChatSection(base_url="http://127.0.0.1:8000/v1"))
    how = Rollout(ChatRenderer(policy.protocol), FullHistory)
    groups = await rollout(requests, open_env, policy, how, seed, score)
    policy.accounts.cost

A request carries a seed of its own, the waits between tries are drawn from the session's seed, and
what was asked and paid for is in `accounts`. See `chat_errors` for what may go wrong.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from random import Random
from typing import Any, cast

from foldgym.agents.engines.chat_cassette import Recording, Replay
from foldgym.agents.engines.chat_errors import (
    ContentFiltered,
    Hiccup,
    RateLimited,
    Unreachable,
)
from foldgym.agents.engines.chat_messages import (
    Protocol,
    Wording,
    misshapen,
    read_message,
    write_messages,
    write_tools,
)
from foldgym.agents.engines.chat_pace import Pace, Sleep, wait_before
from foldgym.agents.engines.chat_transport import OpenAITransport, Transport
from foldgym.config import ChatSection
from foldgym.errors import ConfigError, EngineError
from foldgym.seeding import derive_seed, generator
from foldgym.types import Completion, EnvHandle, Finish, Json, Prompt, Sampling, Session

_SEED_MASK = (1 << 31) - 1  # what every endpoint takes


@dataclass(slots=True)
class Accounts:
    """What a policy asked of its endpoint. Tokens are the endpoint's own counts.

    `uncounted` answers came without counts, `retries` are tries beyond the first. `cost` is in the
    currency of the prices, None where none were given.
    """

    requests: int = 0
    retries: int = 0
    failures: int = 0
    uncounted: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    cost: float | None = None
    currency: str = ""

    def to_table(self) -> dict[str, Json]:
        """The same as a JSON object."""
        return asdict(self)

    def count(self, answer: Mapping[str, Json], section: ChatSection) -> int:
        """Adds the `usage` of one answer; returns its tokens, 0 if it does not say."""
        usage = _table(answer.get("usage"))
        if not usage:
            self.uncounted += 1
            return 0
        prompt, said = _whole(usage.get("prompt_tokens")), _whole(usage.get("completion_tokens"))
        cached = _whole(_table(usage.get("prompt_tokens_details")).get("cached_tokens"))
        cached = min(prompt, cached)
        more = _table(usage.get("completion_tokens_details"))
        self.prompt_tokens += prompt
        self.cached_tokens += cached
        self.completion_tokens += said
        self.reasoning_tokens += _whole(more.get("reasoning_tokens"))
        if section.price_input is not None and section.price_output is not None:
            kept = section.price_input if section.price_cached is None else section.price_cached
            paid = (prompt - cached) * section.price_input + cached * kept
            self.cost = (self.cost or 0.0) + (paid + said * section.price_output) / 1e6
        return prompt + said


def _whole(value: object) -> int:
    return max(0, int(value)) if isinstance(value, int | float) and value < 1e18 else 0


def _table(value: Json) -> Mapping[str, Json]:
    return cast("Mapping[str, Json]", value) if isinstance(value, dict) else {}


def chat_policy(model: str, section: ChatSection | None = None, key: str = "") -> ChatPolicy:
    """The policy that `--policy chat:MODEL` names. `key` is for programs; commands read it from
    the environment. Raises what `OpenAITransport`, `Recording` and `Replay` raise."""
    how = section or ChatSection()
    transport: Transport
    if how.replay:
        transport = Replay(how.replay)
    else:
        transport = OpenAITransport(how.base_url, how.key_env, how.timeout, key)
        if how.record:
            transport = Recording(transport, how.record)
    return ChatPolicy(model, transport, how)


class ChatPolicy:
    """A `Policy` over one model of one endpoint."""

    def __init__(
        self,
        model: str,
        transport: Transport,
        section: ChatSection | None = None,
        *,
        pace: Pace | None = None,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        if not model:
            raise ConfigError("chat: names no model; write --policy chat:MODEL")
        how = section or ChatSection()
        self.name, self.section = model, how
        self.accounts = Accounts(
            cost=None if how.price_input is None else 0.0, currency=how.currency
        )
        self._transport, self._sleep = transport, sleep
        self._wording = Wording(how.protocol, how.tool_images, how.thinking == "send")
        self._pace = pace or Pace(how.requests_per_minute, how.tokens_per_minute)
        self._seats: asyncio.Semaphore | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def version(self) -> int:
        """Its weights never change here."""
        return 0

    @property
    def protocol(self) -> Protocol:
        """How tools are called; `ChatRenderer` must know."""
        return self.section.protocol

    @property
    def model(self) -> Any:
        """What a learner would change. Raises `ConfigError`."""
        raise ConfigError(
            f"chat:{self.name} is an API, which gives no weights: it can be evaluated, not "
            "trained; train a checkpoint, or clone its episodes into one"
        )

    def open(self, seed: int, env: EnvHandle | None = None) -> Session:
        """A session; `env` is not looked at."""
        return ChatSession(self, seed)

    def request(self, prompt: Prompt, sampling: Sampling, seed: int) -> dict[str, Json]:
        """The request for a prompt, as it is sent and recorded."""
        how = self.section
        table: dict[str, Json] = {
            "model": self.name,
            "messages": write_messages(prompt.messages, prompt.tools, self._wording),
        }
        if prompt.tools and how.protocol == "native":
            table["tools"] = write_tools(prompt.tools)
        options = {"temperature": sampling.temperature, "seed": seed, "limit": sampling.max_tokens}
        for name, value in options.items():
            if name not in how.without:
                table[how.limit if name == "limit" else name] = value
        return table | how.body

    async def ask(
        self, request: Mapping[str, Json], tokens: int, rng: Random
    ) -> Mapping[str, Json]:
        """An answer, after as many tries as it takes; `tokens` is an estimate of its size."""
        async with self._seat():
            for attempt in range(1, self.section.retries + 2):
                entry = await self._pace.enter(tokens)
                self.accounts.requests += 1
                try:
                    answer = await self._transport.send(request)
                    try:
                        choice = _choice(answer)
                    except Hiccup:
                        if answer.get("usage"):  # it is paid for all the same
                            self.accounts.count(answer, self.section)
                        raise
                except Hiccup as hiccup:
                    await self._rest(hiccup, attempt, rng)
                    continue
                except EngineError:
                    self.accounts.failures += 1
                    raise
                counted = self.accounts.count(answer, self.section)
                self._pace.correct(entry, counted or tokens)
                if choice.get("finish_reason") == "content_filter":
                    self.accounts.failures += 1
                    raise ContentFiltered("the provider's filter withheld the answer")
                return choice
        raise AssertionError("the last try returns or raises")

    async def _rest(self, hiccup: Hiccup, attempt: int, rng: Random) -> None:
        """Waits before the next try; raises where there is none."""
        longest = self.section.longest_rest
        if attempt > self.section.retries or (hiccup.after or 0.0) > longest:
            self.accounts.failures += 1
            kind = RateLimited if hiccup.limited else Unreachable
            why = f"given up after {attempt} tries"
            if hiccup.after is not None and hiccup.after > longest:
                why = f"it wants to rest for {hiccup.after:g} s (--chat longest_rest={longest:g})"
            raise kind(f"{hiccup}; {why}")
        wait = wait_before(attempt, rng, hiccup.after)
        if hiccup.after is not None:
            self._pace.rest(hiccup.after)
        self.accounts.retries += 1
        await self._sleep(wait)

    def _seat(self) -> asyncio.Semaphore:
        loop = asyncio.get_running_loop()
        if self._seats is None or loop is not self._loop:  # it belongs to one event loop
            self._seats, self._loop = asyncio.Semaphore(self.section.concurrency), loop
        return self._seats


class ChatSession:
    """One lineage's side of a `ChatPolicy`: a stream of seeds, nothing else."""

    def __init__(self, policy: ChatPolicy, seed: int) -> None:
        self._policy, self._seed, self._asked = policy, seed, 0

    async def sample(self, prompt: Prompt, sampling: Sampling) -> Completion:
        """What the model says to `prompt.messages`. Raises `EngineError` of many kinds."""
        last = prompt.messages[-1] if prompt.messages else None
        if last is not None and last.role == "assistant" and not last.tool_calls:
            raise ConfigError(
                f"chat:{self._policy.name} cannot go on with an unfinished turn, as this memory or "
                "scaffold wants; choose another, or play a checkpoint"
            )
        self._asked += 1
        seed = derive_seed(self._seed, "chat", self._asked) & _SEED_MASK
        request = self._policy.request(prompt, sampling, seed)
        rng = generator(self._seed, "backoff", self._asked)
        choice = await self._policy.ask(request, len(prompt.ids) + sampling.max_tokens, rng)
        message = read_message(cast("Mapping[str, Json]", choice.get("message") or {}))
        if self._policy.protocol == "text" and message.tool_calls:
            raise EngineError("the endpoint called a tool although none was offered")
        cut = choice.get("finish_reason") == "length"
        return Completion(message=message, finish=Finish.LENGTH if cut else Finish.STOP)

    def close(self) -> None:
        """Nothing is held."""


def _choice(answer: Mapping[str, Json]) -> Mapping[str, Json]:
    """The first choice. Raises `Hiccup` where there is none that can be read."""
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        error: Any = answer.get("error")
        said = error.get("message") if isinstance(error, dict) else error
        raise Hiccup(f"the answer holds no choice{f': {said}' if said else ''}")
    choice = cast("dict[str, Json]", choices[0])
    if wrong := misshapen(choice.get("message") or {}):
        raise Hiccup(f"the answer cannot be read: {wrong}")
    return choice
