"""Log-probs of gold answers along episodes, for rewards that measure information."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from foldgym.agents.answering import Answer, AnswerWriter, Place, moments
from foldgym.agents.engines.branches import Branch, Tree
from foldgym.agents.engines.torch_engine import TorchPolicy
from foldgym.agents.renderers import Renderer
from foldgym.rewards.information_gain import AnswerForm, AnswerLogprobs, Moment, answer_value
from foldgym.rewards.outcomes import golds
from foldgym.types import Group, Ids, Task, Tool, Trajectory


@dataclass(frozen=True, slots=True)
class AnswerReader:
    """Asks a policy for gold answers; `tools` are those of each world, by its label in the run.

    Every segment is read once, whatever the number of its turns (`engines.branches`).
    """

    policy: TorchPolicy
    renderer: Renderer
    tools: Mapping[str, Sequence[Tool]]
    _writers: dict[tuple[str, AnswerForm], AnswerWriter] = field(
        default_factory=dict[tuple[str, AnswerForm], AnswerWriter]
    )

    def of(self, groups: Sequence[Group]) -> AnswerLogprobs:
        """What a term is given: all episodes are read together when the first is asked for."""
        tables: dict[AnswerForm, dict[int, Sequence[Moment]]] = {}
        everything = [trajectory for group in groups for trajectory in group.trajectories]

        def logprobs(trajectory: Trajectory, form: AnswerForm) -> Sequence[Moment]:
            if form not in tables:
                read = self.read(everything, form)
                tables[form] = dict(zip(map(id, everything), read, strict=True))
            return tables[form][id(trajectory)]

        return logprobs

    def read(self, trajectories: Sequence[Trajectory], form: AnswerForm) -> list[list[Moment]]:
        """The moments of each trajectory, in order of turns.

        An answer that does not fit behind a moment into the model has no log-probs there.
        """
        plans = [moments(trajectory) for trajectory in trajectories]
        answers = [
            self.answers(trajectory.env, trajectory.task, form) for trajectory in trajectories
        ]
        trees: list[Tree] = []
        keys: list[tuple[int, int, int]] = []  # trajectory, moment, answer
        for t, trajectory in enumerate(trajectories):
            for number, segment in enumerate(trajectory.segments):
                asked = [
                    (t, p, a)
                    for p, place in enumerate(plans[t])
                    for a, answer in enumerate(answers[t])
                    if place.segment == number and self._fits(place, answer)
                ]
                branches = tuple(_branch(plans[t][p], answers[t][a]) for _, p, a in asked)
                trees.append(Tree(segment.token_ids, branches))
                keys += asked
        rows = (row for tree in self.policy.score_trees(trees) for row in tree)
        found = dict(zip(keys, rows, strict=True))
        return [
            [
                Moment(place.turn, tuple(found.get((t, p, a), ()) for a in range(len(answers[t]))))
                for p, place in enumerate(plan)
            ]
            for t, plan in enumerate(plans)
        ]

    def value(self, env: str, prompt: Ids, task: Task, form: AnswerForm) -> float | None:
        """Probability of the likeliest gold answer right after a prompt; None if none fits."""
        place = Place(0, 0, len(prompt))
        answers = [a for a in self.answers(env, task, form) if self._fits(place, a)]
        tree = Tree(prompt, tuple(_branch(place, answer) for answer in answers))
        return answer_value(self.policy.score_trees([tree])[0])

    def answers(self, env: str, task: Task, form: AnswerForm) -> list[Answer]:
        """Every gold answer of a task as this world's policy would give it."""
        return [self.writer(env, form)(gold) for gold in golds(task)]

    def writer(self, env: str, form: AnswerForm) -> AnswerWriter:
        """Writes gold answers for a world; made once."""
        key = env, form
        if key not in self._writers:
            self._writers[key] = AnswerWriter(self.renderer, self.tools[env], form)
        return self._writers[key]

    def _fits(self, place: Place, answer: Answer) -> bool:
        return place.at + len(place.more) + answer.last <= self.policy.max_positions


def _branch(place: Place, answer: Answer) -> Branch:
    ids = place.more + answer.ids[: answer.last]
    return Branch(place.at, ids, len(place.more) + answer.first)
