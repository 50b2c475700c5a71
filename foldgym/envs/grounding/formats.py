"""Grounding data in the formats it is published in, read from files a user has.

`FORMATS` maps a format's name to what builds a `GuiStep` from one row: ScreenSpot (v1 and v2),
ScreenSpot-Pro and UI-R1's AndroidControl rows. AndroidControl's own shards are not rows; see
`android_control`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from foldgym.envs.grounding.steps import Box, GuiStep, Point
from foldgym.envs.qa.rows import Malformed, Read, Row, first_row, read_rows
from foldgym.errors import DataError, UnknownName


def screenspot(row: Row) -> GuiStep:
    """ScreenSpot v1 and v2: `bbox` is [x, y, width, height] in pixels."""
    left, top, width, height = _numbers(row, "bbox", 4)
    return _spot(row, (left, top, left + width, top + height))


def screenspot_pro(row: Row) -> GuiStep:
    """ScreenSpot-Pro: `bbox` is [left, top, right, bottom] in pixels."""
    left, top, right, bottom = _numbers(row, "bbox", 4)
    return _spot(row, (left, top, right, bottom))


def _spot(row: Row, box: Box) -> GuiStep:
    if box[2] < box[0] or box[3] < box[1]:
        raise Malformed(f"`bbox` {row['bbox']!r} has no inside")
    picture, asked = _text(row, "img_filename"), _text(row, "instruction")
    width, height = _numbers(row, "img_size", 2) if row.get("img_size") else (0, 0)
    kept = ("data_type", "data_source", "platform", "application", "ui_type", "group")
    return GuiStep(
        str(row.get("id") or f"{picture}:{asked}"),
        asked,
        picture,
        box=box,
        size=(int(width), int(height)),
        metadata={key: row[key] for key in kept if key in row},
    )


def ui_r1(row: Row) -> GuiStep:
    """UI-R1: `gt` holds the action, with x and y for a click; a box is `gt_bbox` or `bbox`."""
    gold = row.get("gt")
    if not isinstance(gold, Mapping):
        raise Malformed("`gt` is no object")
    table = cast("Mapping[str, Any]", gold)
    box = next((table[k] if k in table else row[k] for k in _BOXES if k in table or k in row), None)
    picture, asked = _text(row, "image"), _text(row, "task")
    return action_step(
        str(row.get("id") or f"{picture}:{asked}"),
        asked,
        picture,
        table,
        cast("Box", tuple(_numbers({"bbox": box}, "bbox", 4))) if box is not None else None,
    )


_BOXES = ("gt_bbox", "bbox")


def action_step(
    name: str,
    asked: str,
    picture: str | bytes,
    gold: Mapping[str, Any],
    box: Box | None = None,
    size: tuple[int, int] = (0, 0),
) -> GuiStep:
    """A step from AndroidControl's action object: `action_type` with x and y, direction, text or
    app_name. Raises `Malformed`.
    """
    action = _text(gold, "action_type")
    point: Point | None = None
    if "x" in gold or "y" in gold:
        x, y = _numbers({"point": [gold.get("x"), gold.get("y")]}, "point", 2)
        point = (x, y)
    elif action in ("click", "long_press") and box is None:
        raise Malformed(f"a {action} without x and y")
    argument = next((str(gold[k]) for k in ("text", "direction", "app_name") if k in gold), "")
    return GuiStep(name, asked, picture, action, box, point, argument, size)


FORMATS: Mapping[str, Callable[[Row], GuiStep]] = {
    "screenspot": screenspot,
    "screenspot-pro": screenspot_pro,
    "ui-r1": ui_r1,
}


def recognise(row: Row) -> str:
    """The format of a row by its keys; empty if none. Pro rows have `img_size` or `ui_type`."""
    if "gt" in row and "image" in row:
        return "ui-r1"
    if "bbox" in row and "img_filename" in row:
        return "screenspot-pro" if "img_size" in row or "ui_type" in row else "screenspot"
    return ""


def read_steps(
    path: str | Path, format: str = "auto", *, level: str = "low", strict: bool = False
) -> Read[GuiStep]:
    """The steps of a file, and one line for every row that could not be read.

    A file whose name has no ending, or `.tfrecord`, is a shard of AndroidControl, of which `level`
    says what a step's instruction is: its own ("low") or the episode's goal ("high"). Raises
    `DataError` for a file that is unreadable or of no known format.
    """
    if format == "android-control" or (format == "auto" and _is_shard(Path(path))):
        from foldgym.envs.grounding.android_control import read_shard

        return read_shard(path, level, strict=strict)
    if format == "auto":
        row = first_row(path)
        format = recognise(row)
        if not format:
            raise DataError(
                f"{path}: its rows are of no known format (keys: "
                f"{', '.join(sorted(map(str, row)))}); name one of: {', '.join(sorted(FORMATS))}"
            )
    if format not in FORMATS:
        raise UnknownName("grounding format", format, [*FORMATS, "android-control"])
    return read_rows(path, FORMATS[format], strict=strict)


def _is_shard(path: Path) -> bool:
    return path.suffix in ("", ".tfrecord") or "-of-" in path.name


def _text(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value:
        raise Malformed(f"`{key}` must be a text, not {value!r}")
    return value


def _numbers(row: Mapping[str, Any], key: str, count: int) -> list[float]:
    value = row.get(key)
    items = cast("list[Any]", value) if isinstance(value, list | tuple) else []
    good = [x for x in items if isinstance(x, int | float) and not isinstance(x, bool)]
    if len(items) != count or len(good) != count:
        raise Malformed(f"`{key}` must be {count} numbers, not {value!r}")
    return [float(x) for x in good]
