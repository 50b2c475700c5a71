"""Worlds whose rules are hidden: explore, commit the rules once, predict what was never shown.

After UltraHorizon, with two changes: which rules hold is drawn anew for every seed, and instead of
a judge the commit has a form that is compared exactly, followed by exact predictions.
"""

from __future__ import annotations

from foldgym.envs.base import ToolEnv
from foldgym.envs.games import Split, check_split
from foldgym.errors import UserError
from foldgym.tools import tool

Rules = tuple[str, ...]


class Discovery(ToolEnv):
    """Exactly `steps` steps of exploration, one commit, `probes` predictions, one turn each.

    The score is half the share of rules that were right and half the share of predictions. A
    subclass sets `truth` and `questions` in `setup` and calls `blocked` before each step and
    `explored` after it.
    """

    truth: Rules
    questions: list[tuple[str, Rules]]
    """What is asked after the commit, and what is right."""

    def __init__(self, steps: int, probes: int, split: Split, render_mode: str | None) -> None:
        super().__init__(render_mode=render_mode)
        check_split(split)
        if not 1 <= steps <= 1000 or not 1 <= probes <= 100:
            raise UserError(
                f"steps must be from 1 to 1000 and probes from 1 to 100, not {steps} and {probes}"
            )
        self.steps, self.probes, self.split = steps, probes, split
        self.max_turns = 2 * steps + probes + 10

    def begin(self) -> None:
        """To be called by `setup`: nothing explored, committed or predicted yet."""
        self.taken = 0
        self.committed: Rules | None = None
        self.predictions: list[Rules] = []

    def read_rules(self, text: str) -> Rules | str:
        """The rules that a commit names, or what is wrong with it."""
        raise NotImplementedError(f"{type(self).__name__} does not read rules")

    def read_outcome(self, text: str) -> Rules:
        """A prediction in the form of the answers in `questions`; empty if it has none."""
        raise NotImplementedError(f"{type(self).__name__} does not read outcomes")

    def stuck(self) -> bool:
        """Whether no further step is possible, so that a commit may come early."""
        return False

    def blocked(self) -> str:
        """Why no step may be made now; empty if one may."""
        if self.committed is not None:
            return "error: the rules are committed; only predictions are left."
        if self.taken >= self.steps:
            return f"error: all {self.steps} steps are made; commit the rules."
        return ""

    def explored(self) -> str:
        """Count a step; what is left to do."""
        self.taken += 1
        left = self.steps - self.taken
        return f"{left} steps left." if left else "No steps left: commit the rules."

    @tool
    def commit(self, rules: str) -> str:
        """State the hidden rules, once, after the last step.

        Args:
            rules: all rules, in the form that the task describes
        """
        if self.committed is not None:
            return "error: the rules are committed already."
        if self.taken < self.steps and not self.stuck():
            return f"error: {self.steps - self.taken} steps are left; make them first."
        read = self.read_rules(rules)
        if isinstance(read, str):
            return f"error: {read}"
        self.committed = read
        return f"Committed. {self.questions[0][0]}"

    @tool
    def predict(self, outcome: str) -> str:
        """Predict the outcome that was asked for, after the commit.

        Args:
            outcome: what will happen
        """
        if self.committed is None:
            return "error: there is nothing to predict before the commit."
        read = self.read_outcome(outcome)
        if not read:
            return "error: no outcome of the form that was asked for."
        self.predictions.append(read)
        if len(self.predictions) < len(self.questions):
            return f"Noted. {self.questions[len(self.predictions)][0]}"
        known, foreseen = self.shares()
        self.finish(self.grade(), rules=known, predictions=foreseen)
        return "Noted, that was the last one."

    def shares(self) -> tuple[float, float]:
        """Shares of rules committed and of outcomes predicted rightly."""
        pairs = zip(self.committed or (), self.truth, strict=False)
        known = sum(a == b for a, b in pairs) / len(self.truth)
        answered = zip(self.predictions, self.questions, strict=False)
        return known, sum(a == b for a, (_, b) in answered) / len(self.questions)

    def grade(self) -> float:
        """Half for the rules, half for the predictions."""
        return sum(self.shares()) / 2
