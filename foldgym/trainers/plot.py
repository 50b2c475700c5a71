"""The learning curve of a run as a picture."""

from __future__ import annotations

from pathlib import Path

from foldgym.errors import DataError, MissingExtra
from foldgym.records import JsonlReader
from foldgym.types import Json

_PANELS = {
    "success": ("success", "reward"),
    "policy": ("entropy", "nll", "approx_kl"),
    "update": ("grad_norm", "lr"),
    "episodes": ("turns", "segments", "degenerate"),
}


def curve(metrics: Path, picture: Path) -> Path:
    """Draws `metrics.jsonl` to a PNG: one panel per kind of number, evaluations as dots.

    Raises `MissingExtra` without matplotlib and `DataError` if there is nothing to draw.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise MissingExtra("the curve plot", "train") from None
    rows = list(JsonlReader(metrics))
    evaluated = sorted({k for row in rows for k in row if k.startswith("eval/")})
    panels = {
        title: found
        for title, names in _PANELS.items()
        if (found := [name for name in names if any(name in row for row in rows)])
    }
    if not panels and not evaluated:
        raise DataError(f"{metrics} holds no numbers to draw")
    titles = list(panels) or ["success"]
    figure = Figure(figsize=(9, 2.4 * len(titles)), layout="constrained")
    for axes, title in zip(figure.subplots(len(titles), squeeze=False)[:, 0], titles, strict=True):
        for name in panels.get(title, []):
            axes.plot(*_series(rows, name), label=name, linewidth=1)
        if title == titles[0]:
            for name in (n for n in evaluated if n.endswith("/success")):
                axes.plot(*_series(rows, name), "o--", label=name, markersize=4)
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize="small")
        axes.grid(alpha=0.3)
        axes.set_xlabel("step")
    try:
        figure.savefig(picture, dpi=120)
    except OSError as problem:
        raise DataError(f"cannot write {picture}: {problem.strerror}") from None
    return picture


def _series(rows: list[dict[str, Json]], name: str) -> tuple[list[int], list[float]]:
    points = [(row["step"], row[name]) for row in rows if name in row]
    return [step for step, _ in points], [value for _, value in points]
