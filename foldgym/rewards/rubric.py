"""Weighted, gated terms over a finished trajectory, summed into one reward with its breakdown."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from foldgym.errors import ConfigError, RewardError
from foldgym.types import Reward, Trajectory

TermFn: TypeAlias = Callable[..., "float | Sequence[float]"]  # (trajectory, *what it needs)

_GATE = re.compile(r"\s*(?P<name>[^\s>]+)\s*(?:>\s*(?P<bound>[-+]?[0-9.]+(?:[eE][-+]?\d+)?)\s*)?")


@dataclass(frozen=True, slots=True)
class Term:
    """`Term("found", fn, weight=0.5, gate="format>0.5")`.

    `fn` gives one float, or one per turn. `gate` is `"name"` (the raw value of that earlier term
    must be above 0) or `"name>bound"`; a closed gate makes the term 0.

    Parameters of `fn` after the trajectory that have no default are what it needs of the run:
    `def bonus(trajectory, step, group): ...` is given the training step and the trajectories of
    its group. `Rubric.needs` lists them.
    """

    name: str
    fn: TermFn
    weight: float = 1.0
    gate: str = ""


class Rubric:
    """Scores trajectories: `Rubric((Term("em", exact_match), Term("cost", cost, 0.1, "em")))`.

    A gated term is not even called while its gate is closed. Raises `ConfigError` when built from
    terms that cannot work: a name twice, a gate that names no earlier term, a weight that is not
    finite.
    """

    def __init__(self, terms: Sequence[Term]) -> None:
        self.terms = tuple(terms)
        if not self.terms:
            raise ConfigError("a rubric needs at least one reward term")
        self._gates: list[tuple[str, float] | None] = []
        earlier: list[str] = []
        for term in self.terms:
            if term.name in earlier:
                raise ConfigError(f"reward term {term.name!r}: the name is taken")
            if not math.isfinite(term.weight):
                raise ConfigError(f"reward term {term.name!r}: weight {term.weight} is not finite")
            self._gates.append(_parse_gate(term, earlier))
            earlier.append(term.name)
        self._needs = [needs(term.fn) for term in self.terms]

    @property
    def needs(self) -> frozenset[str]:
        """What `score` must be given beside the trajectory: `"step"`, `"group"`, `"judge"`, ..."""
        return frozenset(name for names in self._needs for name in names)

    def score_group(self, trajectories: Sequence[Trajectory], **given: Any) -> tuple[Reward, ...]:
        """One reward per trajectory of a finished group, which the terms may look at as `group`."""
        group = tuple(trajectories)
        return tuple(self.score(trajectory, group=group, **given) for trajectory in group)

    def score(self, trajectory: Trajectory, **given: Any) -> Reward:
        """`total = outcome + sum(turns)`: scalar terms make the outcome, the others the turns.

        `turns` is empty when no term gave one value per turn. `parts[name]` is the term's weighted
        contribution to the total, 0 behind a closed gate. `given` holds what the terms need.
        Raises `RewardError` for a failed trajectory, a term that raises, and a value that is not
        finite or not one per turn; `ConfigError` if a term needs what is not given.
        """
        if trajectory.failed:
            raise RewardError(
                f"trajectory {trajectory.id} failed ({trajectory.error}); failures have no score"
            )
        turns: list[list[float]] = []  # one row per term that gave a value per turn
        raw: dict[str, float] = {}
        parts: dict[str, float] = {}
        outcomes: list[float] = []
        for term, gate, names in zip(self.terms, self._gates, self._needs, strict=True):
            if gate is not None and not raw[gate[0]] > gate[1]:
                raw[term.name] = parts[term.name] = 0.0
                continue
            value = _call(term, trajectory, _taken(term, names, given))
            if isinstance(value, tuple):
                raw[term.name] = math.fsum(value)
                parts[term.name] = math.fsum(term.weight * item for item in value)
                turns.append([term.weight * item for item in value])
            else:
                raw[term.name], parts[term.name] = value, term.weight * value
                outcomes.append(term.weight * value)
        outcome = math.fsum(outcomes)
        per_turn = tuple(map(math.fsum, zip(*turns, strict=True)))
        return Reward(outcome + math.fsum(per_turn), outcome, per_turn, parts)


def _parse_gate(term: Term, earlier: Sequence[str]) -> tuple[str, float] | None:
    if not term.gate:
        return None
    match = _GATE.fullmatch(term.gate)
    try:
        bound = float(match["bound"] or 0.0) if match else math.nan
    except ValueError:
        bound = math.nan
    if match is None or math.isnan(bound):
        raise ConfigError(
            f"reward term {term.name!r}: gate {term.gate!r} cannot be read; "
            'write "name" or "name>0.5"'
        )
    if match["name"] not in earlier:
        names = ", ".join(earlier) or "none"
        raise ConfigError(
            f"reward term {term.name!r}: gate {term.gate!r} names no earlier term; "
            f"earlier terms: {names}"
        )
    return match["name"], bound


def needs(fn: Callable[..., Any]) -> tuple[str, ...]:
    """Names of the parameters after the first that have no default and may be given by position.

    A plug-in says so what it needs of the run; options are keyword-only or have a default.
    """
    try:
        parameters = list(inspect.signature(fn).parameters.values())
    except ValueError:  # some builtins tell no signature; they take the trajectory alone
        return ()
    return tuple(
        parameter.name
        for parameter in parameters[1:]
        if parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        and parameter.default is inspect.Parameter.empty
    )


def _taken(term: Term, names: tuple[str, ...], given: Mapping[str, Any]) -> dict[str, Any]:
    missing = [name for name in names if name not in given]
    if missing:
        raise ConfigError(
            f"reward term {term.name!r} needs {' and '.join(missing)}, which is not given here; "
            f"call `rubric.score_group(trajectories, step=..., ...)`, or leave the term out"
        )
    return {name: given[name] for name in names}


def _call(
    term: Term, trajectory: Trajectory, given: Mapping[str, Any]
) -> float | tuple[float, ...]:
    where = f"reward term {term.name!r} on trajectory {trajectory.id}"
    try:
        value: Any = term.fn(trajectory, **given)
        if isinstance(value, Sequence) or hasattr(value, "__len__"):
            numbers = tuple(float(item) for item in value)
            scalar = False
        else:
            numbers, scalar = (float(value),), True
    except Exception as problem:
        raise RewardError(f"{where} raised {type(problem).__name__}: {problem}") from problem
    if not all(math.isfinite(number * term.weight) for number in numbers):
        raise RewardError(f"{where} gave {value!r}, which is not finite")
    if scalar:
        return numbers[0]
    if len(numbers) != len(trajectory.turns):
        raise RewardError(f"{where} gave {len(numbers)} values for {len(trajectory.turns)} turns")
    return numbers
