"""From a name in a run file to an object, and from its keys to checked arguments."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from functools import partial
from importlib import import_module
from types import ModuleType, SimpleNamespace
from typing import Any, get_type_hints

from foldgym.config.models import Use
from foldgym.errors import ConfigError, DataError, UnknownName
from foldgym.loading import load_file


def resolve(kind: str, use: str, table: Mapping[str, Any]) -> Any:
    """The object that `use` names: a short name of `table`, "module:attr" or "path/file.py:attr".

    Values of `table` that are text are such paths themselves, so heavy modules load when used.
    Raises `UnknownName` (listing what exists) or `ConfigError` (the module itself fails).
    """
    if use in table:
        found = table[use]
        return resolve(kind, found, {}) if isinstance(found, str) else found
    source, colon, attribute = use.rpartition(":")
    if not colon or not source or not attribute:
        raise UnknownName(kind, use, table, 'Or give "module:attr" or "path/file.py:attr".')
    found: Any = load_module(source, kind)
    for name in attribute.split("."):
        if not hasattr(found, name):
            public = [item for item in vars(found) if not item.startswith("_")]
            raise UnknownName(f"{kind} in {source}", attribute, public)
        found = getattr(found, name)
    return found


def load_module(source: str, kind: str = "module") -> ModuleType:
    """A module by its dotted name, or from a `.py` file (loaded once per process)."""
    try:
        if source.endswith(".py"):
            return load_file(source)
        return import_module(source)
    except ModuleNotFoundError as problem:
        missing = problem.name or ""
        if source == missing or source.startswith(missing + "."):
            raise ConfigError(
                f"{kind}: there is no module {missing!r} (from {source!r}); "
                "check the spelling, or give the path of a .py file"
            ) from None
        raise ConfigError(
            f"{kind}: {source} needs {missing!r}, which is not installed"
        ) from problem
    except DataError as problem:
        raise ConfigError(f"{kind}: {problem}") from None
    except Exception as problem:
        raise ConfigError(
            f"{kind}: loading {source} failed: {type(problem).__name__}: {problem}"
        ) from problem


def plug(kind: str, section: Use, table: Mapping[str, Any], key: str = "") -> Callable[..., Any]:
    """The plug-in that a section names, with the section's options bound: call it to get one."""
    own = [name for name in type(section).model_fields if name != "use"]
    return bind(kind, resolve(kind, section.use, table), section.kwargs, key, also=own)


def build(kind: str, section: Use, table: Mapping[str, Any], key: str = "", **more: Any) -> Any:
    """The plug-in that a section names, called. Its `ValueError` becomes a `ConfigError`."""
    make = plug(kind, section, table, key)
    try:
        return make(**more)
    except ValueError as problem:
        raise ConfigError(f"{key or kind}: {problem}") from None


def bind(
    kind: str,
    fn: Callable[..., Any],
    kwargs: Mapping[str, Any],
    key: str = "",
    also: Sequence[str] = (),
    filled: Sequence[str] = (),
) -> partial[Any]:
    """`partial(fn, **kwargs)` after checking names and types against the signature.

    Options are the parameters of a class, and of a function those that have a default or are
    keyword-only (the others are filled by foldgym). `key` is the section, for the error line,
    `also` are keys that the section itself knows, for the hint, and `filled` are parameters of a
    class that foldgym fills.
    Raises `ConfigError`: unknown option (with the nearest), wrong type, or a missing one.
    """
    where = key or kind
    options = {name: each for name, each in _options(fn).items() if name not in filled}
    hints = _hints(fn)
    checked: dict[str, Any] = {}
    for name, value in kwargs.items():
        if name not in options:
            known = ", ".join([*options, *also]) or "none"
            near = get_close_matches(name, [*options, *also], n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]!r}?" if near else ";"
            raise ConfigError(f"{where}.{name}: unknown option of {_name(fn)}{hint} known: {known}")
        checked[name] = _check(f"{where}.{name}", value, hints.get(name, Any))
    for name, parameter in options.items():
        if parameter.default is inspect.Parameter.empty and name not in checked:
            raise ConfigError(f"{where}.{name}: is required by {_name(fn)} and not given")
    return partial(fn, **checked)


def _options(fn: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {
        name: parameter
        for name, parameter in inspect.signature(fn).parameters.items()
        if parameter.kind in named
        and (
            inspect.isclass(fn)
            or parameter.kind is inspect.Parameter.KEYWORD_ONLY
            or parameter.default is not inspect.Parameter.empty
        )
    }


def _hints(fn: Callable[..., Any]) -> dict[str, Any]:
    """Types by parameter, without those whose names exist for type checkers only.

    One by one, so that a type which cannot be looked up leaves the other options checked.
    """
    target: Any = fn.__init__ if inspect.isclass(fn) and "__init__" in vars(fn) else fn
    while isinstance(target, partial):
        target = target.func
    names = getattr(target, "__globals__", {})
    hints: dict[str, Any] = {}
    for name, annotation in getattr(target, "__annotations__", {}).items():
        with suppress(NameError, TypeError):
            one = SimpleNamespace(__annotations__={name: annotation})
            hints |= get_type_hints(one, names)
    return hints


def _check(where: str, value: Any, hint: Any) -> Any:
    from pydantic import PydanticUserError, TypeAdapter, ValidationError

    try:
        adapter: TypeAdapter[Any] = TypeAdapter(hint)
    except PydanticUserError:  # not a type that pydantic can check: the plug-in must
        return value
    try:
        return adapter.validate_json(json.dumps(value, default=str), strict=True)
    except ValidationError as problem:
        first = problem.errors(include_url=False)[0]
        inside = "".join(f".{part}" for part in first["loc"] if isinstance(part, int))
        allowed = first["msg"][:1].lower() + first["msg"][1:]
        raise ConfigError(f"{where}{inside}: {value!r} is not allowed: {allowed}") from None


def _name(fn: Any) -> str:
    return getattr(fn, "__qualname__", None) or repr(fn)
