"""`--memory` and `--context` on a command line: one memory with options, or several to compare."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from foldgym.cli.options import settings
from foldgym.config import MemorySection, TrainRun, parse_memory
from foldgym.errors import ConfigError

TRAINED = "trained"
_OPTION = re.compile(r"[A-Za-z_]\w*=")
_WITH_OPTION = re.compile(r"(.+?):([A-Za-z_]\w*=.*)", re.DOTALL)
_PAIRS = {"[": "]", "{": "}", '"': '"', "'": "'"}


@dataclass(frozen=True, slots=True)
class Choice:
    """A memory as it was asked for; `label` is how it was written."""

    label: str
    section: MemorySection


def chosen(words: Sequence[str], trained: TrainRun | None = None) -> list[Choice]:
    """The memories of `--memory`, in order.

    A word is a memory's name, or several with commas between them; `NAME:KEY=VALUE` and words
    `KEY=VALUE` give options to the memory before them. "trained" is the memory of the run file
    `trained`, with its options. Raises `ConfigError`, also for one that stands there twice.
    """
    named: list[tuple[str, list[str]]] = []
    for piece in _pieces(words):
        if not _OPTION.match(piece):
            named.append((piece, []))
        elif named:
            named[-1][1].append(piece)
        else:
            raise ConfigError(
                f"--memory {piece!r}: name a memory first, for example window turns=2"
            )
    found = [
        Choice(" ".join([name, *options]), _section(name, options, trained))
        for name, options in named
    ]
    labels = [each.label for each in found]
    for label in labels:
        if labels.count(label) > 1:
            raise ConfigError(f"--memory: {label!r} stands there twice")
    return found


def _section(name: str, options: Sequence[str], trained: TrainRun | None) -> MemorySection:
    if name != TRAINED:
        return parse_memory(name, settings(options, "--memory"))
    if trained is None:
        raise ConfigError(f"--memory {TRAINED}: this policy has no run file that names a memory")
    if options:
        raise ConfigError(f"--memory {TRAINED}: {options[0]} is for the run file to say")
    return trained.memory


def _pieces(words: Sequence[str]) -> Iterator[str]:
    """Names and options, one by one. A word that begins with an option is one option."""
    for word in words:
        if _OPTION.match(word):
            yield word
            continue
        for part in _split(word):
            if not part.strip():
                raise ConfigError(f"--memory {word!r}: there is a comma too many")
            with_option = _WITH_OPTION.fullmatch(part)
            yield from with_option.groups() if with_option else (part,)


def _split(word: str) -> Iterator[str]:
    """At commas that stand in no brackets and no quotes."""
    part, closing = "", list[str]()
    for letter in word:
        if letter == "," and not closing:
            yield part
            part = ""
            continue
        if closing and letter == closing[-1]:
            closing.pop()
        elif letter in _PAIRS and not (closing and closing[-1] in "\"'"):
            closing.append(_PAIRS[letter])
        part += letter
    yield part
