"""What scaffolds say and read: instructions in our own words, texts cut to tokens, JSON replies."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from foldgym.agents.renderers import Tokenizer
from foldgym.agents.transcript import Transcript
from foldgym.types import Message


def wording(own: Mapping[str, str], given: Mapping[str, str] | None) -> dict[str, str]:
    """A scaffold's instructions by name, some of them replaced by the run file's.

    Raises `ValueError` for a name that the scaffold does not use.
    """
    unknown = sorted(set(given or {}) - set(own))
    if unknown:
        raise ValueError(f"words has no {unknown[0]!r}; it may hold: {', '.join(sorted(own))}")
    return {**own, **(given or {})}


def blocks(instruction: str, **parts: str) -> str:
    """An instruction with titled texts under it; empty ones are left out.

    >>> blocks("Judge this.", draft="1 + 1 = 3", notes="")
    'Judge this.\\n\\ndraft:\\n1 + 1 = 3'
    """
    titled = [f"{title.replace('_', ' ')}:\n{text}" for title, text in parts.items() if text]
    return "\n\n".join([instruction, *titled])


def clip(text: str, tokens: int, tokenizer: Tokenizer) -> str:
    """The first `tokens` tokens of a text."""
    ids = tokenizer.encode(text)
    if len(ids) <= tokens:
        return text
    short = tokenizer.decode(ids[:tokens])
    while short and len(tokenizer.encode(short)) > tokens:  # a character cut in half
        short = short[:-1]
    return short


def shorten(text: str, characters: int) -> str:
    """Beginning and end of a text that is longer than `characters`, and a word on what is gone."""
    if len(text) <= characters:
        return text
    half = characters // 2
    gone = len(text) - 2 * half
    return f"{text[:half]}\n[{gone} characters left out]\n{text[len(text) - half :]}"


def read_object(text: str) -> dict[str, Any] | None:
    """The first JSON object in a text, whatever stands around it."""
    decoder = json.JSONDecoder()
    at = text.find("{")
    while at >= 0:
        try:
            value: Any = decoder.raw_decode(text, at)[0]
        except (ValueError, RecursionError):
            at = text.find("{", at + 1)
            continue
        return value if isinstance(value, dict) else None
    return None


async def reply(talk: Transcript, purpose: str, told: str) -> str:
    """What a role answers when it is told something; "" when that no longer fits its context."""
    talk.show(Message("user", told), lasting=False)
    prompt = await talk.prompt(purpose)
    if prompt is None:
        return ""
    await talk.say(prompt)
    return talk.text_of(talk.spoken) if talk.spoken else ""
