"""`ChainSearch`: the tools, the scoring and the scripted players that both search worlds share."""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace

from foldgym.envs.base import ToolEnv
from foldgym.envs.chains import Chain, decide, normalise, read_fact
from foldgym.envs.index import Document, Index
from foldgym.errors import UnknownName, UserError
from foldgym.tools import call, tool
from foldgym.types import Evidence, Json, Message, Task

NOTHING = "nothing found"


class ChainSearch(ToolEnv):
    """A chain question over an index of short documents; the exact answer scores 1.

    Args:
        split: whose names are asked about: "train", "val" or "test"
        hops: exactly this many, or the weights of 1, 2, ... hops
        top_k: documents that a search shows
        stop: how likely the hasty expert gives up after a hop that is not the last
        max_turns: turns after which an episode is cut short
        stray: how likely an expert searches for something else instead
    """

    experts = ("optimal", "hasty")
    note_styles = ("fold",)
    shared = ("_index",)
    splits = ("train", "val", "test")
    most_hops = 6

    def __init__(
        self,
        split: str = "train",
        hops: int | Sequence[float] = (1, 1, 2, 2),
        *,
        top_k: int = 3,
        stop: float = 0.65,
        max_turns: int = 12,
        stray: float = 0.0,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(render_mode=render_mode)
        if split not in self.splits:
            raise UnknownName("split", split, self.splits)
        if top_k < 1 or max_turns < 1:
            raise UserError(f"top_k and max_turns must be at least 1, not {top_k} and {max_turns}")
        if not (0 <= stop <= 1 and 0 <= stray < 1):
            raise UserError(f"stop and stray are probabilities, not {stop} and {stray}")
        self.stray = stray
        self.split, self.top_k, self.stop, self.max_turns = split, top_k, stop, max_turns
        self.mix = self._mix(hops)

    def _mix(self, hops: int | Sequence[float]) -> tuple[float, ...]:
        """Weights of 1, 2, ... hops."""
        most = self.most_hops
        if isinstance(hops, int):
            hops = tuple(float(n == hops) for n in range(1, max(hops, 1) + 1))
        mix = tuple(float(weight) for weight in hops)
        if len(mix) > most or not mix or min(mix) < 0 or sum(mix) <= 0:
            raise UserError(
                f"hops must be 1 to {most}, or at most {most} weights of which one is positive, "
                f"not {hops!r}"
            )
        return mix

    # ------------------------------------------------------------ what a world brings

    @abstractmethod
    def open(self, rng: random.Random) -> tuple[Chain, Index]:
        """Make an episode: the question with its facts, and the documents to search."""

    # ------------------------------------------------------------ the episode

    def setup(self, rng: random.Random) -> Task:
        """A new question; the task carries the number that makes its world again."""
        number = rng.getrandbits(48)
        self._begin(number)
        return self._as_task(self.chain, number)

    def _as_task(self, chain: Chain, number: int, suffix: str = "", **more: Json) -> Task:
        return Task(
            f"{type(self).__name__}-{self.split}-{number:012x}{suffix}",
            (Message("user", chain.question),),
            list(chain.accepted),
            {"world": number, "split": self.split, "hops": chain.hops, **more},
        )

    def setup_task(self, task: Task, rng: random.Random) -> None:
        """Play the question of a task that an environment with the same settings made."""
        self._begin(int(task.metadata.get("world", -1)))
        if task.prompt[-1].text != self.chain.question:
            raise UserError(
                f"task {task.id!r} was not made by a {type(self).__name__} with these settings"
            )

    def _begin(self, number: int) -> None:
        self.chain, self._index = self.open(random.Random(number))
        self._seen: list[Document] = []
        self._searches: list[tuple[str, list[str]]] = []

    def documents(self) -> tuple[Document, ...]:
        """What can be searched in this episode; transforms make tasks and distractors of it."""
        return self._index.documents

    def distractions(self) -> tuple[str, ...]:
        """Texts of this world that do not help to answer."""
        needed = {fact.document.text for fact in self.chain.facts}
        return tuple(each.text for each in self._index.documents if each.text not in needed)

    @tool
    def search(self, query: str) -> str:
        """Find documents that share words with the query."""
        found = self._index.search(query, self.top_k)
        self._seen += found
        self._searches.append((query[:200], [document.text for document in found]))
        return "\n".join(document.text for document in found) or NOTHING

    @tool
    def answer(self, text: str) -> str:
        """Give the final answer."""
        right = normalise(text) in {normalise(each) for each in self.chain.accepted}
        self.finish(float(right), answer=text[:200])
        return "right" if right else "wrong"

    def measure(self) -> dict[str, Json]:
        """Adds `hops`, how many the question has, and `read`, how many the searches answered.

        And what rewards of retrieval look at: `queries`, `retrieved` (a list of documents per
        query) and `supporting`. A document's id is its sentence.
        """
        facts = super().measure()
        if self._play is not None:
            facts |= {
                "hops": self.chain.hops,
                "read": self.chain.progress(self._seen),
                "queries": [query for query, _ in self._searches],
                "retrieved": [list(documents) for _, documents in self._searches],
                "supporting": [fact.document.text for fact in self.chain.facts],
            }
        return facts

    def evidence(self) -> list[Evidence]:
        """The facts of the chain, and every other fact that a search has shown, if it is alone.

        A subject with two values of a relation (someone who visited two towns) is not asked about.
        """
        shown = [fact for each in self._seen if (fact := read_fact(each.text))]
        values: dict[tuple[str, str], set[str]] = {}
        for fact in (*self.chain.facts, *shown):
            values.setdefault((fact.relation, fact.subject), set()).add(fact.value)
        alone = [fact for fact in shown if len(values[fact.relation, fact.subject]) == 1]
        others = dict.fromkeys(fact for fact in alone if fact not in self.chain.facts)
        needed = [fact.evidence for fact in self.chain.facts]
        return [*needed, *(replace(fact.evidence, needed=False) for fact in others)]

    def expert(self, style: str, rng: random.Random) -> Message:
        """The next call: "optimal" walks to the end, "hasty" may stop after any earlier hop.

        "hasty:0.3" is a hasty player with another `stop`. "fold" writes a memory's note: the
        question reduced to what is still to be found. "judge" says whether the last search brought
        a fact of the chain.
        """
        if style == "judge":
            last = self._searches[-1][1] if self._searches else []
            helps = any(fact.document.text in last for fact in self.chain.facts)
            return call("judge", verdict="Yes" if helps else "No")
        if style == "fold":
            return Message("assistant", self.chain.reduced(self.chain.progress(self._seen)))
        name, colon, given = style.partition(":")
        if name not in self.experts or (colon and name != "hasty"):
            raise UnknownName("expert", style, self.experts, f"Asked of {type(self).__name__}.")
        stop = (float(given) if given else self.stop) if name == "hasty" else 0.0
        if self.stray and rng.random() < self.stray:
            about = rng.choice(self._index.documents).subject
            return call("search", query=f"{about} {self.chain.facts[0].relation}")
        action, text = decide(self.chain, self.chain.progress(self._seen), stop, rng)
        return call(action, **{"query" if action == "search" else "text": text})
