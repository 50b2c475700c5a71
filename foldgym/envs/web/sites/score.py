"""Whether an end is the wanted one, by WebArena's rules: answers, addresses, what pages hold."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from foldgym.envs.web.sites.tasks import Target, WebTask

OR = " |OR| "
IMPOSSIBLE = "N/A"


@dataclass(frozen=True, slots=True)
class Answered:
    """How an episode ended: what was said, and where. `read` looks up a target's text."""

    text: str
    url: str
    read: Callable[[Target], str]


def score(task: WebTask, end: Answered) -> float:
    """1.0 if every check of the task holds, else 0.0: the product of WebArena's evaluators."""
    checks = {
        "string_match": lambda: said_right(task.reference, end.text),
        "url_match": lambda: at_right(task.url, end.url),
        "program_html": lambda: all(holds(each, end.read(each)) for each in task.targets),
    }
    return float(all(checks[kind]() for kind in task.kinds))


def clean(text: str) -> str:
    """An answer without outer blanks and quotation marks, in lower case."""
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        text = text[1:-1]
    return text.lower()


def said_right(reference: Mapping[str, Any], answer: str) -> bool:
    """Every kind of reference at once.

    A `must_include` of one single word must be a word of the answer, not part of one; else each
    must be contained. "N/A" wants the player to have said that it cannot be done.
    """
    given = clean(answer)
    if "exact_match" in reference and given != clean(str(reference["exact_match"])):
        return False
    if "fuzzy_match" in reference and given != clean(IMPOSSIBLE):
        return False
    parts = [clean(each) for each in reference.get("must_include", ())]
    if len(parts) == 1 and re.fullmatch(r"\w+", parts[0]):
        return parts[0] in re.findall(r"\w+", given)
    return all(part in given for part in parts)


def at_right(wanted: str, url: str) -> bool:
    """Whether one of the wanted addresses is in this one: host and path, and each query value."""
    base, query = _split(url)
    for kept in wanted.split(OR):
        wanted_base, wanted_query = _split(kept)
        if wanted_base not in base:
            continue
        if all(set(values) & set(query.get(key, ())) for key, values in wanted_query.items()):
            return True
    return False


def _split(url: str) -> tuple[str, dict[str, list[str]]]:
    parts = urlsplit(url.rstrip("/"))
    return parts.netloc + unquote(parts.path).rstrip("/"), parse_qs(parts.query)


def holds(target: Target, text: str) -> bool:
    """Whether what was read is, or contains, what is wanted; blanks and case do not count."""
    found = _squeezed(text)
    if target.exact is not None:
        return found == _squeezed(target.exact)
    return all(any(_squeezed(each) in found for each in part.split(OR)) for part in target.wanted)


def _squeezed(text: str) -> str:
    return " ".join(text.lower().split())
