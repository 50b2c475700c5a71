"""A scripted player who knows the gold patch, and works towards it as a person would.

    moves = plan(task, tree, "editor", "careful", generator(seed))

It looks around, searches for a word of the report, views the place, tries the project, sometimes
edits wrongly and takes that back, repairs, verifies and submits. The same words in the same order
come from the same random stream.
"""

from __future__ import annotations

import json
import random
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import PurePosixPath
from typing import Literal

from foldgym.envs.swe.patches import PatchError, apply_patch
from foldgym.envs.swe.replies import MARKER
from foldgym.envs.swe.task import SweTask
from foldgym.envs.swe.trees import Change, Entry, Tree, compare
from foldgym.errors import DataError
from foldgym.types import Message, ToolCall

STYLES = ("careful", "direct")
"""`careful` explores and verifies; `direct` views the place, repairs and submits."""
_WORD = re.compile(r"[A-Za-z_]\w{3,}")
_WRONG, _REPRODUCE, _LOOK = 0.25, 0.5, 0.7
_AROUND = 12
_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Edit:
    """`old`, which is in the file exactly once, becomes `new`; `line` is where it begins."""

    path: str
    old: str
    new: str
    line: int


def target(task: SweTask, base: Tree) -> Tree:
    """The repaired project. Raises `DataError` if the gold patch does not apply to the base."""
    try:
        return apply_patch(base, task.gold_patch)
    except PatchError as problem:
        raise DataError(f"task {task.id}: its gold patch does not apply: {problem}") from None


def edits(path: str, before: str, after: str) -> list[Edit]:
    """The replacements that lead from one text to another, each of a passage that is unique.

    Lines of context are added until it is. They are to be made in this order.
    """
    found: list[Edit] = []
    current = before
    while current != after:
        old, new = _lines(current), _lines(after)
        codes = SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
        _, low, high, other_low, other_high = next(code for code in codes if code[0] != "equal")
        wanted = new[other_low:other_high]
        first, last = low, high
        while True:
            text = "".join(old[first:last])
            if text and current.count(text) == 1:
                break
            if first == 0 and last == len(old):
                raise DataError(f"{path} is empty: it cannot be edited by replacing")
            first, last = max(0, first - 1), min(len(old), last + 1)
        changed = "".join([*old[first:low], *wanted, *old[high:last]])
        found.append(Edit(path, text, changed, first + 1))
        current = current.replace(text, changed, 1)
    return found


def _lines(text: str) -> list[str]:
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def plan(
    task: SweTask,
    tree: Tree,
    mode: Literal["editor", "bash"],
    style: str,
    rng: random.Random,
    base: Tree | None = None,
) -> list[Message]:
    """The messages that lead from a tree (the agent's, as it is now) to the submission.

    `base` is what the episode started from, if that is another tree. Raises `DataError` if the
    gold patch does not apply to it.
    """
    hands = _Editor() if mode == "editor" else _Shell()
    changes = compare(tree, _wanted(task, tree, base))
    moves = list(_moves(task, tree, changes, style, rng, hands))
    return [_message(said, name, arguments, n) for n, (said, name, arguments) in enumerate(moves)]


def _wanted(task: SweTask, tree: Tree, base: Tree | None) -> Tree:
    """The tree with the files of the gold patch as it leaves them, and the others as they are."""
    start = tree if base is None else base
    wanted = dict(tree)
    for change in compare(start, target(task, start)):
        if change.after is None:
            wanted.pop(change.path, None)
        else:
            wanted[change.path] = change.after
    return wanted


_Move = tuple[str, str, dict[str, object]]


def _message(said: str, name: str, arguments: Mapping[str, object], number: int) -> Message:
    call = ToolCall(name, json.dumps(arguments, ensure_ascii=False), id=f"call_{number}")
    return Message("assistant", said, tool_calls=(call,))


