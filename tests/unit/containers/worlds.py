"""An environment that works in a Docker box."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping

from foldgym import ToolEnv, tool
from foldgym.containers import BoxSpec, Sandbox, open_box


class Adding(ToolEnv):
    """Add lines to a file in a box, three times."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        os.environ.update(variables)  # it may run in a process that knows nothing of the test's
        self.box: Sandbox | None = None

    def setup(self, rng: random.Random) -> str:
        self.box = open_box(BoxSpec(run="adding"), "docker")
        return "add three lines"

    @tool
    def add(self, number: int) -> str:
        """Add a line."""
        assert self.box is not None
        result = self.box.exec(f"echo {number} >> lines; wc -l < lines")
        if result.stdout == b"3\n":
            self.finish(1.0)
        return result.text

    def close(self) -> None:
        if self.box is not None:
            self.box.close()
