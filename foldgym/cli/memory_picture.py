"""The report on memories as a picture: success by context, recall by age and folds, tokens."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foldgym.errors import DataError, MissingExtra

if TYPE_CHECKING:
    from foldgym.agents.memory_report import Cell, MemoryReport


_MARKS = "os^Dvp"


def check() -> None:
    """Raises `MissingExtra` if there is nothing to draw with; to be called before hours of play."""
    try:
        import matplotlib  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ModuleNotFoundError:
        raise MissingExtra("the picture of --output (--json FILE does without)", "train") from None


def draw(report: MemoryReport, picture: Path, title: str) -> Path:
    """Draws a PNG. Raises `DataError` when it cannot be written."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7.5), layout="constrained")
    (success, tokens), (ages, folds) = figure.subplots(2, 2)
    _success(success, report)
    _tokens(tokens, report)
    sizes = sorted(report.none)
    middle = sizes[len(sizes) // 2]
    chosen = {label: cells[middle] for label, cells in report.own.items()}
    _recall(ages, {label: _ages(cell, "by_age") for label, cell in chosen.items()})
    _recall(folds, {label: _ages(cell, "by_folds") for label, cell in chosen.items()})
    ages.set(title=f"recall by age, context {middle}", xlabel="turns since it was said")
    folds.set(title=f"recall by folds, context {middle}", xlabel="folds since it was said")
    for axes in (success, tokens, ages, folds):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.title.set_fontsize("medium")
    figure.suptitle(title)
    handles, labels = success.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=6, frameon=False)
    try:
        figure.savefig(picture, dpi=110)
    except OSError as problem:
        raise DataError(f"cannot write {picture}: {problem.strerror}") from None
    return picture


def _success(axes: Any, report: MemoryReport) -> None:
    for number, (label, cells) in enumerate(report.own.items()):
        _curve(axes, cells, label, f"C{number}", f"{_MARKS[number % len(_MARKS)]}-")
    _curve(axes, report.none, "no memory", "black", "*:")
    if report.oracle:
        mean = report.oracle.report.success.mean
        axes.axhline(mean, color="grey", linestyle="--", label="oracle context")
    axes.set(title="success by context", xlabel="context in tokens", ylim=(-0.03, 1.03))
    _contexts(axes, report)


def _curve(axes: Any, cells: Mapping[int, Cell], label: str, color: str, style: str) -> None:
    found = [cell.report.success for cell in cells.values()]
    mean = [each.mean for each in found]
    low = [0.0 if each.n < 2 else each.mean - each.low for each in found]
    high = [0.0 if each.n < 2 else each.high - each.mean for each in found]
    axes.errorbar(
        list(cells), mean, [low, high], label=label, color=color, fmt=style, capsize=3, alpha=0.8
    )


def _tokens(axes: Any, report: MemoryReport) -> None:
    rows = [(f"C{n}", f"{_MARKS[n % len(_MARKS)]}-") for n in range(len(report.own))]
    series = zip([*rows, ("black", "*:")], [*report.own.values(), report.none], strict=True)
    for (color, style), cells in series:
        points = [(each, cell.costs.get("prompt_tokens", 0.0)) for each, cell in cells.items()]
        axes.plot(*zip(*points, strict=True), style, color=color, alpha=0.8)
    axes.set(title="prompt tokens an episode", xlabel="context in tokens", ylim=(0, None))
    _contexts(axes, report)


def _contexts(axes: Any, report: MemoryReport) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(report.none), [str(each) for each in report.none])
    axes.minorticks_off()


def _ages(cell: Cell, name: str) -> Mapping[int, tuple[int, int]]:
    return getattr(cell.recall, name) if cell.recall else {}


def _recall(axes: Any, rows: Mapping[str, Mapping[int, tuple[int, int]]]) -> None:
    for number, counts in enumerate(rows.values()):
        if counts:
            rates = [right / asked for right, asked in counts.values()]
            style = f"{_MARKS[number % len(_MARKS)]}-"
            axes.plot(list(counts), rates, style, color=f"C{number}", alpha=0.8)
    reached = [place for counts in rows.values() for place in counts]
    if reached:
        axes.set_xlim(min(reached) - 0.5, max(reached) + 0.5)
        axes.xaxis.get_major_locator().set_params(integer=True)
    else:
        axes.text(0.5, 0.5, "no questions", ha="center", transform=axes.transAxes)
    axes.set_ylim(-0.03, 1.03)
