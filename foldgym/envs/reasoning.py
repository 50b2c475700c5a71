"""`ReasoningGym`: the puzzles of the reasoning-gym package, one entry an episode."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from foldgym.envs.base import ToolEnv
from foldgym.envs.games import Split, check_split
from foldgym.envs.long.splits import drawn
from foldgym.errors import MissingExtra, UnknownName, UserError
from foldgym.tools import call, tool
from foldgym.types import Action, Message, Task

WITHOUT_KEY = ("boxnet", "graph_color", "propositional_logic", "rubiks_cube", "rush_hour")
"""Datasets (of 0.1.25) whose entries hold no answer: theirs scores 0, so they have no expert."""
_TAGGED = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_SEEDS = 2**31


class ReasoningGym(ToolEnv):
    """Answer one question of a reasoning-gym dataset, scored from 0 to 1 by its own checker.

    `config` are the dataset's options, as for `reasoning_gym.create_dataset`. A split owns
    questions, not seeds: one question is in one split only. An answer comes by the tool `answer`,
    or as plain text (the last `<answer>...</answer>` in it, if there is one). The expert gives the
    entry's own answer; the datasets `WITHOUT_KEY` have none.

    Raises `MissingExtra` unless reasoning-gym is installed.
    """

    max_turns = 3
    shared = ("data",)

    def __init__(
        self,
        dataset: str = "chain_sum",
        config: Mapping[str, Any] | None = None,
        split: Split = "train",
        *,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(render_mode=render_mode)
        check_split(split)
        self.dataset, self.config, self.split = dataset, dict(config or {}), split
        known = _library("reasoning_gym.factory").DATASETS
        if dataset not in known:
            raise UnknownName("dataset of reasoning-gym", dataset, known)
        self.experts = () if dataset in WITHOUT_KEY else ("optimal",)
        self._open(0)

    def _open(self, number: int) -> dict[str, Any]:
        """The only entry of the dataset of this seed; `data` is the dataset, which scores it."""
        create = _library("reasoning_gym").create_dataset
        try:
            self.data: Any = create(self.dataset, **{**self.config, "seed": number, "size": 1})
        except (TypeError, ValueError, AssertionError) as problem:
            said = " ".join(str(problem).split())
            raise UserError(
                f"reasoning-gym's {self.dataset} does not take the config {self.config!r}: {said}"
            ) from problem
        return self.data[0]

    def setup(self, rng: random.Random) -> Task:
        """A question of the split; the task carries the number that makes it again."""
        number, self.entry = drawn(
            self.split,
            lambda: self._numbered(rng.randrange(_SEEDS)),
            lambda made: f"{self.dataset} {made[1]['question']}",
            "reasoning-gym",
        )
        self._open(number)
        key = self.entry["answer"]
        return Task(
            f"ReasoningGym-{self.dataset}-{number}",
            (Message("user", self.entry["question"]),),
            [key] if self.experts else None,
            {"dataset": self.dataset, "number": number},
        )

    def _numbered(self, number: int) -> tuple[int, dict[str, Any]]:
        return number, self._open(number)

    def setup_task(self, task: Task, rng: random.Random) -> None:
        """Play the question of a task that an environment with the same settings made."""
        self.entry = self._open(int(task.metadata.get("number", -1)))
        if task.prompt[-1].text != self.entry["question"]:
            raise UserError(f"task {task.id!r} was not made by a ReasoningGym with these settings")

    @tool
    def answer(self, text: str) -> str:
        """Give the final answer."""
        if not text.strip():
            return "error: the answer is empty."
        score = self._score(text)
        self.finish(score, answer=text[:200])
        return f"The score is {score:g}."

    def _score(self, text: str) -> float:
        """The checker's score; an answer that it cannot read is wrong."""
        try:
            score = float(self.data.score_answer(text, self.entry))
        except Exception:  # checkers parse what a model wrote, and some do not expect all of it
            return 0.0
        return min(1.0, max(0.0, score)) if score == score else 0.0

    def respond(self, message: Message) -> str:
        """Plain text is an answer."""
        tagged = _TAGGED.findall(message.text)
        return self.answer((tagged[-1] if tagged else message.text).strip())

    def expert(self, style: str, rng: random.Random) -> Action:
        """The answer that the entry holds."""
        if style not in self.experts:
            return super().expert(style, rng)
        return call("answer", text=str(self.entry["answer"]))


def _library(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as problem:
        raise MissingExtra("foldgym/ReasoningGym-v0", "reasoning") from problem
