"""What a person sees: results on stdout, progress and errors on stderr; rich where it may be.

Rich is used when it is installed and the stream is a terminal. Everything else, a pipe or a log,
gets plain text that never wraps or colours.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO, TypeAlias

Advance: TypeAlias = "Callable[..., None]"  # advance(amount=1, note="")


def say(text: str = "") -> None:
    """One line of result, exactly as given."""
    sys.stdout.write(text + "\n")


def note(text: str) -> None:
    """One line that is no result: what is going on."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def print_error(text: str) -> None:
    """`error: ...`, on one line whatever the text holds."""
    line = " ".join(text.split())
    rich = _rich(sys.stderr)
    if rich is None:
        note(f"error: {line}")
    else:
        rich.print("[bold red]error:[/]", rich_text(line), soft_wrap=True)


def rule(title: str) -> None:
    """A line across the page that opens a section."""
    rich = _rich(sys.stdout)
    if rich is None:
        say(f"-- {title} ".ljust(72, "-"))
    else:
        rich.rule(rich_text(title))


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table; columns whose cells are all numbers, or absent, are aligned to the right."""
    cells = [["" if cell is None else _cell(cell) for cell in row] for row in rows]
    numeric = [
        bool(rows) and all(isinstance(row[index], (int, float, type(None))) for row in rows)
        for index in range(len(columns))
    ]
    rich = _rich(sys.stdout)
    if rich is None:
        _plain_table(title, columns, cells, numeric)
        return
    from rich.table import Table

    shown = Table(title=rich_text(title) if title else None, title_justify="left")
    for column, right in zip(columns, numeric, strict=True):
        shown.add_column(rich_text(column), justify="right" if right else "left")
    for row in cells:
        shown.add_row(*map(rich_text, row))
    rich.print(shown)


def markdown(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """The same as a table in Markdown, to be kept in a file."""
    lines = [columns, ["---"] * len(columns), *rows]
    for line in lines:
        cells = ["" if cell is None else _cell(cell).replace("|", "\\|") for cell in line]
        say(f"| {' | '.join(cells)} |")


@contextmanager
def progress(total: int, label: str) -> Generator[Advance]:
    """`with progress(100, "episodes") as advance: advance(); advance(2, "reward 0.5")`.

    A bar on a terminal; elsewhere one line per tenth of the way.
    """
    rich = _rich(sys.stderr)
    if rich is None:
        yield _plain_progress(total, label)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=rich, transient=True) as bar:
        job = bar.add_task(label, total=total, note="")

        def advance(amount: int = 1, note: str = "") -> None:
            bar.advance(job, amount)
            if note:
                bar.update(job, note=note)

        yield advance


def rich_text(text: str) -> Any:
    """Text that rich shows as it is, square brackets and all."""
    from rich.text import Text

    return Text(text)


def _rich(stream: TextIO) -> Any:
    """A rich console on a terminal, else None."""
    if not stream.isatty() or importlib.util.find_spec("rich") is None:
        return None
    from rich.console import Console

    return Console(file=stream, highlight=False)


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _plain_table(
    title: str, columns: Sequence[str], cells: Sequence[Sequence[str]], numeric: Sequence[bool]
) -> None:
    if title:
        say(title)
    lines = [list(columns), *([" ".join(cell.split()) for cell in row] for row in cells)]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    for line in lines:
        parts = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ]
        say("  ".join(parts).rstrip())


def _plain_progress(total: int, label: str) -> Advance:
    done = tenths = 0

    def advance(amount: int = 1, note: str = "") -> None:
        nonlocal done, tenths
        done += amount
        reached = 10 * done // max(total, 1)
        if reached > tenths:
            tenths = reached
            sys.stderr.write(f"{label} {done}/{total}" + (f"  {note}" if note else "") + "\n")
            sys.stderr.flush()

    return advance
