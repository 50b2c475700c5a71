"""A policy of this process as an OpenAI-compatible endpoint.

    GET  /v1/models              the one model there is
    POST /v1/chat/completions    messages and tools in, a message out; may be streamed
    POST /v1/completions         text or token ids in, text out; may be streamed
    GET  /health                 {"status": "ok", "model": ...}

Requests that come at the same time share forward passes. Errors are {"error": {"message", "type",
"param", "code"}}. Log-probs are those of the distribution that was sampled from, so 0 when greedy.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from itertools import count
from typing import Protocol

from foldgym.agents.engines.serve_prompts import PromptWriter
from foldgym.agents.engines.serve_requests import Asked
from foldgym.agents.markers import cut
from foldgym.agents.pictures import PictureRenderer, images_of
from foldgym.agents.renderers import Renderer
from foldgym.agents.renderers.template import THINK, THINK_END
from foldgym.agents.tasks import gather_or_cancel
from foldgym.errors import EngineError
from foldgym.listening import Refused
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

_TAGS = (THINK, THINK_END)
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
                    f"the maximum context length of {self.name} is {self._max} tokens, and the "
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
        message, _ = self._renderer.parse(ids, tools)
        if message.tool_calls and not tools:
            _, thought, text = self._text(said).partition(THINK_END)
            text = text if thought and message.thinking else self._text(said)
            return Message("assistant", text.strip(), message.thinking)
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
        over = said.finish is not None
        events: list[dict[str, Json]] = []
        if asked.tools and not over:
            return events
        message = self._message(asked, said)
        begun = bool(said.told or said.thought)

        def event(delta: dict[str, Json], **more: Json) -> None:
            if not begun and not events:
                delta = {"role": "assistant", **delta}
            events.append({"index": said.place, "delta": delta, "finish_reason": None, **more})

        if new := self._news(asked, said, said.thought, message.thinking):
            event({"reasoning_content": new})
            said.thought += new
        if new := self._news(asked, said, said.told, message.text):
            event({"content": new})
            said.told += new
        if over:
            calls = self._calls(asked, said, message)
            if calls:
                event({"tool_calls": [{"index": i, **call} for i, call in enumerate(calls)]})
            event({}, **self._end(asked, said, message, True))
        return events

    def _news(self, asked: Asked, said: Said, told: str, text: str) -> str:
        """What a stream can send now: nothing that later ids may change or take back.

        Half a character waits for its other half, what may become a stop string or a tag until it
        is known whether it does, and white space for what follows.
        """
        if said.finish is None:
            text = text.rstrip("\ufffd")
            held = max(_begun(text, mark) for mark in (*asked.stops, *_TAGS))
            text = text[: len(text) - held].rstrip()
        return text[len(told) :] if text.startswith(told) else ""

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
        new = self._news(asked, said, said.told, self._text(said))
        said.told += new
        choice: dict[str, Json] = {"finish_reason": None, "logprobs": None}
        if said.finish is not None:
            choice = self._end(asked, said, None, False)
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


def _begun(text: str, mark: str) -> int:
    """How many characters at the end of `text` begin `mark` and are not all of it."""
    sizes = range(min(len(text), len(mark) - 1), 0, -1)
    return next((size for size in sizes if mark.startswith(text[-size:])), 0)


def _logprob(token: str, logprob: float) -> Json:
    data = None if "\ufffd" in token else list(token.encode("utf-8", "replace"))
    return {"token": token, "logprob": logprob, "bytes": data, "top_logprobs": []}


def _usage(prompts: Sequence[Ids], choices: Sequence[Said]) -> dict[str, int]:
    shown, said = sum(map(len, prompts)), sum(len(each.ids) for each in choices)
    return {"prompt_tokens": shown, "completion_tokens": said, "total_tokens": shown + said}
