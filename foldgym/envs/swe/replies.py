"""What a command's result looks like to the model: capped text, or the JSON of bash-only agents."""

from __future__ import annotations

import json
import re

from foldgym.containers import End, Result

MARKER = "COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"
"""The first line of the output of the command that submits, in bash-only mode."""
_FENCED = re.compile(r"```(?:bash|sh)\s*\n(.*?)\n?```", re.DOTALL)


def shorten(text: str, cap: int) -> str:
    """The first and the last half of `cap` characters, and between them how many are missing."""
    if len(text) <= cap:
        return text
    head, tail = text[: cap - cap // 2], text[len(text) - cap // 2 :]
    return f"{head}\n[... {len(text) - cap} characters left out ...]\n{tail}"


def as_text(result: Result, timeout: float, cap: int) -> str:
    """The output, then what is unusual about the end."""
    parts = [shorten(result.text, cap).rstrip("\n")]
    if result.end is End.TIMEOUT:
        parts.append(f"[killed after {timeout:g} seconds, with all it had started]")
    elif result.end is End.MEMORY:
        parts.append("[killed: more memory than there is]")
    elif result.code:
        parts.append(f"[exit code {result.code}]")
    return "\n".join(part for part in parts if part) or "[no output]"


def as_json(result: Result, timeout: float, cap: int) -> str:
    """`{"returncode": 0, "output": ...}` as mini-swe-agent shows it; long output is cut in two."""
    text = result.text
    table: dict[str, object] = {"returncode": result.code}
    if result.end is not End.EXITED:
        table["returncode"] = -1
    if len(text) < cap:
        table["output"] = text
    else:
        half = cap // 2
        table["output_head"], table["output_tail"] = text[:half], text[len(text) - half :]
        table["elided_chars"] = len(text) - 2 * half + result.dropped
        table["warning"] = "The output is too long: read less of it at a time."
    if result.end is End.TIMEOUT:
        table["exception_info"] = f"The command was killed after {timeout:g} seconds."
    elif result.end is End.MEMORY:
        table["exception_info"] = "The command was killed: it held more memory than there is."
    return json.dumps(table, ensure_ascii=False)


def submits(result: Result) -> bool:
    """Whether a bash-only agent hands in. What it prints after the marker is not looked at."""
    return result.ok and result.text.lstrip().partition("\n")[0].strip() == MARKER


def fenced(text: str) -> str | None:
    """The command of the one fenced block of a text; None unless there is exactly one."""
    found = _FENCED.findall(text)
    return found[0] if len(found) == 1 else None
