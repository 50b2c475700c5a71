"""Environments for the tests: one that misbehaves on demand, one that shows its inside."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time

from foldgym import Task, ToolEnv, tool
from foldgym.errors import SandboxError
from foldgym.types import Message


class Odd(ToolEnv):
    """Behaves as `how` says."""

    def __init__(self, how: str = "well", seconds: float = 60.0) -> None:
        self.how, self.seconds = how, seconds
        if how == "hang at birth":
            time.sleep(seconds)

    def setup(self, rng: random.Random) -> str:
        if self.how == "raise at reset":
            raise RuntimeError("no reset today")
        return "Go on."

    @tool
    def go(self, number: int = 0) -> str:
        """Go."""
        if self.how == "hang":
            time.sleep(self.seconds)
        if self.how == "raise":
            raise RuntimeError("boom")
        if self.how == "lose the box":
            raise SandboxError("box 7 is gone")
        if self.how == "exit":
            sys.exit(3)
        if self.how == "die":
            os._exit(3)
        if self.how == "offspring":
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
            return f"{os.getpid()} {child.pid}"
        return str(os.getpid())

    @tool
    def stop(self) -> str:
        """Stop."""
        self.finish(1.0, went="well")
        return "stopped"


class Counter(ToolEnv):
    """Counts to a number; also plays given tasks."""

    max_turns = 4
    option_names = ("bonus",)
    experts = ("optimal",)

    def setup(self, rng: random.Random) -> Task:
        goal = rng.randint(1, 3)
        return self._begin(Task(f"count-{goal}", (Message("user", f"Count to {goal}."),), goal))

    def setup_task(self, task: Task, rng: random.Random) -> None:
        self._begin(task)

    def _begin(self, task: Task) -> Task:
        self.goal, self.count, self.trail = int(task.answer), 0, list[str]()
        return task

    @tool
    def add(self, amount: int = 1) -> str:
        """Add to the count."""
        self.count += amount
        self.trail.append(str(self.rng.randint(0, 999)))
        self.reward(0.25)
        if self.count == self.goal:
            self.finish(1.0 + float(self.options.get("bonus", 0.0)), trail=self.trail)
        return f"{self.count} {self.trail[-1]}"

    @tool(concurrent=True)
    def peek(self, seconds: float = 0.0) -> str:
        """See the count."""
        return f"{seconds}:{self.count}"

    def grade(self) -> float:
        return self.count / self.goal / 2