def _moves(
    task: SweTask,
    tree: Tree,
    changes: Sequence[Change],
    style: str,
    rng: random.Random,
    hands: _Editor | _Shell,
) -> Iterator[_Move]:
    repairs = [edit for change in changes for edit in _repairs(change)]
    trial = _trial(task, tree, changes)
    careful = style == "careful"
    if careful and repairs:
        if rng.random() < _LOOK:
            yield "Let me look around first.", *hands.look()
        word = _clue(task, tree, changes[0].path, repairs[0].line)
        yield f"Where is `{word}`?", *hands.search(word)
        if rng.random() < _REPRODUCE and trial:
            yield "Let me see how the project behaves now.", *hands.run(trial)
    for change in changes:
        some = _repairs(change)
        if not some:
            yield f"{change.path} has to change as a whole.", *hands.whole(change)
            continue
        current = _text(change.before)
        size = len(_lines(current))
        for edit in some:
            line = min(edit.line, size)
            low, high = max(1, line - _AROUND), min(size, line + _AROUND)
            if careful and rng.random() < 0.5:
                low = max(1, min(low, line - _SHOWN + _AROUND))
            yield f"This should be in {edit.path}.", *hands.view(edit.path, low, high)
            if careful and rng.random() < _WRONG and (wrong := _mistake(edit, current)):
                yield "It may be this.", *hands.edit(wrong)
                if trial:
                    yield "Does it help?", *hands.run(trial)
                yield "No, that is not it; I take it back.", *hands.undo(wrong)
            yield rng.choice(("I see what is wrong.", "This is the mistake.")), *hands.edit(edit)
            current = current.replace(edit.old, edit.new, 1)
    if careful and trial:
        yield "Let me verify the repair.", *hands.run(trial)
    yield "The project is repaired.", *hands.submit()


def _text(entry: Entry | None) -> str:
    return "" if entry is None else entry.data.decode("utf-8", errors="replace")


def _repairs(change: Change) -> list[Edit]:
    """A change as replacements; none if the file is new, gone, empty, no text or no plain file."""
    before, after = change.before, change.after
    if before is None or after is None or before.link or after.link or not before.data:
        return []
    try:
        return edits(change.path, before.data.decode("utf-8"), after.data.decode("utf-8"))
    except UnicodeDecodeError:
        return []


def _clue(task: SweTask, tree: Tree, path: str, line: int) -> str:
    """A word that a person would search for: the function around the fault if the report has it,
    else a word of the report that the file defines, else the function all the same."""
    source = _text(tree.get(path))
    told = set(_WORD.findall(task.problem_statement))
    above = "\n".join(source.split("\n")[:line])
    around = re.findall(r"^\s*(?:async )?(?:def|class)\s+(\w+)", above, re.MULTILINE)
    for name in reversed(around[-2:]):
        if name in told:
            return name
    defined = re.findall(r"^\s*(?:async )?(?:def|class)\s+(\w+)", source, re.MULTILINE)
    for name in defined:
        if name in told:
            return name
    return around[-1] if around else PurePosixPath(path).stem


def _trial(task: SweTask, tree: Tree, changes: Sequence[Change]) -> str:
    """A short command that says whether the project works: its smallest tests, or a look at it."""
    runner = "pytest" if "pytest" in task.test_command else "unittest"
    tests = sorted(
        (len(entry.data), path)
        for path, entry in tree.items()
        if re.search(r"(^|/)test_[^/]*\.py$", path) and b"def test" in entry.data
    )
    if tests:
        path = tests[0][1]
        if runner == "pytest":
            return f"python3 -m pytest -q -x {shlex.quote(path)} 2>&1 | tail -n 5"
        return f"python3 -m unittest {shlex.quote(path)} 2>&1 | tail -n 5"
    for change in changes:
        if change.path.endswith(".py") and change.before is not None:
            script = f"import ast; ast.parse(open({change.path!r}).read())"
            return f"python3 -c {shlex.quote(script)} && echo fine"
    return ""


