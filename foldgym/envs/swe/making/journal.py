"""The journal of one package: what was tried already, whoever was killed meanwhile."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from foldgym.envs.swe.making.faults import Fault
from foldgym.envs.swe.making.sources import Project
from foldgym.envs.swe.making.validating import VALID, Baseline, Trial
from foldgym.errors import DataError
from foldgym.records import JsonlReader, JsonlWriter
from foldgym.types import Json

SCHEMA = 1


class Journal:
    """JSON lines: first the baseline, then one line for each trial. Raises `DataError` if the
    file tells of another tree of the package."""

    def __init__(self, path: Path, project: Project) -> None:
        self.baseline: Baseline | None = None
        self.trials: dict[str, dict[str, Json]] = {}
        self.project = project
        self.writer = JsonlWriter(path)  # it moves away a line that a kill left unfinished
        for row in JsonlReader(path):
            if row.get("kind") == "baseline":
                self._check(path, row)
                self.baseline = Baseline(
                    frozenset(row["stable"]),
                    tuple(row["flaky"]),
                    tuple(row["broken"]),
                    row["runs"],
                    row["seconds"],
                )
            elif row.get("kind") == "trial":
                self.trials[row["id"]] = row
        if self.trials and self.baseline is None:
            raise DataError(f"{path} has trials but no baseline: move it away")

    def _check(self, path: Path, row: dict[str, Any]) -> None:
        if row.get("schema") != SCHEMA or row.get("address") != self.project.address:
            raise DataError(
                f"{path} is of another tree of {self.project.name}, or of another foldgym: move it "
                "away or give another folder"
            )

    def keep_baseline(self, base: Baseline) -> None:
        """Write it, unless it is there."""
        if self.baseline is not None:
            return
        self.baseline = base
        self.writer.write(
            {
                "kind": "baseline",
                "schema": SCHEMA,
                "address": self.project.address,
                "stable": sorted(base.stable),
                "flaky": list(base.flaky),
                "broken": list(base.broken),
                "runs": base.runs,
                "seconds": base.seconds,
            }
        )

    def keep(self, name: str, trial: Trial, base: Baseline) -> None:
        """Write a trial. Of a valid one the tests that did not pass are kept, not all that did."""
        row: dict[str, Json] = {"kind": "trial", "id": name, "verdict": trial.verdict}
        row |= {"operator": trial.fault.operator, "path": trial.fault.path}
        row |= {"line": trial.fault.line, "seconds": round(trial.seconds, 3)}
        if trial.verdict == VALID:
            row["fail_to_pass"] = list(trial.fail_to_pass)
            row["failing"] = sorted(base.stable - set(trial.pass_to_pass))
            row |= {"problem": trial.problem, "patch": trial.patch}
        self.trials[name] = row
        self.writer.write(row)

    def trial(self, name: str, fault: Fault, base: Baseline) -> Trial:
        """What was written of a fault that was tried before."""
        row = self.trials[name]
        plain = Trial(fault, row["verdict"], seconds=row["seconds"])
        if row["verdict"] != VALID:
            return plain
        return replace(
            plain,
            fail_to_pass=tuple(row["fail_to_pass"]),
            pass_to_pass=tuple(sorted(base.stable - set(row["failing"]))),
            problem=row["problem"],
            patch=row["patch"],
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.writer.close()


def slim(trial: Trial) -> Trial:
    """The trial without its log, which is in a file of its own by then."""
    return replace(trial, log="")
