"""Genuine data sets as tasks: SWE-bench 4 and 5, SWE-Gym, SWE-smith, SWE-rebench, R2E-Gym.

tasks = read_dataset("verified.parquet").items
tasks = read_dataset("gym.jsonl", "swe-gym").items      # its columns are SWE-bench's
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path

from foldgym.envs.qa.rows import Malformed, Read, Row, first_row, read_rows
from foldgym.envs.swe.preparing import prepare
from foldgym.envs.swe.rows.bench import bench_row, bench_task
from foldgym.envs.swe.rows.images import IMAGE_RULES, ImageRule
from foldgym.envs.swe.rows.others import r2e_reward, r2e_task, rebench_task, smith_task
from foldgym.envs.swe.task import SweTask
from foldgym.errors import DataError, UnknownName

FORMATS: Mapping[str, Callable[[Row], SweTask]] = {
    "swe-bench": bench_task,
    "swe-gym": functools.partial(bench_task, images=IMAGE_RULES["swe-gym"]),
    "swe-smith": smith_task,
    "swe-rebench": rebench_task,
    "r2e-gym": r2e_task,
}
_SIGNS = {
    # Columns by which a format is told from the others, the first that fits.
    "r2e-gym": ("expected_output_json", "docker_image"),
    "swe-rebench": ("install_config", "instance_id"),
    "swe-bench": ("instance_id", "test_patch", "FAIL_TO_PASS"),
    "swe-smith": ("instance_id", "image_name", "FAIL_TO_PASS"),
}


def format_of(row: Row) -> str:
    """The format of a row, by its columns; SWE-Gym's are SWE-bench's. Raises `DataError`."""
    for name, signs in _SIGNS.items():
        if row.keys() >= set(signs):
            return name
    raise DataError(
        f"a row with {', '.join(sorted(row)) or 'nothing'} is of no known format; "
        f"known: {', '.join(FORMATS)}"
    )


def read_dataset(
    path: str | Path, format: str = "auto", *, images: str = "", strict: bool = False
) -> Read[SweTask]:
    """The tasks of a JSON, JSON-lines or Parquet file, and a line for each row that is none.

    `images` is a template such as `registry/me/{id}` for sets that name no image. With `strict` the
    first bad row raises. Raises `DataError` where the file cannot be read, is of no known format,
    or holds no task; `UnknownName` for a format.
    """
    name = format
    if name == "auto":
        try:
            name = format_of(first_row(path))
        except DataError as problem:
            told = str(problem)
            raise DataError(told if str(path) in told else f"{path}: {told}") from None
    if name not in FORMATS:
        raise UnknownName("format of tasks", name, [*FORMATS, "auto"])
    build = FORMATS[name]
    if images and name in ("swe-bench", "swe-gym"):
        build = functools.partial(bench_task, images=ImageRule(images))
    seen: set[str] = set()

    def built(row: Row) -> SweTask:
        try:
            task = build(row)
        except DataError as problem:
            raise Malformed(str(problem)) from None
        if task.id in seen:
            raise Malformed(f"the task {task.id!r} is there twice")
        seen.add(task.id)
        return task

    return read_rows(path, built, strict=strict)


__all__ = [
    "FORMATS",
    "IMAGE_RULES",
    "ImageRule",
    "bench_row",
    "bench_task",
    "format_of",
    "prepare",
    "r2e_reward",
    "r2e_task",
    "read_dataset",
    "rebench_task",
    "smith_task",
]
