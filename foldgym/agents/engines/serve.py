"""A policy of this process as an OpenAI-compatible endpoint.

    GET  /v1/models              the one model there is
    POST /v1/chat/completions    messages and tools in, a message out; may be streamed
    POST /v1/completions         text or token ids in, text out; may be streamed
    GET  /health                 {"status": "ok", "model": ...}

Requests that come at the same time share forward passes. Errors are {"error": {"message", "type",
"param", "code"}}. Log-probs are those of the distribution that was sampled from, so 0 when greedy.
"""

from __future__ import annotations

import asyncio
import json
import queue
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from itertools import count
from typing import Any, Protocol

from foldgym.agents.engines.serve_prompts import PromptWriter
from foldgym.agents.engines.serve_requests import Asked, parse_body, read_chat, read_completion
from foldgym.agents.markers import cut
from foldgym.agents.pictures import PictureRenderer, images_of
from foldgym.agents.renderers import Renderer
from foldgym.agents.tasks import gather_or_cancel
from foldgym.console import note
from foldgym.errors import EngineError, UserError
from foldgym.listening import Handler, Listening, Refused
from foldgym.seeding import derive_seed
from foldgym.types import (
    Completion,
    Finish,
    Ids,
    Json,
    Message,
    Picture,
    Prompt,
    Sampling,
    Session,
)

MOST_BYTES = 64 << 20
GRACE = 30.0  # seconds that a closing server waits for answers under way
_PIECE = 8  # tokens sampled between looks at stop strings, and between events of a stream

Emit = Callable[[Json], None]


class TooLong(Refused):
    """The prompt leaves no room."""


class NoModel(Refused):
    """Another model was asked for."""


class Opener(Protocol):
    """A token engine, as far as it is needed here."""

    def open(self, seed: int) -> Session:
        """A session with the random stream of `seed`."""
        ...


@dataclass(slots=True)
class Said:
    """One choice as far as it got. `cut` is its text where a stop string ended it."""

    place: int
    prompt: Ids
    ids: list[int] = field(default_factory=list[int])
    logprobs: list[float] = field(default_factory=list[float])
    finish: Finish | None = None
    cut: str | None = None
    told: str = ""  # what a stream has sent of the text
    thought: str = ""  # and of the thinking


