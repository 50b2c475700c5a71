"""Which family a tokenizer belongs to: its control tokens say, and its chat template says more."""

from __future__ import annotations

from collections.abc import Container
from typing import NamedTuple


class Guess(NamedTuple):
    """A renderer, with its options as a run file would give them, and what gave it away."""

    renderer: str
    why: str


def detect(controls: Container[str], template: str = "", model_type: str = "") -> Guess | None:
    """The family of a tokenizer with these control tokens; None if it is none that we know.

    `template` is its chat template, `model_type` what `config.json` says, both "" if unknown.
    """
    for mark, name in (
        ("<|channel|>", "gpt-oss"),
        ("<|start_header_id|>", "llama3"),
        ("<start_of_turn>", "gemma"),
        ("<|im_sep|>", "phi"),
    ):
        if mark in controls:
            return Guess(name, f"the vocabulary has {mark}")
    if "<｜Assistant｜>" in controls:
        thinks = "<｜Assistant｜><think>" in template
        told = "its template opens <think>" if thinks else "the vocabulary has <｜Assistant｜>"
        return Guess("deepseek:thinking=true" if thinks else "deepseek", told)
    if "<|observation|>" in controls and (not template or "<arg_key>" in template):
        return Guess("glm4", "the vocabulary has <|observation|>")
    if "<|im_start|>" in controls:
        return _chatml(template, model_type)
    if "<|assistant|>" in controls and "<|end|>" in controls and "<|pad|>" not in controls:
        return Guess("phi", "the vocabulary has <|assistant|> and <|end|>")
    if all(mark in controls for mark in _OURS):
        return Guess("compact", "the vocabulary is one of foldgym's own")
    return None


_OURS = ("<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>", "<|end|>")


def _chatml(template: str, model_type: str) -> Guess | None:
    """Qwen's generations share their marks; what they do with thoughts tells them apart."""
    if "<function=" in template:  # calls and tools in XML, which the template itself describes
        return None
    if "created by Alibaba" in template or model_type == "qwen2":
        return Guess("qwen2.5", "its template or config.json names Qwen 2.5")
    if model_type.startswith("qwen3") or "<tool_response>" in template:
        thinking = _thinking(template)
        option = "" if thinking == "tagged" else f":thinking={thinking}"
        return Guess(f"qwen3{option}", f"it looks like Qwen 3, and thinking is {thinking}")
    return None if template else Guess("chatml", "the vocabulary has <|im_start|>")


def _thinking(template: str) -> str:
    if not template or "enable_thinking" in template:
        return "tagged"
    return "opened" if "assistant\\n<think>" in template else "never"
