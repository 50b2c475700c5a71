"""How a chat API is asked: `foldgym eval --policy chat:MODEL --chat KEY=VALUE ...`."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from foldgym.config.models import (
    Count,
    Name,
    NonNegative,
    PolicySection,
    Positive,
    Rate,
    Section,
    refuse,
)


class ChatSection(Section):
    """One OpenAI-compatible endpoint.

    `base_url` "" takes OPENAI_BASE_URL, or what the openai package does without. The key is read
    from the environment variable `key_env` and is written nowhere.

    `protocol` "native" sends tools as tools; "text" writes them into the system message and reads
    calls out of the text. `tool_images` "after" moves pictures from tool messages into a user
    message behind them. `thinking` "send" gives earlier thinking back. `without` names fields that
    this endpoint refuses, `body` gives further ones.

    Prices are per million tokens, in whatever `currency`; without `price_cached`, cached prompt
    tokens cost what others do. `max_context` 0 leaves it to the endpoint to say that a
    conversation is too long. `record` writes a file of answers, `replay` plays one.
    """

    base_url: str = ""
    key_env: Name = "OPENAI_API_KEY"
    protocol: Literal["native", "text"] = "native"
    tool_images: Literal["inline", "after"] = "inline"
    thinking: Literal["drop", "send"] = "drop"
    limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    without: tuple[Literal["temperature", "seed", "limit"], ...] = ()
    body: dict[str, Any] = Field(default_factory=dict[str, Any])
    timeout: Rate = 600.0
    retries: Count = 6
    longest_rest: Rate = 120.0  # an endpoint that asks for more is given up
    concurrency: Positive = 32
    requests_per_minute: Count = 0
    tokens_per_minute: Count = 0
    price_input: NonNegative | None = None
    price_cached: NonNegative | None = None
    price_output: NonNegative | None = None
    currency: str = ""
    max_context: Count = 0
    record: str = ""
    replay: str = ""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.record and self.replay:
            raise refuse("chat.record, chat.replay: give one of them")
        if self.replay and self.base_url:
            raise refuse("chat.base_url: has no effect with chat.replay; remove it")
        if (self.price_input is None) != (self.price_output is None):
            raise refuse("chat.price_input, chat.price_output: give both, or none")
        if self.price_input is None and (self.price_cached is not None or self.currency):
            raise refuse("chat.price_cached, chat.currency: have no effect without price_input")
        mine = {"model", "messages", "tools", "n", "stream", "stop"} & self.body.keys()
        if mine:
            raise refuse(f"chat.body.{min(mine)}: is foldgym's to say; remove it")
        return self


class AuxSection(PolicySection):
    """Who answers by="aux": a policy folder, or `path = "chat:MODEL"`, asked as `chat` says."""

    chat: ChatSection = ChatSection()

    @property
    def model(self) -> str:
        """The model of a chat API; empty for a policy folder."""
        return self.path.removeprefix("chat:") if self.path.startswith("chat:") else ""