class Service:
    """Answers requests with a policy; `name` is the model's, `max_positions` its context."""

    def __init__(
        self, policy: Opener, renderer: Renderer, name: str, max_positions: float, seed: int = 0
    ) -> None:
        self.name = name
        self._policy, self._renderer, self._max = policy, renderer, max_positions
        self._writer = PromptWriter(renderer)
        self._seed, self._numbers = seed, count()
        self._started = int(time.time())

    def models(self) -> Json:
        """What `/v1/models` says."""
        model = {"id": self.name, "object": "model", "created": self._started}
        return {"object": "list", "data": [{**model, "owned_by": "foldgym"}]}

    async def chat(self, asked: Asked, emit: Emit | None = None) -> Json:
        """The answer to a chat request; with `emit`, in pieces. Raises `Refused`."""
        self._check(asked)
        if images_of(asked.messages) and not isinstance(self._renderer, PictureRenderer):
            raise Refused(f"messages: {self.name} does not see pictures; leave them out")
        try:
            ids, pictures = self._writer.write(asked.messages, asked.tools)
        except EngineError as problem:  # a picture that is none
            raise Refused(f"messages: {problem}") from None
        head = self._head("chat.completion" + (".chunk" if emit else ""))

        def tell(said: Said) -> None:
            if emit is not None:
                for choice in self._chat_deltas(asked, said):
                    emit({**head, "choices": [choice]})

        choices = await self._choices([ids], pictures, asked, tell if emit else None)
        for said in choices:
            self._writer.remember(asked.messages, self._message(asked, said), tuple(said.ids))
        answer = {**head, "usage": _usage([ids], choices)}
        if emit is None:
            answer["choices"] = [self._chat_choice(asked, said) for said in choices]
            if asked.token_ids:
                answer["prompt_token_ids"] = list(ids)
        elif asked.usage:
            emit({**answer, "choices": []})
        return answer

    async def complete(self, asked: Asked, emit: Emit | None = None) -> Json:
        """The answer to a plain completion; with `emit`, in pieces. Raises `Refused`."""
        self._check(asked)
        asked = asked if asked.max_tokens else replace(asked, max_tokens=16)
        tokenizer = self._renderer.tokenizer
        prompts = [tokenizer.encode(p) if isinstance(p, str) else p for p in asked.prompts]
        for wrong in (i for ids in prompts for i in ids if i >= tokenizer.vocab_size):
            raise Refused(f"prompt: id {wrong} is outside the {tokenizer.vocab_size} ids")
        head = self._head("text_completion")

        def tell(said: Said) -> None:
            if emit is not None:
                emit({**head, "choices": [self._text_delta(asked, said)]})

        choices = await self._choices(prompts, (), asked, tell if emit else None)
        answer = {**head, "usage": _usage(prompts, choices)}
        if emit is None:
            answer["choices"] = [self._text_choice(asked, said) for said in choices]
        elif asked.usage:
            emit({**answer, "choices": []})
        return answer

    # ------------------------------------------------------------ sampling

    async def _choices(
        self,
        prompts: Sequence[Ids],
        pictures: tuple[Picture, ...],
        asked: Asked,
        tell: Callable[[Said], None] | None,
    ) -> list[Said]:
        for ids in prompts:
            if not ids or self._max - len(ids) < 1:
                raise TooLong(
                    f"the maximum context length of {self.name} is {self._max:g} tokens, and the "
                    f"prompt has {len(ids)}"
                )
        seed = asked.seed
        if seed is None:
            seed = derive_seed(self._seed, "served", next(self._numbers))
        whole = [Said(i, ids) for i, ids in enumerate(p for p in prompts for _ in range(asked.n))]
        seeds = [derive_seed(seed, said.place) for said in whole]
        await gather_or_cancel(
            [
                self._choice(said, pictures, asked, each, tell)
                for said, each in zip(whole, seeds, strict=True)
            ]
        )
        return whole

    async def _choice(
        self,
        said: Said,
        pictures: tuple[Picture, ...],
        asked: Asked,
        seed: int,
        tell: Callable[[Said], None] | None,
    ) -> None:
        """Samples one choice, in pieces where somebody looks at it in between."""
        room = int(min(self._max - len(said.prompt), 1 << 31))
        limit = min(asked.max_tokens or room, room)
        size = _PIECE if asked.stops or tell else limit
        session = self._policy.open(seed)
        try:
            while said.finish is None:
                prompt = Prompt((*said.prompt, *said.ids), pictures=pictures)
                sampling = Sampling(asked.temperature, min(size, limit - len(said.ids)))
                self._take(said, await session.sample(prompt, sampling), asked, limit)
                if tell is not None:
                    tell(said)
        finally:
            session.close()

    def _take(self, said: Said, piece: Completion, asked: Asked, limit: int) -> None:
        """Adds what was sampled, up to a stop string."""
        decode = self._renderer.tokenizer.decode
        earlier = tuple(said.ids)
        kept = cut(piece, asked.stops, decode, earlier) if asked.stops else piece
        said.ids += kept.ids
        said.logprobs += kept.logprobs
        if kept.finish is Finish.MARKER:
            text = decode(said.ids)
            said.cut = text[: min(at for s in asked.stops if (at := text.find(s)) >= 0)]
            said.finish = Finish.MARKER
        elif kept.finish is Finish.STOP or len(said.ids) >= limit:
            said.finish = kept.finish

    def _check(self, asked: Asked) -> None:
        if asked.model not in ("", self.name):
            raise NoModel(
                f"there is no model {asked.model!r} here, only {self.name!r}", HTTPStatus.NOT_FOUND
            )

    # ------------------------------------------------------------ answers

    def _head(self, kind: str) -> dict[str, Json]:
        number = derive_seed(self._seed, kind, next(self._numbers))
        name = "cmpl" if kind == "text_completion" else "chatcmpl"
        head = {"id": f"{name}-{number:016x}", "object": kind, "created": int(time.time())}
        return {**head, "model": self.name}

    def _text(self, said: Said) -> str:
        if said.cut is not None:
            return said.cut
        ended = said.finish is Finish.STOP
        return self._renderer.tokenizer.decode(said.ids[: len(said.ids) - ended])

    def _message(self, asked: Asked, said: Said) -> Message:
        """What was said; without tools, or if it cannot be read, a call is only text."""
        tools = asked.tools if asked.may_call else ()
        ids = tuple(said.ids)
        if said.cut is not None:
            ids = self._renderer.tokenizer.encode(said.cut)
        message, problem = self._renderer.parse(ids, tools)
        if problem or (message.tool_calls and not tools):
            return Message("assistant", self._text(said))
        return message

    def _chat_choice(self, asked: Asked, said: Said) -> dict[str, Json]:
        message = self._message(asked, said)
        table: dict[str, Json] = {"role": "assistant", "content": message.text}
        if message.thinking:
            table["reasoning_content"] = message.thinking
        if message.tool_calls:
            table["content"] = message.text or None
            table["tool_calls"] = self._calls(asked, said, message)
        return {"index": said.place, "message": table, **self._end(asked, said, message, True)}

    def _chat_deltas(self, asked: Asked, said: Said) -> list[dict[str, Json]]:
        """The next events of a stream; with tools, text waits until calls can be told from it."""
        message = self._message(asked, said)
        over = said.finish is not None
        events: list[dict[str, Json]] = []

        def event(delta: dict[str, Json], **more: Json) -> None:
            if not said.told and not said.thought and not any(e["delta"] for e in events):
                delta = {"role": "assistant", **delta}
            events.append({"index": said.place, "delta": delta, "finish_reason": None, **more})

        if over or not asked.tools:
            for name, known, text in (
                ("reasoning_content", said.thought, message.thinking),
                ("content", said.told, message.text),
            ):
                new = text if over else text.rstrip("\ufffd")
                if new.startswith(known) and new != known:
                    event({name: new[len(known) :]})
            said.thought, said.told = message.thinking, message.text.rstrip("\ufffd")
        if over:
            calls = self._calls(asked, said, message)
            if calls:
                event({"tool_calls": [{"index": i, **call} for i, call in enumerate(calls)]})
            event({}, **self._end(asked, said, message, True))
        return events

    def _calls(self, asked: Asked, said: Said, message: Message) -> list[dict[str, Json]]:
        key = self._writer.remember(asked.messages, message, tuple(said.ids))[:12]
        return [
            {
                "id": f"call_{key}_{i}",
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for i, call in enumerate(message.tool_calls)
        ]

    def _text_choice(self, asked: Asked, said: Said) -> dict[str, Json]:
        choice: dict[str, Json] = {"index": said.place, "text": self._text(said)}
        if asked.token_ids:
            choice["prompt_token_ids"] = list(said.prompt)
        return choice | self._end(asked, said, None, False)

    def _text_delta(self, asked: Asked, said: Said) -> dict[str, Json]:
        text = self._text(said)
        if said.finish is None:
            choice: dict[str, Json] = {"finish_reason": None, "logprobs": None}
            text = text.rstrip("\ufffd")
        else:
            choice = self._end(asked, said, None, False)
        new = text[len(said.told) :]
        said.told = text
        return {"index": said.place, "text": new, **choice}

    def _end(
        self, asked: Asked, said: Said, message: Message | None, chat: bool
    ) -> dict[str, Json]:
        """How a choice ended, its ids and their log-probs if they are wanted."""
        reason = "length" if said.finish is Finish.LENGTH else "stop"
        if message is not None and message.tool_calls:
            reason = "tool_calls"
        end: dict[str, Json] = {"finish_reason": reason, "logprobs": None}
        if asked.token_ids:
            end["token_ids"] = list(said.ids)
        if asked.logprobs:
            names = [self._renderer.tokenizer.decode((i,)) for i in said.ids]
            pairs = list(zip(names, said.logprobs, strict=True))
            end["logprobs"] = {"content": [_logprob(*pair) for pair in pairs]}
            if not chat:
                end["logprobs"] = {"tokens": names, "token_logprobs": list(said.logprobs)}
        return end


def _logprob(token: str, logprob: float) -> Json:
    data = list(token.encode("utf-8", "replace"))
    return {"token": token, "logprob": logprob, "bytes": data, "top_logprobs": []}


def _usage(prompts: Sequence[Ids], choices: Sequence[Said]) -> dict[str, int]:
    shown, said = sum(map(len, prompts)), sum(len(each.ids) for each in choices)
    return {"prompt_tokens": shown, "completion_tokens": said, "total_tokens": shown + said}


# ---------------------------------------------------------------- over HTTP


class PolicyServer(Listening):
    """A service on a port of this machine.

        with PolicyServer(service) as server:
            openai.OpenAI(base_url=f"{server.url}", api_key="none")

    Closing it lets answers under way finish, for 30 seconds at most.
    """

    def __init__(self, service: Service, host: str = "127.0.0.1", port: int = 0) -> None:
        self._loop = asyncio.new_event_loop()
        kind = type("Handler", (_Handler,), {"service": service, "loop": self._loop})
        super().__init__(kind, host, port)
        self._worker = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._worker.start()

    @property
    def url(self) -> str:
        """The base URL for clients."""
        return f"{self.address}/v1"

    def run(self) -> None:
        """Answer until interrupted, then finish what is under way."""
        try:
            super().run()
        finally:
            self._end()

    def close(self) -> None:
        """Stop answering; safe to call twice."""
        super().close()
        self._end()

    def _end(self) -> None:
        if self._loop.is_closed():
            return
        left = self.drain(GRACE)
        if left:
            note(f"{left} answers were not finished within {GRACE:g} seconds")
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._worker.join()
        self._loop.close()


class _Handler(Handler):
    service: Service
    loop: asyncio.AbstractEventLoop

    def get(self) -> None:
        """What there is."""
        path = self.path.rstrip("/")
        models = self.service.models()
        if path == "/v1/models":
            self._json(HTTPStatus.OK, models)
        elif path == f"/v1/models/{self.service.name}":
            self._json(HTTPStatus.OK, models["data"][0])
        elif path == "/health":
            self._json(HTTPStatus.OK, {"status": "ok", "model": self.service.name})
        else:
            self._refuse(Refused(f"there is no {self.path}", HTTPStatus.NOT_FOUND))

    def post(self) -> None:
        """A completion."""
        with self.answering():
            try:
                self._post()
            except Exception as problem:
                self._refuse(problem)

    def _post(self) -> None:
        body = self.body(MOST_BYTES)
        path = self.path.rstrip("/")
        if path == "/v1/chat/completions":
            asked, answer = read_chat(parse_body(body)), self.service.chat
        elif path == "/v1/completions":
            asked, answer = read_completion(parse_body(body)), self.service.complete
        else:
            raise Refused(f"there is no {self.path}", HTTPStatus.NOT_FOUND)
        if asked.stream:
            self._stream(lambda emit: answer(asked, emit))
        else:
            self._json(HTTPStatus.OK, self._wait(answer(asked)))

    def _wait(self, job: Coroutine[Any, Any, Json]) -> Json:
        return asyncio.run_coroutine_threadsafe(job, self.loop).result()

    def _stream(self, job: Callable[[Emit], Coroutine[Any, Any, Json]]) -> None:
        """Server-sent events. Nothing is sent before the first, so that a refusal has a status."""
        events: queue.SimpleQueue[Json] = queue.SimpleQueue()
        future = asyncio.run_coroutine_threadsafe(job(events.put), self.loop)
        future.add_done_callback(lambda _: events.put(None))
        first = events.get()
        if first is None:
            future.result()
        try:
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Cache-Control", "no-store")
            self.send_header("Connection", "close")
            self.end_headers()
            self.close_connection = True
            event = first
            while event is not None:
                self._event(json.dumps(event))
                event = events.get()
            problem = future.exception()
            self._event("[DONE]" if problem is None else json.dumps(_error(problem)[1]))
        except OSError:  # the client went away
            future.cancel()

    def _event(self, data: str) -> None:
        self.wfile.write(f"data: {data}\n\n".encode())
        self.wfile.flush()

    def _refuse(self, problem: BaseException) -> None:
        status, table = _error(problem)
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            note(f"{self.path}: {type(problem).__name__}: {problem}")
        self._json(status, table)

    def _json(self, status: int, table: Json) -> None:
        self.reply(status, json.dumps(table).encode(), "application/json")


def _error(problem: BaseException) -> tuple[int, Json]:
    """The status and body for what went wrong."""
    text = " ".join(str(problem).split())
    status, kind, code = HTTPStatus.INTERNAL_SERVER_ERROR, "server_error", None
    if isinstance(problem, Refused):
        status, kind = problem.status, "invalid_request_error"
        code = "context_length_exceeded" if isinstance(problem, TooLong) else None
        code = "model_not_found" if isinstance(problem, NoModel) else code
    elif isinstance(problem, UserError):
        status, kind = HTTPStatus.BAD_REQUEST, "invalid_request_error"
    elif not isinstance(problem, EngineError):
        text = f"{type(problem).__name__}; the server's log says more"
    param = text.partition(":")[0] if kind == "invalid_request_error" and ": " in text else None
    return status, {"error": {"message": text, "type": kind, "param": param, "code": code}}
