"""SWE-bench's predictions, graded in parallel boxes, and its report of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from foldgym.envs.swe.grading import grade
from foldgym.envs.swe.task import SweTask
from foldgym.envs.swe.verdict import Grade, Reason, Verdict
from foldgym.errors import DataError, SandboxError, UnknownName
from foldgym.records import JsonlReader
from foldgym.types import Json


@dataclass(frozen=True, slots=True)
class Prediction:
    """`Prediction("acme__toy-1", "model", "diff --git ...")`; no patch is an empty one."""

    instance_id: str
    model_name_or_path: str
    model_patch: str


@dataclass(frozen=True, slots=True)
class Graded:
    """A prediction with its verdict; `failure` instead if the boxes failed, which is no score."""

    prediction: Prediction
    verdict: Verdict | None
    failure: str = ""


def read_predictions(path: str | Path) -> tuple[Prediction, ...]:
    """Predictions as JSON lines, a JSON list, or a JSON object by instance. Raises `DataError`."""
    source = Path(path)
    rows: list[tuple[str, Any]] = []
    if source.suffix == ".jsonl":
        rows = [(f"line {number}", row) for number, row in JsonlReader(source).numbered()]
    else:
        try:
            held: Any = json.loads(source.read_text(encoding="utf-8"))
        except OSError as problem:
            raise DataError(f"cannot read {source}: {problem.strerror}") from None
        except ValueError as problem:
            raise DataError(f"{source} is no JSON: {problem}") from None
        if isinstance(held, Mapping):
            table = cast("Mapping[str, Any]", held)
            rows = [
                (name, {"instance_id": name, **row} if isinstance(row, Mapping) else row)
                for name, row in table.items()
            ]
        elif isinstance(held, list):
            rows = [(f"entry {n}", row) for n, row in enumerate(cast("list[Any]", held), 1)]
        else:
            raise DataError(f"{source} holds {held!r:.60}, not a list or an object")
    found: dict[str, Prediction] = {}
    for where, row in rows:
        prediction = _prediction(row, f"{source}, {where}")
        if prediction.instance_id in found:
            raise DataError(f"{source}, {where}: {prediction.instance_id!r} is there twice")
        found[prediction.instance_id] = prediction
    if not found:
        raise DataError(f"{source} holds no prediction")
    return tuple(found.values())


def _prediction(row: Any, where: str) -> Prediction:
    if not isinstance(row, Mapping):
        raise DataError(f"{where}: {row!r:.60} is no prediction")
    table = cast("Mapping[str, Any]", row)
    name, patch = table.get("instance_id"), table.get("model_patch")
    if not isinstance(name, str) or not name:
        raise DataError(f"{where}: instance_id is {name!r}, not a text")
    if patch is not None and not isinstance(patch, str):
        raise DataError(f"{where}: model_patch is {patch!r:.60}, not a text")
    return Prediction(name, str(table.get("model_name_or_path", "")), patch or "")


def grade_predictions(
    tasks: Sequence[SweTask],
    predictions: Sequence[Prediction],
    *,
    backend: str = "auto",
    workers: int = 2,
    check: bool = True,
    advance: Callable[[Graded], None] = lambda _: None,
) -> list[Graded]:
    """Grade each in boxes of its own. Raises `UnknownName` for a prediction of no task."""
    known = {task.id: task for task in tasks}
    for each in predictions:
        if each.instance_id not in known:
            raise UnknownName("task", each.instance_id, known)

    def one(prediction: Prediction) -> Graded:
        task = known[prediction.instance_id]
        try:
            verdict = grade(task, prediction.model_patch, backend=backend, check=check, run="grade")
            done = Graded(prediction, verdict)
        except SandboxError as problem:
            done = Graded(prediction, None, str(problem))
        advance(done)
        return done

    with ThreadPoolExecutor(workers, thread_name_prefix="swe grade") as threads:
        return list(threads.map(one, predictions))


def summary(tasks: Sequence[SweTask], graded: Sequence[Graded]) -> dict[str, Json]:
    """Counts and ids in SWE-bench's words, and a report of each instance.

    Invalid submissions and failures of boxes are errors, and not unresolved.
    """
    ids: dict[str, list[str]] = {
        name: [] for name in ("completed", "resolved", "unresolved", "empty_patch", "error")
    }
    reports: dict[str, Json] = {}
    for each in graded:
        name, verdict = each.prediction.instance_id, each.verdict
        reports[name] = _report(each)
        if verdict is None or verdict.grade is Grade.INVALID:
            ids["error"].append(name)
        elif not each.prediction.model_patch.strip():
            ids["empty_patch"].append(name)
        else:
            ids["completed"].append(name)
            ids["resolved" if verdict.resolved else "unresolved"].append(name)
    submitted = {each.prediction.instance_id for each in graded}
    incomplete = [task.id for task in tasks if task.id not in submitted]
    counts: dict[str, Json] = {
        "total_instances": len(tasks),
        "submitted_instances": len(graded),
        **{f"{name}_instances": len(some) for name, some in ids.items()},
    }
    named: dict[str, Json] = {f"{name}_ids": sorted(some) for name, some in ids.items()}
    return {**counts, **named, "incomplete_ids": sorted(incomplete), "instances": reports}


def _report(each: Graded) -> dict[str, Json]:
    patch, verdict = each.prediction.model_patch, each.verdict
    applied = verdict is not None and verdict.reason is not Reason.PATCH and bool(patch.strip())
    told = verdict.report() if verdict else {"grade": "failure", "detail": each.failure}
    return {
        "patch_is_None": not patch,
        "patch_exists": bool(patch.strip()),
        "patch_successfully_applied": applied,
        "resolved": False,
        **told,
    }
