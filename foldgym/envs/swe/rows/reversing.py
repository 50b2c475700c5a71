"""A patch turned round: SWE-smith gives the fault, and the fix is its reverse."""

from __future__ import annotations

import re

_HUNK = re.compile(r"@@ -(\d+(?:,(\d+))?) \+(\d+(?:,(\d+))?) @@(.*)", re.S)
_PAIRS = {
    "new file mode ": "deleted file mode ",
    "deleted file mode ": "new file mode ",
    "rename from ": "rename to ",
    "rename to ": "rename from ",
    "old mode ": "new mode ",
    "new mode ": "old mode ",
}
_INDEX = re.compile(r"index (\w+)\.\.(\w+)(.*)", re.S)


def reverse_patch(patch: str) -> str:
    """The text that takes a text patch back: what it adds is removed, and the other way round."""
    done: list[str] = []
    old = ""
    olds = news = 0  # lines of the hunk that are still to come
    for line in patch.split("\n"):
        hunk = _HUNK.match(line)
        if olds > 0 or news > 0:
            kind = line[:1]
            olds -= kind in ("", " ", "-")
            news -= kind in ("", " ", "+")
            done.append({"+": "-", "-": "+"}.get(kind, kind) + line[1:])
        elif hunk:
            olds, news = int(hunk[2] or 1), int(hunk[4] or 1)
            done.append(f"@@ -{hunk[3]} +{hunk[1]} @@{hunk[5]}")
        elif line.startswith("--- "):
            old = line[4:]
        elif line.startswith("+++ "):
            done += [f"--- {_side(line[4:], 'a')}", f"+++ {_side(old, 'b')}"]
        else:
            done.append(_header(line))
    return "\n".join(done)


def _side(path: str, side: str) -> str:
    """`a/x` as `b/x`; /dev/null stays."""
    return re.sub(r'^("?)[ab]/', rf"\g<1>{side}/", path)


def _header(line: str) -> str:
    for word, other in _PAIRS.items():
        if line.startswith(word):
            return other + line[len(word) :]
    index = _INDEX.match(line)
    return f"index {index[2]}..{index[1]}{index[3]}" if index else line
