"""What can go wrong with a chat API, and what is done about it.

    AccessRefused     (UserError)     key, account or model: stops the run, whose every call fails
    RequestRefused    (EngineError)   this request is wrong; asking again would not help
    ContextFull       (EngineError)   the conversation is too long: the episode's stop
    ContentFiltered   (EngineError)   the provider withheld the answer
    RateLimited       (EngineError)   still told to slow down after the last retry
    Unreachable       (EngineError)   no usable answer after the last retry

`Hiccup` is what a transport raises for what may pass by itself.
"""

from __future__ import annotations

import re

from foldgym.errors import ContextFull, EngineError, FoldgymError, UserError

__all__ = [
    "AccessRefused",
    "ContentFiltered",
    "ContextFull",
    "Hiccup",
    "RateLimited",
    "RequestRefused",
    "Unreachable",
    "failure_of",
]


class AccessRefused(UserError):
    """The endpoint lets nobody in with this key, or does not have this model."""


class RequestRefused(EngineError):
    """The endpoint understood the request and will not answer it."""


class ContentFiltered(EngineError):
    """The provider's filter withheld the answer."""


class RateLimited(EngineError):
    """The endpoint kept saying that it is asked too often."""


class Unreachable(EngineError):
    """The endpoint gave no usable answer."""


class Hiccup(FoldgymError):
    """Worth another try. `limited`: asked too often; `after`: seconds of rest it asks for."""

    def __init__(self, text: str, *, limited: bool = False, after: float | None = None) -> None:
        super().__init__(text)
        self.limited, self.after = limited, after


_TOO_LONG = re.compile(
    r"context_length_exceeded|context[ _-](?:length|window|size)|exceed_context|"
    r"prompt (?:is|was) too long|too many (?:input )?tokens|input (?:is|was) too long|"
    r"exceeds? the (?:maximum|model's)[^.]*tokens|token count[^.]*exceeds|longer than the maximum",
    re.IGNORECASE,
)
_NO_CREDIT = ("insufficient_quota", "billing_hard_limit_reached", "insufficient_balance")
_AGAIN = frozenset({408, 409, 425, 429})


def failure_of(status: int, text: str, code: str = "", after: float | None = None) -> FoldgymError:
    """The error for an HTTP answer; `text` is one line of it and already holds no secret."""
    said = f"the endpoint answered {status}: {text}"
    if status == 401:
        return AccessRefused(f"{said}. Check the API key (see --chat key_env=NAME)")
    if status == 402 or code in _NO_CREDIT:
        return AccessRefused(f"{said}. The account has no credit left")
    if status == 403:
        return AccessRefused(f"{said}. This key may not use the model; ask for access")
    if status == 404:
        return AccessRefused(f"{said}. Check the model's name and --base-url (it ends in /v1)")
    if status in (400, 413, 422) and _TOO_LONG.search(f"{code} {text}"):
        return ContextFull(said)
    if code == "content_filter":
        return ContentFiltered(said)
    if status in _AGAIN or status >= 500:
        return Hiccup(said, limited=status == 429, after=after)
    return RequestRefused(said)
