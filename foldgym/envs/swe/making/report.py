"""A problem statement as a user would write it: what was called, what came out, what was expected.

It is made from the failing tests alone, so it cannot know where the fault is; what a failure's
message happens to say about the changed file is taken out.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from foldgym.seeding import generator

_TITLE = re.compile(r"^_+ ([^_ ].*|_[^ ].*) _+$")
_FRAME = re.compile(r"^(\S+\.py):(\d+): (in .+|[A-Z]\w*)$")
_HEADING = re.compile(r"^(=+ .+ =+|-{3,} .+ -{3,})$")
_ADDRESS = re.compile(r"0x[0-9a-f]{6,}")
_EXAMPLES = 3
_LINES = 14
_WIDTH = 220

_OPENINGS = (
    "Something in {name} {version} does not behave as I expect.",
    "I think I found a bug in {name} {version}.",
    "After upgrading to {name} {version} some of my code gives wrong results.",
    "{name} {version} does not do what its documentation promises in the case below.",
)
_CALLS = ("What I ran:", "To reproduce:", "This is what I call:")
_RESULTS = ("What came out:", "Instead of passing, it says:", "The result:")
_CLOSINGS = (
    "With a correct {name} this runs without an error. Please find the cause and fix it in the "
    "library; my examples are right.",
    "The checks above should all hold. Please mend the library itself, not the examples.",
    "I expect every line above to pass. The mistake must be in the library's own code.",
)


@dataclass(frozen=True, slots=True)
class Failure:
    """`Failure("test_take", "tests/test_a.py", 12, ("AssertionError: assert [1] == [1, 2]",))`.

    `line` is where the test itself failed, 0 if unknown; `said` are the lines of the exception.
    """

    test: str
    path: str
    line: int
    said: tuple[str, ...]


def failures(log: str) -> list[Failure]:
    """What a log of `pytest --tb=short` says of each failure, in its order."""
    found: list[Failure] = []
    title, frames, said, quiet = "", list[tuple[str, int]](), list[str](), False

    def close() -> None:
        if title and said:
            place = next((f for f in frames if _is_test(f[0])), ("", 0))
            found.append(Failure(title, *place, tuple(said)))

    for line in log.splitlines():
        if match := _TITLE.match(line):
            close()
            title, frames, said, quiet = match[1], [], [], False
        elif _HEADING.match(line):
            quiet = True  # captured output, or the next section
            if line.startswith("="):
                close()
                title = ""
        elif not quiet and title:
            if match := _FRAME.match(line):
                frames.append((match[1], int(match[2])))
            elif line.startswith("E ") or line == "E":
                said.append(line[4:].rstrip())
    close()
    return found


def _is_test(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return any(part in ("test", "tests") for part in parts) or parts[-1].startswith("test_")


def example(source: bytes, line: int) -> str:
    """The statements of a test function up to and with the one at `line`; empty if it has none.

    The function's name and docstring are left out, for they often say what is tested.
    """
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return ""
    around = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.lineno <= line <= (node.end_lineno or 0)
    ]
    if not around:
        return ""
    function = min(around, key=lambda node: node.lineno)  # the test, not a helper inside it
    body = [node for node in function.body if node.lineno <= line]
    if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        body = body[1:]
    if not body:
        return ""
    lines = source.decode(errors="replace").split("\n")
    text = textwrap.dedent(
        "\n".join(lines[body[0].lineno - 1 : body[-1].end_lineno or body[-1].lineno])
    )
    kept = text.rstrip().split("\n")
    if len(kept) > _LINES:  # the end of it is what failed
        kept = ["# ...", *kept[-_LINES:]]
    return textwrap.dedent("\n".join(kept)).strip("\n")


def statement(
    name: str,
    version: str,
    log: str,
    files: Mapping[str, bytes],
    secrets: Sequence[str],
    seed: int,
    wanted: Sequence[str] = (),
) -> str:
    """The report on what fails in a log, with up to three examples; empty if none can be told.

    `files` are the tests' sources. `secrets` are texts that must not appear: the changed file's
    name, and lines that the fault touched; an example that holds one is not used. `wanted` names
    the tests that count (all, if empty). The wording depends on `seed`.
    """
    rng = generator(seed, "report", name)
    names = {each.partition("::")[2].replace("::", ".") for each in wanted}
    parts: list[tuple[str, str]] = []
    for failure in failures(log):
        if names and failure.test not in names:
            continue
        code = example(files.get(failure.path, b""), failure.line)
        said = _said(failure.said)
        if code and said and not leaks(f"{code}\n{said}", secrets):
            parts.append((code, said))
    distinct: dict[str, tuple[str, str]] = {}
    for part in sorted(parts, key=lambda each: (len(each[0]) + len(each[1]), each)):
        distinct.setdefault(part[0], part)
    chosen = list(distinct.values())[:_EXAMPLES]
    if not chosen:
        return ""
    lines = [rng.choice(_OPENINGS).format(name=name, version=version), ""]
    call, result = rng.choice(_CALLS), rng.choice(_RESULTS)
    for code, said in chosen:
        lines += [call, "", "```python", code, "```", "", result, "", "```", said, "```", ""]
    if len(distinct) > len(chosen):
        lines += ["Other calls fail in a similar way.", ""]
    text = "\n".join([*lines, rng.choice(_CLOSINGS).format(name=name)])
    return "" if leaks(text, secrets) else text


def _said(lines: Sequence[str]) -> str:
    kept = [
        _ADDRESS.sub("0x...", line)[:_WIDTH] for line in lines if not re.search(r"\S+\.py\b", line)
    ]
    return "\n".join([*kept[:_LINES], *(["..."] if len(kept) > _LINES else [])])


def leaks(text: str, secrets: Sequence[str]) -> bool:
    """Whether a text gives a secret away: holds it, or has it as a line if it is very short."""
    lines = {line.strip() for line in text.split("\n")}
    return any(
        secret in lines if len(secret) < 8 else secret in text for secret in secrets if secret
    )