def _mistake(edit: Edit, text: str) -> Edit | None:
    """A wrong repair at the right place: the lines in question are switched off by comments.

    None where that would change nothing, or could not be taken back by a replacement.
    """
    marked = "".join(
        re.sub(r"^(\s*)(\S)", r"\1# \2", line, count=1) if line.strip() else line
        for line in _lines(edit.old)
    )
    once = text.replace(edit.old, marked, 1).count(marked) == 1
    return Edit(edit.path, edit.old, marked, edit.line) if marked != edit.old and once else None


# ---------------------------------------------------------------- two ways to do it


class _Editor:
    """With the tools of the editor."""

    def look(self) -> tuple[str, dict[str, object]]:
        return "view", {"path": "."}

    def search(self, word: str) -> tuple[str, dict[str, object]]:
        return "bash", {"command": _grep(word)}

    def run(self, command: str) -> tuple[str, dict[str, object]]:
        return "bash", {"command": command}

    def view(self, path: str, low: int, high: int) -> tuple[str, dict[str, object]]:
        return "view", {"path": path, "start": low, "end": high}

    def edit(self, edit: Edit) -> tuple[str, dict[str, object]]:
        return "str_replace", {"path": edit.path, "old": edit.old, "new": edit.new}

    def undo(self, edit: Edit) -> tuple[str, dict[str, object]]:
        return "undo", {"path": edit.path}

    def whole(self, change: Change) -> tuple[str, dict[str, object]]:
        if change.before is None and change.after is not None and not change.after.link:
            return "create", {"path": change.path, "text": _text(change.after)}
        return "bash", {"command": _written(change)}

    def submit(self) -> tuple[str, dict[str, object]]:
        return "submit", {}


class _Shell:
    """With bash alone, as mini-swe-agent works."""

    def look(self) -> tuple[str, dict[str, object]]:
        return "bash", {"command": "ls -p"}

    def search(self, word: str) -> tuple[str, dict[str, object]]:
        return "bash", {"command": _grep(word)}

    def run(self, command: str) -> tuple[str, dict[str, object]]:
        return "bash", {"command": command}

    def view(self, path: str, low: int, high: int) -> tuple[str, dict[str, object]]:
        return "bash", {"command": f"cat -n {shlex.quote(path)} | sed -n {low},{high}p"}

    def edit(self, edit: Edit) -> tuple[str, dict[str, object]]:
        return "bash", {"command": _replaced(edit.path, edit.old, edit.new)}

    def undo(self, edit: Edit) -> tuple[str, dict[str, object]]:
        return "bash", {"command": _replaced(edit.path, edit.new, edit.old)}

    def whole(self, change: Change) -> tuple[str, dict[str, object]]:
        return "bash", {"command": _written(change)}

    def submit(self) -> tuple[str, dict[str, object]]:
        return "bash", {"command": f"echo {MARKER}"}


def _grep(word: str) -> str:
    return f"grep -rnw --include='*.py' {shlex.quote(word)} . | head -n 20"


def _replaced(path: str, old: str, new: str) -> str:
    """A script that replaces a text; newlines are kept as they are."""
    return (
        "python3 - <<'END'\n"
        f"path = {path!r}\n"
        "text = open(path, newline='', encoding='utf-8').read()\n"
        f"old = {old!r}\n"
        f"new = {new!r}\n"
        "assert text.count(old) == 1\n"
        "open(path, 'w', newline='', encoding='utf-8').write(text.replace(old, new))\n"
        "END"
    )


def _written(change: Change) -> str:
    """A command that makes a path what it is after a change, whatever it is."""
    path = shlex.quote(change.path)
    folder = shlex.quote(PurePosixPath(change.path).parent.as_posix())
    if change.after is None:
        return f"rm -f {path}"
    if change.after.link:
        target_ = shlex.quote(change.after.data.decode(errors="surrogateescape"))
        return f"mkdir -p {folder} && ln -sfn {target_} {path}"
    mode = "755" if change.after.executable else "644"
    script = f"open({change.path!r}, 'wb').write({change.after.data!r})"
    return f"mkdir -p {folder} && python3 -c {shlex.quote(script)} && chmod {mode} {path}"
