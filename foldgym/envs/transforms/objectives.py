"""Multi-objective episodes after MEM1: k tasks in one prompt, answered together or one by one."""

from __future__ import annotations

from collections.abc import Sequence

from foldgym.envs.transforms.base import Inner, Knob
from foldgym.envs.transforms.several import Form, Several, Tasks, how, question, system
from foldgym.types import Message, Task


class Objectives(Several):
    """`k` independent tasks at once; worlds that can, let them share their documents.

    Each position of the answer is scored by itself and pays its part. The score is their mean, or
    with `normalise=False` their sum, from 0 to k, as MEM1 has it. Success is all of them.
    """

    knob = Knob("k", (1, 2, 4, 8, 16), 1, 64, "all k tasks have to be solved")

    def __init__(
        self,
        env: Inner,
        k: int = 2,
        form: Form = "joint",
        normalise: bool = True,
        answer: str = "answer",
        separator: str = ";",
    ) -> None:
        super().__init__(env, k, form, answer, separator, k=k, normalise=normalise)
        self.normalise = normalise

    def prompt(self, now: Tasks, tasks: Sequence[Task]) -> tuple[Message, ...]:
        """All questions, numbered."""
        asked = [f"{at}. {question(each, 'objectives')}" for at, each in enumerate(tasks, 1)]
        lead = f"{self.count} tasks. {how(self.form, self.separator, self.tools, self.answer)}"
        return (*system(tasks), Message("user", "\n".join([lead, *asked])))

    def score(self, now: Tasks, scores: Sequence[float]) -> float:
        """The mean, or the sum."""
        return sum(scores) / self.count if self.normalise else sum(scores)

    def pays(self, reward: float) -> float:
        """A task's reward at once, or its part of the mean."""
        return reward / self.count if self.normalise else reward
