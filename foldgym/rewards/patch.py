"""SWE-RL: how similar a predicted patch is to the oracle's, file by file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import SequenceMatcher, unified_diff

_BLOCK = re.compile(
    r"^### (?P<path>[^\n]+)\n<{7} SEARCH\n(?P<search>.*?)\n?={7}\n(?P<replace>.*?)\n?>{7} REPLACE$",
    re.DOTALL | re.MULTILINE,
)


def patch_similarity(
    pred_patch: Mapping[str, str], oracle_patch: Mapping[str, str], format_error: bool = False
) -> float:
    """Mean over the union of paths of the similarity of the two diffs; -1 on a format error.

    A path that one side lacks (or has empty) scores 0; two empty patches score 1. `difflib`'s
    automatic junk is off, for it changes values above 200 characters. The ratio is not symmetric:
    prediction first. Source: SWE-RL's code. It measures text, not correctness, and its time is
    quadratic in a diff's length.
    """
    if format_error:
        return -1.0
    paths = sorted({*pred_patch, *oracle_patch})
    if not paths:
        return 1.0
    return sum(
        _similarity(pred_patch.get(path, ""), oracle_patch.get(path, "")) for path in paths
    ) / len(paths)


def _similarity(pred: str, oracle: str) -> float:
    if not pred or not oracle:
        return 0.0
    return SequenceMatcher(None, pred, oracle, autojunk=False).ratio()


def patch_files(patch: str) -> dict[str, str]:
    """The hunks of a git patch by path, headers dropped: what `patch_similarity` compares."""
    files: dict[str, list[str]] = {}
    path, inside = "", False
    for line in patch.splitlines(keepends=True):
        if line.startswith("diff --git "):
            inside = False
            path = line.rstrip("\n").rpartition(" b/")[2]
            files.setdefault(path, [])
        elif not inside and line.startswith("+++ ") and "/dev/null" not in line:
            path = line[4:].split("\t")[0].strip().removeprefix("b/")
            files.setdefault(path, [])
        elif line.startswith("@@ ") or inside:
            inside = True
            files.setdefault(path, []).append(line)
    return {name: "".join(lines) for name, lines in files.items() if lines}


def search_replace_patch(text: str, context: Mapping[str, str]) -> dict[str, str] | None:
    """The diffs by path that a SWE-RL answer makes of the files it was shown; None: format error.

    An answer is exactly one `<think>` with something in it and exactly one `<solution>` of blocks

        ### path
        <<<<<<< SEARCH
        lines of the file
        =======
        lines in their place
        >>>>>>> REPLACE

    A search must be there as whole lines and differ from its replacement, which takes the place of
    all that match. Source: SWE-RL's code.
    """
    parts: dict[str, str] = {}
    for tag in ("think", "solution"):
        if text.count(f"<{tag}>") != 1 or text.count(f"</{tag}>") != 1:
            return None
        inside = re.search(rf"<{tag}>(.*)</{tag}>", text, re.DOTALL)
        if inside is None or not inside[1].strip():
            return None
        parts[tag] = inside[1]
    if text.index("</think>") > text.index("<solution>"):
        return None
    blocks = list(_BLOCK.finditer(parts["solution"]))
    if not blocks:
        return None
    files = {path: f"\n{content}" for path, content in context.items()}
    for block in blocks:
        path, search, replace = block["path"].strip(), block["search"], block["replace"]
        if search == replace or f"\n{search}" not in files.get(path, ""):
            return None
        files[path] = files[path].replace(f"\n{search}", f"\n{replace}")
    return {
        path: diff
        for path, content in files.items()
        if (diff := diff_text(context[path], content[1:]))
    }


def diff_text(before: str, after: str) -> str:
    """A unified diff with three lines of context, headers dropped."""
    rows = unified_diff(before.splitlines(), after.splitlines(), n=3, lineterm="")
    return "\n".join(list(rows)[2:])
