"""Tasks in WebArena's format: what is wanted, where it begins, how an end is checked.

Source: WebArena's task files. Three kinds of checks are read: `string_match`, `url_match` and
`program_html`. What needs a model to judge (`fuzzy_match` other than "N/A") or runs Python of the
file (`func:`) is refused, row by row.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from foldgym.envs.qa.rows import Malformed, Read, Row, read_rows

KINDS = ("string_match", "url_match", "program_html")
_PLACE = re.compile(r"__([A-Z_]+?)__")


@dataclass(frozen=True, slots=True)
class Target:
    """Something to look up after the end: a page, JavaScript that reads it, what must be in it.

    `url` is an address or "last", the page in front; `locator` is empty for the whole page.
    `wanted` must all be contained, each one of its alternatives (parted by " |OR| "); `exact` is
    the whole text, if not None.
    """

    url: str
    locator: str
    wanted: tuple[str, ...] = ()
    exact: str | None = None


@dataclass(frozen=True, slots=True)
class WebTask:
    """`WebTask("7", "Close the ticket Amber dune.", "http://tracker.test", ("url_match",), {})`.

    `reference` holds what an answer is compared with: `exact_match`, `must_include` or
    `fuzzy_match` ("N/A": it cannot be done). `url` is what the last address must contain.
    """

    id: str
    intent: str
    start: str
    kinds: tuple[str, ...]
    reference: Mapping[str, Any]
    url: str = ""
    targets: tuple[Target, ...] = ()


def read_tasks(
    path: str | Path, sites: Mapping[str, str] | None = None, *, strict: bool = False
) -> Read[WebTask]:
    """The tasks of a file (a JSON list, one object, or JSON lines).

    `sites` says what placeholders stand for: `{"FORUM": "http://forum.test"}` for `__FORUM__`. A
    task that names another one is reported and left out. Raises `DataError` as `read_rows`.
    """
    places = dict(sites or {})
    return read_rows(path, lambda row: web_task(row, places), strict=strict)


def web_task(row: Row, sites: Mapping[str, str]) -> WebTask:
    """One task from its object. Raises `Malformed`."""
    evaluation = row.get("eval")
    if not isinstance(evaluation, Mapping):
        raise Malformed("`eval` is no object")
    checks = cast("Mapping[str, Any]", evaluation)
    kinds = checks.get("eval_types")
    if not isinstance(kinds, list) or not kinds:
        raise Malformed(f"`eval.eval_types` must list some of {', '.join(KINDS)}, not {kinds!r}")
    for kind in cast("list[Any]", kinds):
        if kind not in KINDS:
            raise Malformed(f"`eval.eval_types` holds {kind!r}; known are {', '.join(KINDS)}")
    reference = _mapping(checks.get("reference_answers"), "eval.reference_answers")
    if "string_match" in kinds:
        _check_reference(reference)
    url = checks.get("reference_url") or ""
    if "url_match" in kinds and not url:
        raise Malformed("`eval.reference_url` is empty, and url_match needs it")
    note = checks.get("url_note") or "GOLD in PRED"
    if "url_match" in kinds and note != "GOLD in PRED":
        raise Malformed(f"`eval.url_note` is {note!r}; only 'GOLD in PRED' is known")
    if row.get("require_login") and row.get("storage_state"):
        raise Malformed("it needs a saved login (`storage_state`)")
    targets = checks.get("program_html") or ()
    return WebTask(
        str(row.get("task_id", "")) or _text(row, "intent"),
        _text(row, "intent"),
        _placed(_text(row, "start_url"), sites).split(" |AND| ")[0],
        tuple(cast("list[str]", kinds)),
        reference,
        _placed(str(url), sites),
        tuple(_target(each, sites) for each in targets) if "program_html" in kinds else (),
    )


def _check_reference(reference: Mapping[str, Any]) -> None:
    for key, value in reference.items():
        if key == "fuzzy_match" and value != "N/A":
            raise Malformed("`fuzzy_match` needs a model to judge; only 'N/A' is read")
        if key == "must_include" and not (
            isinstance(value, list) and all(isinstance(e, str) for e in cast("list[Any]", value))
        ):
            raise Malformed(f"`must_include` must be a list of texts, not {value!r}")
        if key not in ("exact_match", "must_include", "fuzzy_match"):
            raise Malformed(f"`eval.reference_answers` has an unknown {key!r}")
    if not reference:
        raise Malformed("`eval.reference_answers` is empty, and string_match needs it")


def _target(given: Any, sites: Mapping[str, str]) -> Target:
    table = _mapping(given, "eval.program_html")
    wanted = _mapping(table.get("required_contents"), "required_contents")
    url, locator = str(table.get("url", "")), str(table.get("locator", ""))
    if url.startswith("func:") or locator.startswith("func:"):
        raise Malformed("`program_html` runs Python of the file (func:), which is not done here")
    exact, parts = wanted.get("exact_match"), wanted.get("must_include", ())
    if (exact is None) == (not parts):
        raise Malformed("`required_contents` needs exact_match or must_include, and one of them")
    return Target(
        _placed(url, sites),
        locator,
        tuple(str(each) for each in cast("list[Any]", parts)) if parts else (),
        None if exact is None else str(exact),
    )


def _placed(url: str, sites: Mapping[str, str]) -> str:
    def place(found: re.Match[str]) -> str:
        if found.group(1) not in sites:
            raise Malformed(
                f"{found.group(0)} stands for no site here; known: {', '.join(sorted(sites))}"
            )
        return sites[found.group(1)]

    return _PLACE.sub(place, url)


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise Malformed(f"`{where}` must be an object, not {value!r}")
    return cast("Mapping[str, Any]", value)


def _text(row: Row, key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value:
        raise Malformed(f"`{key}` must be a text, not {value!r}")
    return value
