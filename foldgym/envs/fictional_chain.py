"""`FictionalChain`: linked questions, one after the other, and a report of all the answers."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from foldgym.envs.base import ToolEnv
from foldgym.envs.chain_search import NOTHING
from foldgym.envs.chains import Fact, draw_hops, normalise
from foldgym.envs.fictional_world import RELATIONS, SPLITS, Size, World, cached_world
from foldgym.envs.index import words
from foldgym.errors import UnknownName, UserError
from foldgym.tools import call, parse_action, tool
from foldgym.types import Action, Evidence, Json, Message, Step, Task

MOST = 12
"""Questions of an episode."""


class FictionalChain(ToolEnv):
    """What is the home of tusmol? And its region? Now name all you found, in order.

    Each question is about the answer before it, which it does not name: the right search brings up
    the answer and the next question. What was found first is asked for last, in the report, and
    nothing but the agent's own record of it can tell: a message is one call and nothing else, a
    search takes one name and one relation, and without `spare` turns none is left to look again.
    So a context that lost a name has lost it for good (docs/memory_chain.md).

    An answer counts half when it is found and half when it stands in its place in the report.

    Args:
        split: whose names are asked about: "train", "val" or "test"
        questions: exactly this many, or the weights of 1, 2, ... questions
        spare: turns beyond one a question and the report
        people: how many people live in a world
        top_k: documents that a search shows
        stop: how likely the hasty expert forgets an answer in its report
    """

    experts = ("optimal", "hasty")
    note_styles = ("fold",)
    shared = ("_world",)

    def __init__(
        self,
        split: str = "train",
        questions: int | Sequence[float] = (0, 0, 0, 1, 1, 1),
        *,
        spare: int = 0,
        people: int = 32,
        top_k: int = 1,
        stop: float = 0.2,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(render_mode=render_mode)
        if split not in SPLITS:
            raise UnknownName("split", split, SPLITS)
        if spare < 0 or top_k < 1 or not 1 <= people <= 1000 or not 0 <= stop <= 1:
            raise UserError(
                f"spare is at least 0, top_k at least 1, people 1 to 1000 and stop from 0 to 1, "
                f"not {spare}, {top_k}, {people} and {stop}"
            )
        if isinstance(questions, int):
            questions = tuple(float(n == questions) for n in range(1, max(questions, 1) + 1))
        self.mix = tuple(float(weight) for weight in questions)
        if not 1 <= len(self.mix) <= MOST or min(self.mix) < 0 or sum(self.mix) <= 0:
            raise UserError(
                f"questions must be 1 to {MOST}, or at most {MOST} weights of which one is "
                f"positive, not {questions!r}"
            )
        self.split, self.spare, self.top_k, self.stop = split, spare, top_k, stop
        self._size = replace(Size(), person=people)

    # ------------------------------------------------------------ the episode

    def setup(self, rng: random.Random) -> Task:
        """A new world and a walk through it; the task carries the number that makes it again."""
        number = rng.getrandbits(48)
        self._begin(number)
        return Task(
            f"{type(self).__name__}-{self.split}-{number:012x}",
            (Message("user", self._opening),),
            [fact.value for fact in self.facts],
            {"world": number, "split": self.split, "questions": len(self.facts)},
        )

    def setup_task(self, task: Task, rng: random.Random) -> None:
        """Play the questions of a task that an environment with the same settings made."""
        self._begin(int(task.metadata.get("world", -1)))
        if task.answer != [fact.value for fact in self.facts]:
            raise UserError(
                f"task {task.id!r} was not made by a {type(self).__name__} with these settings"
            )

    def _begin(self, number: int) -> None:
        rng = random.Random(number)
        self._world = cached_world(self.split, self._size, 0, rng.getrandbits(48))
        self.facts = walk(self._world, draw_hops(self.mix, rng), rng)
        self.found = 0
        self.max_turns = len(self.facts) + 1 + self.spare

    @property
    def _opening(self) -> str:
        first = self.facts[0]
        return f"{len(self.facts)} questions . what is the {first.relation} of {first.subject} ?"

    @property
    def _asked(self) -> str:
        """The question at hand, or the call for the report."""
        if self.found == len(self.facts):
            return "report all answers"
        if self.found == 0:
            return self._opening
        return f"what is its {self.facts[self.found].relation} ?"

    def step(self, action: Action) -> Step:
        """One call a message: text beside it, or a second call, is refused and costs the turn."""
        said = parse_action(action, self.tools).message if isinstance(action, str) else action
        if len(said.tool_calls) > 1 or (said.tool_calls and (said.text + said.thinking).strip()):
            return super().step(Message("assistant"))
        return super().step(action)

    def respond(self, message: Message) -> str:
        """The reply to a message that is not one call alone."""
        return "error: a message is one call and nothing else"

    @tool
    def search(self, query: str) -> str:
        """Find documents about one name and one relation.

        Args:
            query: a name and a relation, such as "tusmol home"
        """
        asked = query.split()
        if len(asked) != 2 or asked != words(query) or sum(w in RELATIONS for w in asked) != 1:
            return "error: a query is one name and one relation"
        shown = [document.text for document in self._world.index.search(query, self.top_k)]
        if self.found < len(self.facts) and self.facts[self.found].document.text in shown:
            self.found += 1
            self.reward(self._worth)
        return "\n".join((*(shown or [NOTHING]), self._asked))

    @tool
    def report(self, names: str) -> str:
        """End with all answers, the first one first.

        Args:
            names: the answers, with blanks between
        """
        said = [normalise(word) for word in words(names)]
        right = sum(
            here == normalise(fact.value) for here, fact in zip(said, self.facts, strict=False)
        )
        right = right if len(said) <= len(self.facts) else 0
        whole = self.found == right == len(self.facts)
        score = 1.0 if whole else (self.found + right) * self._worth
        self.finish(score, reward=right * self._worth, success=whole, reported=right)
        return f"{right} of {len(self.facts)} right"

    @property
    def _worth(self) -> float:
        return 0.5 / len(self.facts)

    def grade(self) -> float:
        """Half of the share of answers that were found: the other half is reported."""
        return self.found * self._worth if self._play is not None else 0.0

    def measure(self) -> dict[str, Json]:
        """Adds the number of `questions`, and how many answers were `found` and `reported`."""
        facts = super().measure()
        if self._play is not None:
            facts |= {"questions": len(self.facts), "found": self.found}
        return {"reported": 0, **facts}

    def evidence(self) -> list[Evidence]:
        """The facts that answer the questions, in their order."""
        return [fact.evidence for fact in self.facts]

    # ------------------------------------------------------------ the scripted player

    def expert(self, style: str, rng: random.Random) -> Action:
        """The next call: "optimal" searches and reports; "hasty" may forget some of its answers.

        "fold" is no player: it is the note that a memory is given (`foldgym.types.Ask`).
        """
        if style == "fold":
            return Message("assistant", self._note())
        if style not in self.experts:
            return super().expert(style, rng)
        if self.found < len(self.facts):
            return call("search", query=self.facts[self.found].query)
        names = [fact.value for fact in self.facts]
        if style == "hasty":
            names = [name for name in names if rng.random() >= self.stop]
        return call("report", names=" ".join(names))

    def _note(self) -> str:
        """All answers so far, and the question at hand."""
        found = " ".join(fact.value for fact in self.facts[: self.found])
        return f"{found} . {self._asked}" if found else self._asked


def walk(world: World, steps: int, rng: random.Random) -> tuple[Fact, ...]:
    """Facts that lead from one to the next, no entity met twice.

    A walk that has come to a name it met before starts anew elsewhere, so every world that has
    people enough has one.
    """
    while True:
        relation = rng.choice(tuple(RELATIONS))
        subject = rng.choice(world.members[RELATIONS[relation][0]])
        facts, met = [world.facts[relation, subject]], {subject}
        while len(facts) < steps and facts[-1].value not in met:
            here = facts[-1].value
            met.add(here)
            kind = RELATIONS[facts[-1].relation][1]
            following = [name for name, (start, _) in RELATIONS.items() if start == kind]
            facts.append(world.facts[rng.choice(following), here])
        if len(facts) == steps and facts[-1].value not in met:
            return tuple(facts)
