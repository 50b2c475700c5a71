"""The `@tool` decorator: signature and docstring become a JSON schema and a checker."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MethodType
from typing import Any, get_type_hints

from foldgym.errors import UserError
from foldgym.types import Json, Tool

_SECTION = re.compile(
    r"^(Args|Arguments|Parameters|Returns?|Raises|Yields|Examples?|Notes?):\s*$", re.IGNORECASE
)
_ENTRY = re.compile(r"^\*{0,2}(\w+)\s*(?:\([^)]*\))?\s*:\s*(.*)$")
_FIELD = re.compile(r"^:param\s+(?:[\w.\[\]| ]+\s)?(\w+)\s*:\s*(.*)$")


@dataclass(frozen=True, slots=True)
class ToolFunction(Tool):
    """A Tool made from a Python function: still callable, and a method binds as methods do.

    `model` is a pydantic model whose fields `p0, p1, ...` are aliased to the parameters `names`,
    so that a parameter may be called `copy` or `json` without shadowing anything.
    """

    model: Any = field(default=None, compare=False)
    names: tuple[str, ...] = ()
    method: bool = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function itself, unchecked, as if it had never been decorated."""
        assert self.run is not None
        return self.run(*args, **kwargs)

    def __get__(self, instance: object, owner: type | None = None) -> ToolFunction:
        if instance is None or not self.method:
            return self
        assert self.run is not None
        return replace(self, run=MethodType(self.run, instance), method=False)

    def checked(self, arguments: Mapping[str, Json]) -> dict[str, Any]:
        """Arguments with their Python types; raises `pydantic.ValidationError`."""
        values = self.model.model_validate(arguments)
        given = values.model_fields_set
        return {
            name: getattr(values, f"p{index}")
            for index, name in enumerate(self.names)
            if f"p{index}" in given
        }


def tool(
    function: Callable[..., Any] | None = None, *, name: str = "", concurrent: bool = False
) -> Any:
    """Make a Tool from a typed function or method with a docstring.

    Use it bare (`@tool`) or with options: `concurrent=True` says that several calls of one message
    may run at the same time in threads; `name` is what the model calls it (default: the function's
    own name). Raises `UserError` for a function without docstring, without annotations, or with
    `*args` or `**kwargs`: a model could not know how to call it.
    """

    def decorate(function: Callable[..., Any]) -> ToolFunction:
        return _from_function(function, name, concurrent)

    return decorate if function is None else decorate(function)


def _from_function(function: Callable[..., Any], name: str, concurrent: bool) -> ToolFunction:
    name = name or function.__name__
    if not re.fullmatch(r"[A-Za-z_][\w-]{0,63}", name, re.ASCII):
        raise UserError(f"tool name {name!r} must be letters, digits, _ or -, at most 64")
    doc = inspect.getdoc(function)
    if not doc:
        raise UserError(f"tool {name} has no docstring; the model reads it to know what it does")
    description, about = _read_docstring(doc)
    parameters = list(inspect.signature(function).parameters.values())
    method = bool(parameters) and parameters[0].name == "self"
    parameters = parameters[1:] if method else parameters
    try:
        hints = get_type_hints(function, include_extras=True)
    except NameError as problem:
        raise UserError(
            f"tool {name}: an annotation names something unknown when the tool is made: {problem}"
        ) from problem
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise UserError(f"tool {name} takes *{parameter.name}; name every parameter instead")
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise UserError(f"tool {name}: {parameter.name} is positional-only; drop the '/'")
        if parameter.name not in hints:
            raise UserError(f"tool {name}: parameter {parameter.name} has no type annotation")
    unknown = sorted(set(about) - {parameter.name for parameter in parameters})
    if unknown:
        raise UserError(f"tool {name}: the docstring describes {unknown[0]!r}, not a parameter")
    model, schema = _model(name, parameters, hints, about)
    return ToolFunction(
        name=name,
        description=description,
        parameters=schema,
        run=function,
        concurrent=concurrent,
        model=model,
        names=tuple(parameter.name for parameter in parameters),
        method=method,
    )


def _model(
    name: str,
    parameters: list[inspect.Parameter],
    hints: Mapping[str, Any],
    about: Mapping[str, str],
) -> tuple[Any, dict[str, Json]]:
    """A pydantic model of the arguments, and its JSON schema."""
    from pydantic import ConfigDict, Field, create_model
    from pydantic.errors import PydanticUserError

    fields: dict[str, Any] = {}
    for index, parameter in enumerate(parameters):
        default = ... if parameter.default is parameter.empty else parameter.default
        described = about.get(parameter.name)
        fields[f"p{index}"] = (
            hints[parameter.name],
            Field(default, alias=parameter.name, description=described),
        )
    config = ConfigDict(extra="forbid", allow_inf_nan=False, coerce_numbers_to_str=True)
    try:
        model = create_model(name, __config__=config, **fields)
        schema = _untitled(model.model_json_schema(by_alias=True))
    except PydanticUserError as problem:
        first = problem.message.splitlines()[0]
        raise UserError(f"tool {name}: a parameter's type will not do: {first}") from problem
    schema.setdefault("properties", {})
    return model, schema


def _untitled(schema: dict[str, Json]) -> dict[str, Json]:
    """Without the titles pydantic invents: they cost tokens and say nothing."""
    kept: dict[str, Json] = {}
    for key, value in schema.items():
        if key == "title" and isinstance(value, str):
            continue
        if key in ("properties", "$defs"):
            kept[key] = {name: _untitled(each) for name, each in value.items()}
        elif isinstance(value, dict) and key != "default":
            kept[key] = _untitled(value)
        elif key in ("anyOf", "oneOf", "allOf", "prefixItems"):
            kept[key] = [_untitled(each) for each in value]
        else:
            kept[key] = value
    return kept


def _read_docstring(doc: str) -> tuple[str, dict[str, str]]:
    """What a docstring says of the tool and of each parameter (Google or Sphinx style)."""
    summary: list[str] = []
    about: dict[str, str] = {}
    section, current, margin = "", "", 0
    for line in doc.splitlines():
        text = line.strip()
        header = _SECTION.match(line)
        if header:
            section, current, margin = header.group(1).lower(), "", 0
        elif found := _FIELD.match(text):
            section, current = "sphinx", found.group(1)
            about[current] = found.group(2)
        elif section in ("args", "arguments", "parameters"):
            indent = len(line) - len(line.lstrip())
            margin = margin or indent
            entry = _ENTRY.match(text) if indent == margin else None
            if entry:
                current = entry.group(1)
                about[current] = entry.group(2)
            elif text and current:
                about[current] = f"{about[current]} {text}".strip()
        elif section == "sphinx":
            current = "" if text.startswith(":") else current
            if text and current:
                about[current] = f"{about[current]} {text}".strip()
        elif not section:
            summary.append(text)
    return " ".join(" ".join(summary).split()), about
