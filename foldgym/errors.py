"""One exception tree. Who is to blame decides what happens next.

    FoldgymError
    |-- UserError            the caller asked for something impossible: one line, exit code 2
    |   |-- ConfigError      a run file or an override is wrong
    |   |-- UnknownName      no such environment, memory, advantage, ...; names the nearest
    |   |-- MissingExtra     an optional dependency is missing; names the command that mends it
    |   |-- CheckpointError  a checkpoint is missing, torn or of another kind
    |   |-- DataError        a file could not be read or written
    |   |-- EngineDown       an engine does not start, or does not stay up
    |   `-- ProcessLost      a run in several processes has lost one of them
    |-- Failure              ours, on ONE trajectory: retried, never scored, never in a baseline
    |   |-- EnvTimeout       an environment call outlived its budget and was killed
    |   |-- EnvCrashed       an environment raised, or its process died
    |   |-- SandboxError     a sandbox could not be made, or is gone
    |   `-- EngineError      the engine could not sample
    |       `-- ContextFull  the prompt is longer than the model takes: `Stop.MAX_CONTEXT`
    `-- Bug                  a broken promise inside foldgym or a plug-in: stops the run, loudly
        |-- RewardError      a reward raised or returned no finite number
        |-- MemoryFault      a memory broke its contract (orphan, rewrite not declared, ...)
        |-- NotFinite        a loss, gradient or log-prob is NaN or infinite: weights stay untouched
        `-- WeightsDiffer    an engine samples with other weights than those that are trained

A model's mistake (bad JSON, unknown tool, failing command) is none of these: it is an observation.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class FoldgymError(Exception):
    """Base of everything foldgym raises on purpose."""


class UserError(FoldgymError):
    """The caller can mend this; the message is one line that says how."""


class ConfigError(UserError):
    """A run file or an override is wrong."""


class UnknownName(UserError):
    """A name that nothing answers to."""

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        known = sorted(known)
        near = get_close_matches(name, known, n=1, cutoff=0.5)
        listing = ", ".join(known) if known else "none"
        text = f"unknown {kind} {name!r}"
        text += f"; did you mean {near[0]!r}?" if near else ";"
        text += f" known: {listing}"
        super().__init__(text + (f". {hint}" if hint else ""))
        self.name, self.nearest = name, near[0] if near else None


class MissingExtra(UserError):
    """An optional dependency is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs the extra [{extra}]: pip install 'foldgym[{extra}]'")
        self.extra = extra


class CheckpointError(UserError):
    """A checkpoint is missing, torn or of another kind."""


class DataError(UserError):
    """A file could not be read or written."""


class EngineDown(UserError):
    """An engine does not start, or does not stay up."""


class ProcessLost(UserError):
    """A run in several processes has lost one of them."""


class Failure(FoldgymError):
    """Our failure on one trajectory: retried within a budget, never scored 0."""


class EnvTimeout(Failure):
    """An environment call outlived its budget and was killed."""


class EnvCrashed(Failure):
    """An environment raised, or its process died."""


class SandboxError(Failure):
    """A sandbox could not be made, or is gone: never what a command in it did."""


class EngineError(Failure):
    """The engine could not sample."""


class ContextFull(EngineError):
    """The engine found a prompt too long for its model: the episode ends, and is scored."""


class Bug(FoldgymError):
    """A broken promise inside foldgym or a plug-in."""


class RewardError(Bug):
    """A reward raised, or returned something that is not a finite number."""


class MemoryFault(Bug):
    """A memory broke its contract."""


class NotFinite(Bug):
    """A loss, gradient or log-prob is NaN or infinite."""


class WeightsDiffer(Bug):
    """An engine's log-probs are not those of the weights that are trained."""
