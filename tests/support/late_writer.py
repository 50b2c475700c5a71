"""Whoever is killed may have been writing: a process that writes on while its folder is removed.

It ends, as what was killed does: one that never did would fill the disk if it were not removed.
"""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

WRITE = (
    "n=0; while [ $n -lt 20000 ]; do echo late > late-$n || exit 0; n=$((n+1)); done 2>/dev/null"
)


def late_writer(folder: Path, before: int = 200) -> subprocess.Popen[bytes]:
    """Makes new files in `folder` for a second or two; returned once it is well under way."""
    late = subprocess.Popen(["sh", "-c", WRITE], cwd=folder)
    deadline = time.monotonic() + 120
    while not (folder / f"late-{before}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.001)
    return late
