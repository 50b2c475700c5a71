"""Transforms make any world longer or harder: wrappers with a knob, named in a run file.

    foldgym.make("foldgym/FictionalSearch-v0", transforms=[{"use": "objectives", "k": 4}, "faults"])

The first of several stands nearest to the world. `build` makes one of a name and its options.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from foldgym.errors import ConfigError, UserError

if TYPE_CHECKING:
    from foldgym.envs.base import Env

_HERE = "foldgym.envs.transforms"
TRANSFORMS: Mapping[str, str] = {
    "objectives": f"{_HERE}.objectives:Objectives",
    "chain": f"{_HERE}.chain:Chain",
    "prefill": f"{_HERE}.prefill:Prefill",
    "masks": f"{_HERE}.masks:Masks",
    "interrupt": f"{_HERE}.interrupt:Interrupt",
    "distractors": f"{_HERE}.distractors:Distractors",
    "faults": f"{_HERE}.faults:Faults",
    "toolset": f"{_HERE}.toolset:Toolset",
    "canary": f"{_HERE}.canary:Canary",
}

Layer: TypeAlias = tuple[str, Mapping[str, Any]]
"""A transform by name, with options that were checked."""


def layers(transforms: Any) -> tuple[Layer, ...]:
    """Check names and options once; what comes back can be pickled.

    `transforms` is a list of names and of mappings of `use` and the transform's options. Raises
    `UnknownName` or `ConfigError`.
    """
    if not isinstance(transforms, list | tuple):
        raise ConfigError(
            f"transforms: {transforms!r} must stand in a list, for example "
            '[{use = "faults", p = 0.1}]'
        )
    found: list[Layer] = []
    for place, given in enumerate(cast("Sequence[Any]", transforms)):
        if not isinstance(given, str | Mapping):
            raise ConfigError(f"transforms.{place}: {given!r} is no name and no table with one")
        options: dict[str, Any] = {"use": given} if isinstance(given, str) else dict(given)
        use: Any = options.pop("use", None)
        if not isinstance(use, str) or not use:
            raise ConfigError(f"transforms.{place}.use: is required and not given")
        source, colon, attribute = use.rpartition(":")
        if colon and source.endswith(".py"):
            use = f"{Path(source).resolve()}:{attribute}"
        found.append((use, check(use, options, f"transforms.{place}")))
    return tuple(found)


def check(use: str, options: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """The options of one transform, checked against its signature."""
    from foldgym.config import bind

    made = class_of(use)
    first = next(iter(inspect.signature(made).parameters), "")
    return bind("transform", made, options, where or title(use), filled=(first,)).keywords


def build(env: Env, layer: Layer, overrides: Mapping[str, Any] | None = None) -> Env:
    """The environment inside one transform. Its `ValueError` becomes a `UserError`."""
    use, options = layer
    if overrides:
        options = check(use, {**options, **overrides})
    make: Callable[..., Any] = class_of(use)
    try:
        return cast("Env", make(env, **options))
    except ValueError as problem:
        raise UserError(f"transform {title(use)}: {problem}") from None


def title(use: str) -> str:
    """What a transform is called in options with a dot: its name, or the class of its path."""
    return use.rpartition(":")[2]


def class_of(use: str) -> Any:
    """The class that a name or an import path stands for."""
    from foldgym.config import resolve

    found = resolve("transform", use, TRANSFORMS)
    if not callable(found):
        raise ConfigError(f"transform {use!r} is {found!r}, not a class that wraps an environment")
    return found
