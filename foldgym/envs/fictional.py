"""`FictionalSearch`: chains of questions about a world that was invented for the episode."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from foldgym.envs.chain_search import ChainSearch
from foldgym.envs.chains import Chain, draw_hops
from foldgym.envs.fictional_world import SPLITS, Size, World, ask, cached_world, follow
from foldgym.envs.index import Index
from foldgym.errors import UserError
from foldgym.seeding import generator
from foldgym.types import Json, Task


class FictionalSearch(ChainSearch):
    """Who rules the region of the home of tusmol? Search documents of an invented world.

    Every episode has new people, towns, companies, regions and guilds; names of different splits
    never meet, so nothing can be remembered and everything must be read.

    Args:
        people: how many people live in a world; the other kinds keep their numbers
        distractors: sentences that answer nothing
    """

    splits = SPLITS

    def __init__(
        self,
        split: str = "train",
        hops: int | Sequence[float] = (1, 1, 2, 2),
        *,
        people: int = 32,
        distractors: int = 0,
        top_k: int = 3,
        stop: float = 0.65,
        max_turns: int = 12,
        stray: float = 0.0,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(
            split,
            hops,
            top_k=top_k,
            stop=stop,
            max_turns=max_turns,
            stray=stray,
            render_mode=render_mode,
        )
        if not 1 <= people <= 1000 or distractors < 0:
            raise UserError(
                f"a world holds 1 to 1000 people and no negative number of distractors, "
                f"not {people} and {distractors}"
            )
        self._size, self._distractors = replace(Size(), person=people), distractors

    def open(self, rng: random.Random) -> tuple[Chain, Index]:
        """A new world and a question about it."""
        world = self._drawn(rng)
        return ask(world, draw_hops(self.mix, rng), rng), world.index

    def _drawn(self, rng: random.Random) -> World:
        return cached_world(self.split, self._size, self._distractors, rng.getrandbits(48))

    def siblings(self, seed: int, n: int, linked: bool = False) -> list[Task]:
        """`n` tasks about the world of `reset(seed)`, whose own task is the first.

        With `linked`, each later one starts from the answer to the one before; its
        `metadata["key"]` is that name. They are played with the reset option `task`.
        """
        number = generator(seed, "setup").getrandbits(48)  # as `reset` and `setup` draw it
        rng = random.Random(number)
        world = self._drawn(rng)
        chain = ask(world, draw_hops(self.mix, rng), rng)
        tasks = [self._as_task(chain, number)]
        rng = generator(number, "siblings")
        for place in range(1, n):
            start = chain.facts[-1].value if linked else ""
            chain = ask(world, draw_hops(self.mix, rng), rng, start)
            path = [fact.relation for fact in chain.facts]
            about: dict[str, Json] = {"subject": chain.facts[0].subject, "path": path}
            tasks.append(self._as_task(chain, number, f"-{place}", **about, key=start))
        return tasks

    def setup_task(self, task: Task, rng: random.Random) -> None:
        """Also plays what `siblings` made."""
        if "path" in task.metadata:
            number = int(task.metadata["world"])
            self._begin(number)
            world = self._drawn(random.Random(number))
            self.chain = follow(world, task.metadata["subject"], task.metadata["path"])
        else:
            super().setup_task(task, rng)
