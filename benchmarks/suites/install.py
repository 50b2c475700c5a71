"""What `pip install .` brings without extras, and how long the import takes."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def run() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        venv = Path(folder) / "venv"
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        python = str(venv / "bin" / "python")
        pip = [python, "-m", "pip", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", "-q", str(ROOT)], check=True, stderr=subprocess.DEVNULL)
        listed = json.loads(
            subprocess.run(
                [*pip, "list", "--format", "json"], check=True, capture_output=True, text=True
            ).stdout
        )
        names = sorted({each["name"].lower() for each in listed} - {"pip", "setuptools", "wheel"})
        size = sum(path.stat().st_size for path in venv.rglob("*") if path.is_file())
        imports = {
            what: min(_seconds(python, code) for _ in range(5))
            for what, code in {
                "python alone": "pass",
                "import foldgym": "import foldgym",
                "foldgym.make": "import foldgym; foldgym.make('foldgym/GuessNumber-v0')",
                "foldgym.agents.rollout": "import foldgym.agents.rollout",
            }.items()
        }
    return {
        "packages": len(names),
        "names": ", ".join(names),
        "megabytes": round(size / 1e6),
        "seconds": {what: round(value, 3) for what, value in imports.items()},
    }


def _seconds(python: str, code: str) -> float:
    started = time.perf_counter()
    subprocess.run([python, "-c", code], check=True)
    return time.perf_counter() - started
