"""Whether a game file's own rules and wordings are those of an ALFWorld release, and of which."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any, cast

from foldgym.envs.household.pddl import Tree, read_tree, sections, write
from foldgym.envs.household.texts import Dialect
from foldgym.errors import DataError

ELSEWHERE = "play it with foldgym.envs.textworld:TextWorldGame"

_ACTIONS = {
    "look": "2b7c269a",
    "inventory": "c9a9ef39",
    "examinereceptacle": "e02658a7",
    "examineobject": "67512682",
    "gotolocation": "334d1bdc",
    "openobject": "f9572bd6",
    "closeobject": "2f4e11c8",
    "pickupobject": "8e077a6e",
    "putobject": "ebeaed7e",
    "cleanobject": "cc684055",
    "heatobject": "92c60431",
    "coolobject": "ca981e2c",
    "toggleobject": "52d498d5",
    "sliceobject": "2a1d867a",
    "help": "3637c5e4",
}
"""Digests of the actions in ALFWorld's domain, which order no conditions and count no costs."""

_RULES = {
    "intro": "ae02eb18",
    "OpenObject.feedback": "c4f337a2",
    "CloseObject.feedback": "0b2bae04",
    "PickupObject.feedback": "e7d1c253",
    "inventory.feedback": "5a187b23",
    "examineReceptacle.feedback": "c7975d4d",
    "examineObject.feedback": "fb027f0a",
    "toggleObject.feedback": "da0a1f04",
    "heatObject.feedback": "cb24c840",
    "cleanObject.feedback": "55e2e78a",
    "coolObject.feedback": "8d99b9c2",
    "sliceObject.feedback": "95674fd0",
    "look.feedback": "3b6bc306",
    "look-variations": "62c4b698",
    "list_objects_on_the_floor": "09c385ff",
    "list_appliances": "5cd25a89",
    "overview(o)": "b04d6ad7",
    "overview(r)": "531d17e6",
    "list_empty": "94c0ce5a",
    "list_separator": "2f6bf8d1",
    "list_last_separator": "f46cc1e6",
}
"""Digests of the alternatives of those rules in ALFWorld's grammar that never differed."""

_COMMANDS = {
    "look": ("look", "look"),
    "inventory": ("inventory", "inventory"),
    "examinereceptacle": ("examine {r}", "examineReceptacle"),
    "examineobject": ("examine {o}", "examineObject"),
    "gotolocation": (
        "go to [{r.name | receptacleatlocation(r:receptacle, lend:location)}]",
        "GotoLocation",
    ),
    "openobject": ("open {r}", "OpenObject"),
    "closeobject": ("close {r}", "CloseObject"),
    "pickupobject": ("take {o} from {r}", "PickupObject"),
    "cleanobject": ("clean {o} with {r}", "cleanObject"),
    "heatobject": ("heat {o} with {r}", "heatObject"),
    "coolobject": ("cool {o} with {r}", "coolObject"),
    "toggleobject": ("use {o}", "toggleObject"),
    "sliceobject": ("slice {co} with {ko}", "sliceObject"),
}
"""What is typed for an action, and the rule behind its answer; move and help may differ."""

_OPTIONAL = frozenset(("help",))


def check_domain(text: str) -> frozenset[str]:
    """The actions of a domain. Raises `DataError` unless they are ALFWorld's."""
    found: set[str] = set()
    for part, held in sections(read_tree(text), "domain"):
        if part != ":action":
            continue
        name = write(held[0]) if held else ""
        if digest(write(_canonical(held))) != _ACTIONS.get(name):
            raise DataError(f"its action {name!r} is not as in ALFWorld's domain; {ELSEWHERE}")
        found.add(name)
    if missing := sorted(_ACTIONS.keys() - found - _OPTIONAL):
        raise DataError(f"its domain lacks the action {missing[0]!r}; {ELSEWHERE}")
    return frozenset(found)


def _canonical(tree: Tree) -> Tree:
    """The same condition for everybody who lists its parts in another order."""
    if isinstance(tree, str):
        return tree
    parts = [_canonical(each) for each in tree if each[:1] != ("increase",)]
    if parts[:1] in (["and"], ["or"]):
        return (parts[0], *sorted(parts[1:], key=write))
    if ":parameters" in parts:
        where = parts.index(":parameters") + 1
        listed = write(parts[where]).strip("()").replace(" - ", "-").split()
        parts[where] = tuple(sorted(listed))
    return tuple(parts)


def digest(text: str) -> str:
    """Eight characters that differ between texts that differ."""
    return blake2b(text.encode(), digest_size=4).hexdigest()


# ---------------------------------------------------------------- the grammar

