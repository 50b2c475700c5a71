"""`make bench`: runs suites, prints what they measured, keeps it in `benchmarks/results/`.

    python -m benchmarks.run                 # all suites
    python -m benchmarks.run engine rollout  # some

A suite is a module in `benchmarks/suites` with `run() -> dict`. Figures are only comparable within
one run; the result file says when and on what they were taken.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from foldgym.console import note, table

HERE = Path(__file__).parent
SUITES = (
    *("envs", "rollout", "engine", "memory", "gains", "install", "estimators", "credit"),
    *("household", "search", "shop", "sandboxes", "miniwob", "asynchronous", "overlap"),
    *("packing", "drift"),
    "trl",
)


def machine() -> dict[str, Any]:
    """What the figures were taken on; the load tells whether anybody else was at work."""
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def flat(value: Any, name: str = "") -> list[tuple[str, Any]]:
    """Nested results as (dotted name, number) rows."""
    if isinstance(value, dict):
        return [
            row for key, inner in value.items() for row in flat(inner, f"{name}.{key}".strip("."))
        ]
    return [(name, value)]


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in SUITES]
    if unknown:
        note(f"error: no suite {unknown[0]!r}; there are {', '.join(SUITES)}")
        return 2
    for name in names or SUITES:
        where = machine()
        note(f"running {name} ...")
        result = import_module(f"benchmarks.suites.{name}").run()
        path = HERE / "results" / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"machine": where, **result}, indent=1) + "\n")
        if name not in ("estimators", "credit"):  # these have pages of their own
            table(f"{name} ({path.name})", ("what", "figure"), flat(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
