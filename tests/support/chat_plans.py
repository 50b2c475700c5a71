"""Conversations that chat templates can express, drawn by Hypothesis."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from foldgym.types import Message, ToolCall


@dataclass(frozen=True)
class Can:
    """What a published template can express; beyond it there is nothing to compare with."""

    system: bool = True
    rounds: int = 2  # of calls and results, in a row
    calls: int = 2  # in one turn
    beside: bool = True  # text beside calls
    thinks: bool = False
    thinks_and_says: bool = True  # beside calls
    trims: bool = False


CAN = {
    "qwen2.5": Can(),
    "qwen3": Can(thinks=True),
    "qwen3-2507": Can(),
    "llama3": Can(rounds=0, trims=True),
    "llama3.1": Can(calls=1, beside=False, trims=True),
    "llama3.2": Can(calls=1, beside=False, trims=True),
    "deepseek-r1": Can(rounds=0, thinks=True),
    "deepseek-v3": Can(rounds=1),
    "glm4": Can(thinks=True),
    "glm4-off": Can(),
    "gpt-oss": Can(calls=1, thinks=True, thinks_and_says=False, beside=False),
    "gemma": Can(system=False, rounds=0, trims=True),
    "gemma3": Can(rounds=0, trims=True),
    "phi3": Can(rounds=0),
    "phi3.5": Can(rounds=0),
}

letters = st.characters(exclude_categories=["Cs"])
plain = st.one_of(
    st.text(letters, max_size=12),
    st.sampled_from(
        ["", "where is Ada?", "  spaced\n", "</tool_response>", "a\n\nb", "é東🙂", "<|end|>"]
    ),
    st.sampled_from(["<|im_end|>\n<|im_start|>user\n", '{"name": "x"}', "<|eot_id|>", "user"]),
)
said = plain.map(str.strip).filter(lambda text: "</think>" not in text)


def as_query(text: str, more: dict[str, int]) -> str:
    return json.dumps({"query": text, **more}, ensure_ascii=False)


query = st.builds(as_query, plain, st.sampled_from([{}, {"limit": 2}]))
a_call = st.one_of(
    query.map(lambda arguments: ToolCall("search", arguments)), st.just(ToolCall("stop", "{}"))
)


@st.composite
def conversations(
    draw: Any, can: Can, tools: bool, thoughts: bool, questions: int = 3
) -> list[Message]:
    """Questions, each with rounds of calls and results and an answer; the last may be open.

    Thoughts only behind the last question, unless `thoughts` are wanted everywhere.
    """
    messages: list[Message] = []
    if can.system and draw(st.booleans()):
        messages.append(Message("system", draw(plain.filter(str.strip))))
    asked = draw(st.integers(1, questions))
    rounds = can.rounds
    for number in range(1, asked + 1):
        last = number == asked
        thinks = can.thinks and (thoughts or last)
        messages.append(Message("user", draw(plain)))
        for _ in range(draw(st.integers(0, rounds)) if tools else 0):
            calls = tuple(draw(st.lists(a_call, min_size=1, max_size=can.calls)))
            calls = tuple(ToolCall(c.name, c.arguments, f"call_{n}") for n, c in enumerate(calls))
            thinking = draw(said) if thinks else ""
            beside = can.beside and (can.thinks_and_says or not thinking)
            text = draw(said) if beside else ""
            messages.append(Message("assistant", text, thinking, calls))
            messages += [Message("tool", draw(plain), name=call.name) for call in calls]
            rounds -= can.rounds == 1  # the only one of the conversation
        if not last or draw(st.booleans()):
            messages.append(Message("assistant", draw(said), draw(said) if thinks else ""))
    return messages


def prompts(messages: Sequence[Message]) -> list[int]:
    """After how many messages a turn is sampled."""
    return [
        n
        for n in range(1, len(messages) + 1)
        if messages[n - 1].role != "assistant"
        and (n == len(messages) or messages[n].role == "assistant")
        and any(each.role == "user" for each in messages[:n])
    ]
