"""`foldgym swe grade TASKS PREDICTIONS`: what patches are worth, by hidden tests in fresh boxes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from foldgym import console
from foldgym.cli.options import at_least, write_json


def add_grade(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("tasks", type=Path, help="a file of tasks (JSON lines)")
    parser.add_argument(
        "predictions", type=Path, help="SWE-bench predictions: JSON lines, a JSON list or object"
    )
    parser.add_argument("--backend", default="auto", help="which boxes (auto)")
    parser.add_argument("--workers", type=at_least(1), default=2, help="boxes at a time (2)")
    parser.add_argument(
        "--no-check",
        action="store_true",
        help="do not run what passes once more with tests that must fail",
    )


def run_grade(args: argparse.Namespace) -> int:
    """Grade, and print or write the report."""
    from foldgym.envs.swe.predictions import grade_predictions, read_predictions, summary
    from foldgym.envs.swe.task import load_tasks

    tasks = load_tasks(args.tasks)
    predictions = read_predictions(args.predictions)
    with console.progress(len(predictions), "graded") as advance:
        graded = grade_predictions(
            tasks,
            predictions,
            backend=args.backend,
            workers=args.workers,
            check=not args.no_check,
            advance=lambda each: advance(1, each.prediction.instance_id),
        )
    sheet = summary(tasks, graded)
    if write_json(args.json, sheet):
        console.table("", ("task", "grade", "why", "fixed", "broken"), [_row(g) for g in graded])
        console.say(
            f"{sheet['resolved_instances']} of {len(graded)} resolved, "
            f"{sheet['unresolved_instances']} not, {sheet['empty_patch_instances']} empty, "
            f"{sheet['error_instances']} errors"
        )
    return 0


def _row(graded: Any) -> tuple[str, ...]:
    name, verdict = graded.prediction.instance_id, graded.verdict
    if verdict is None:
        return name, "failure", graded.failure, "", ""
    first, second = verdict.fail_to_pass, verdict.pass_to_pass
    return (
        name,
        verdict.grade.value,
        verdict.detail,
        f"{len(first.success)} of {len(first.success) + len(first.failure)}",
        f"{len(second.failure)} of {len(second.success) + len(second.failure)}",
    )