_PART = re.compile(
    r'grammar\s*::\s*"""(?P<block>.*?)"""\s*;'
    r"|action\s+(?P<action>[\w/-]+)\s*\{"
    r'|(?P<field>template|feedback)\s*::\s*"(?P<text>[^"]*)"\s*;',
    re.DOTALL,
)
_PLAIN = re.compile(r'"([^;|"<>\[\]#{}]*)"|([^;|"<>\[\]#{}]+)')
_MOVED = re.compile(r"\{([or])\.name\}")
_ARRIVE = "You arrive at {%s.name}. #examineReceptacle.feedback#"

Rules = Mapping[str, list[dict[str, Any]]]


def read_grammar(text: str, actions: frozenset[str]) -> tuple[Dialect, str]:
    """The dialect of a grammar for these actions, and the last line of its opening.

    Raises `DataError` for a grammar that differs from ALFWorld's in more than a `Dialect`.
    """
    rules, commands, feedbacks = _parts(text)
    for name, expected in _RULES.items():
        if digest(json.dumps(rules.get(name), sort_keys=True)) != expected:
            raise DataError(f"its rule {name!r} is not as in ALFWorld's grammar; {ELSEWHERE}")
    for name, (command, rule) in _COMMANDS.items():
        if (commands.get(name), feedbacks.get(name)) != (command, f"#{rule}.feedback#"):
            raise DataError(
                f"its {name} is the command {commands.get(name)!r}, answered by "
                f"{feedbacks.get(name)!r}; {ELSEWHERE}"
            )
    arrive = _sentence(rules, "GotoLocation.feedback")
    if arrive not in (_ARRIVE % "r", _ARRIVE % "lend"):
        raise DataError(f"its rule 'GotoLocation.feedback' says {arrive!r}; {ELSEWHERE}")
    dialect = Dialect(
        move=_form(commands.get("putobject", ""), "the command for putobject"),
        moved=_form(_MOVED.sub(r"{\1}", _sentence(rules, "PutObject.feedback")), "its answer"),
        locations=arrive == _ARRIVE % "lend",
        help=_said(rules, feedbacks["help"]) if "help" in actions & feedbacks.keys() else "",
    )
    return dialect, _plain(_sentence(rules, "task"))


def _parts(text: str) -> tuple[Rules, dict[str, str], dict[str, str]]:
    """Rules by name; command and feedback of each action, whose name is in lower case."""
    rules: dict[str, list[dict[str, Any]]] = {}
    fields: dict[str, dict[str, str]] = {"template": {}, "feedback": {}}
    action = ""
    for found in _PART.finditer(text):
        if found["block"] is not None:
            lines = (each for each in found["block"].split("\n") if not _comment(each, action))
            try:
                block = json.loads("\n".join(lines))
            except (ValueError, RecursionError) as problem:
                raise DataError(f"a block of its grammar is no JSON ({problem})") from None
            if not _well_formed(block):
                raise DataError("a block of its grammar holds something else than rules")
            rules.update(cast("Rules", block))
        elif found["action"]:
            action = found["action"].lower()
        else:
            fields[found["field"]][action] = found["text"]
    return rules, fields["template"], fields["feedback"]


def _comment(line: str, action: str) -> bool:
    return bool(action) and line.lstrip().startswith("#")


def _well_formed(block: Any) -> bool:
    return isinstance(block, dict) and all(
        isinstance(each, list)
        and all(isinstance(one, dict) and isinstance(one.get("rhs"), str) for one in each)
        for each in cast("Iterable[Any]", block.values())
    )


def _sentence(rules: Rules, name: str) -> str:
    alternatives = rules.get(name, [])
    if not alternatives:
        raise DataError(f"its grammar has no rule {name!r}; {ELSEWHERE}")
    return alternatives[0]["rhs"]


def _said(rules: Rules, feedback: str) -> str:
    named = re.fullmatch(r"#([\w.-]+)#", feedback)
    return _plain(_sentence(rules, named[1]) if named else feedback)


def _plain(text: str) -> str:
    """What TextWorld makes of a text without variables.

    Blank lines in front are dropped, quotation marks too; the text ends at a character that means
    something in a grammar.
    """
    said, at = "", len(text) - len(text.lstrip())
    while found := _PLAIN.match(text, at):
        said, at = said + (found[1] or found[2] or ""), found.end()
    if at < len(text) and text[at] in "#[{":
        raise DataError(f"its grammar computes {text[:80]!r}; {ELSEWHERE}")
    return said


def _form(text: str, what: str) -> str:
    if sorted(re.findall(r"\{.*?\}", text)) != ["{o}", "{r}"] or re.search(r"[#\[\]|\n]", text):
        raise DataError(f"{what} is {text!r}, where {{o}} and {{r}} should occur once; {ELSEWHERE}")
    return text
