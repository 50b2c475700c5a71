"""The learning curve of a run as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from foldgym.errors import DataError, MissingExtra
from foldgym.records import JsonlReader
from foldgym.types import Json

# title of a panel -> metric -> what the legend calls it
_PANELS: dict[str, dict[str, str]] = {
    "success": {"success": "while training", "reward": "reward while training"},
    "policy": {"entropy": "entropy", "nll": "-log p of what was sampled"},
    "update": {"grad_norm": "gradient norm", "clip_fraction": "share of clipped tokens"},
    "episodes": {
        "turns": "turns",
        "segments": "segments",
        "degenerate": "share of groups without a signal",
    },
}
_WIDTH = 9  # steps of the running mean


class Mark(NamedTuple):
    """A measurement with its interval, drawn at a step: `Mark("test", 0, 0.2, 0.17, 0.24)`."""

    label: str
    step: int
    mean: float
    low: float
    high: float


def curve(metrics: Path, picture: Path, marks: Sequence[Mark] = ()) -> Path:
    """Draws `metrics.jsonl` to a PNG: one panel per kind of number.

    Noisy lines are pale beneath their running mean; evaluations are dots; `marks` are drawn with
    their intervals. Raises `MissingExtra` without matplotlib and `DataError` if there is nothing
    to draw.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise MissingExtra("the curve plot", "train") from None
    rows = list(JsonlReader(metrics))
    evaluated = sorted({k for row in rows for k in row if k.startswith("eval/")})
    panels = {title: found for title, names in _PANELS.items() if (found := _lines(rows, names))}
    if not panels and not evaluated and not marks:
        raise DataError(f"{metrics} holds no numbers to draw")
    titles = list(panels) or ["success"]
    figure = Figure(figsize=(9, 2.4 * len(titles)), layout="constrained")
    for axes, title in zip(figure.subplots(len(titles), squeeze=False)[:, 0], titles, strict=True):
        for label, points in panels.get(title, {}).items():
            _noisy(axes, label, points)
        if title == titles[0]:
            for name in (n for n in evaluated if n.endswith("/success")):
                world = name.removeprefix("eval/").removesuffix("/success").split("/")[-1]
                axes.plot(*_series(rows, name), "o:", label=f"{world}, val", markersize=3.5)
            _marks(axes, marks)
        axes.set_title(title, loc="left", fontsize="medium")
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize="small", frameon=False)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        if title == titles[-1]:
            axes.set_xlabel("step")
    try:
        figure.savefig(picture, dpi=120)
    except OSError as problem:
        raise DataError(f"cannot write {picture}: {problem.strerror}") from None
    return picture


def _lines(
    rows: Sequence[Mapping[str, Json]], names: Mapping[str, str]
) -> dict[str, tuple[list[int], list[float]]]:
    """The series that are there; one that equals an earlier series is left out."""
    found: dict[str, tuple[list[int], list[float]]] = {}
    for name, label in names.items():
        points = _series(rows, name)
        if points[0] and points not in found.values():
            found[label] = points
    return found


def _noisy(axes: Any, label: str, points: tuple[list[int], list[float]]) -> None:
    steps, values = points
    if len(values) < 2 * _WIDTH:
        axes.plot(steps, values, label=label, linewidth=1.2)
        return
    line = axes.plot(steps, values, linewidth=0.8, alpha=0.3)[0]
    half = _WIDTH // 2
    windows = [values[max(0, at - half) : at + half + 1] for at in range(len(values))]
    means = [sum(window) / len(window) for window in windows]
    axes.plot(steps, means, label=label, linewidth=1.6, color=line.get_color())


def _marks(axes: Any, marks: Sequence[Mark]) -> None:
    for label in dict.fromkeys(mark.label for mark in marks):
        mine = [mark for mark in marks if mark.label == label]
        axes.errorbar(
            [mark.step for mark in mine],
            [mark.mean for mark in mine],
            yerr=[
                [mark.mean - mark.low for mark in mine],
                [mark.high - mark.mean for mark in mine],
            ],
            label=label,
            fmt="s",
            markersize=5,
            capsize=3,
        )


def _series(rows: Sequence[Mapping[str, Json]], name: str) -> tuple[list[int], list[float]]:
    points = [(row["step"], row[name]) for row in rows if name in row]
    return [step for step, _ in points], [value for _, value in points]
