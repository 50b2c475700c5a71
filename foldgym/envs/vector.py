"""Many environments stepped together, in Gymnasium's `VectorEnv` API, each with its own fate.

A member that is slow costs its batch that time and no more than its budget; one that hangs, raises
or dies ends its own episode with a typed error and is replaced by a fresh environment.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, ClassVar, TypeVar, cast

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from foldgym.envs.base import Env
from foldgym.envs.registry import maker, spec
from foldgym.envs.spaces import MessageSpace, ObservationSpace
from foldgym.envs.worker import Isolation, open_worker
from foldgym.errors import Failure, UserError
from foldgym.seeding import derive_seed
from foldgym.types import Action, EnvHandle, Json, Message, Observation, Step

Result = TypeVar("Result")


class IsolatedVectorEnv(VectorEnv[tuple[Observation, ...], Sequence[Action], NDArray[Any]]):
    """`IsolatedVectorEnv([maker("foldgym/GuessNumber-v0")] * 8)`.

    `step` takes one action per member and returns tuples of observations, arrays of rewards,
    terminations and truncations, and Gymnasium's batched infos: `infos["facts"]` of the members
    whose episode ended, `infos["error"]` with the exception (`EnvTimeout`, `EnvCrashed`) of those
    that failed, whose slots are truncated with no reward. Autoreset is Gymnasium's next-step mode:
    after an ending, the member's next action is ignored and brings its new episode.

    An int `seed` gives member i the seed + i; later episodes have seeds derived from it.
    """

    metadata: ClassVar[dict[str, Any]] = {  # pyright: ignore[reportIncompatibleVariableOverride]
        "render_modes": [],
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self,
        makers: Sequence[Callable[[], Env]],
        isolation: Isolation = "thread",
        budget: float = 30.0,
    ) -> None:
        if not makers:
            raise UserError("a vector environment needs at least one member")
        self.makers = tuple(makers)
        self.isolation: Isolation = isolation
        self.budget = budget
        self.num_envs = len(self.makers)
        self.single_action_space = MessageSpace()
        self.single_observation_space = ObservationSpace()
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self._handles: list[EnvHandle | None] = [None] * self.num_envs
        self._ended = np.ones(self.num_envs, dtype=np.bool_)
        self._seeds = [0] * self.num_envs
        self._episodes = [0] * self.num_envs
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    # ------------------------------------------------------------ Gymnasium's API

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[tuple[Observation, ...], dict[str, Any]]:
        """Begin a new episode in every member; failed ones get a fresh environment."""
        if seed is None or isinstance(seed, int | np.integer):
            super().reset(seed=None if seed is None else int(seed))
            first = int(self.np_random.integers(2**62)) if seed is None else int(seed)
            seeds: list[int | None] = [first + index for index in range(self.num_envs)]
        else:
            seeds = list(seed)
        if len(seeds) != self.num_envs:
            raise UserError(f"{len(seeds)} seeds for {self.num_envs} environments")
        self._seeds = [
            int(self.np_random.integers(2**62)) if each is None else int(each) for each in seeds
        ]
        self._episodes = [0] * self.num_envs
        steps = self._together([self._begin(i, options or {}) for i in range(self.num_envs)])
        return tuple(step.observation for step in steps), self._infos(steps)

    def step(
        self, actions: Sequence[Action]
    ) -> tuple[tuple[Observation, ...], NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """Play one action per member; those whose episode had ended begin a new one instead."""
        if len(actions) != self.num_envs:
            raise UserError(f"{len(actions)} actions for {self.num_envs} environments")
        steps = self._together(
            [
                self._begin(index, {}) if self._ended[index] else self._play(index, action)
                for index, action in enumerate(actions)
            ]
        )
        terminated = np.array([step.terminated for step in steps], dtype=np.bool_)
        truncated = np.array([step.truncated for step in steps], dtype=np.bool_)
        self._ended = terminated | truncated
        rewards = np.array([step.reward for step in steps], dtype=np.float64)
        observations = tuple(step.observation for step in steps)
        return observations, rewards, terminated, truncated, self._infos(steps)

    def close_extras(self, **kwargs: Any) -> None:
        """Close every member; those that hang are abandoned or killed."""
        self._together([self._discard(index) for index in range(self.num_envs)])
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def measure(self) -> list[dict[str, Json] | None]:
        """Each member's facts now; None for one that has failed."""

        async def facts(index: int) -> dict[str, Json] | None:
            handle = self._handles[index]
            try:
                return None if handle is None else await handle.measure()
            except Failure:
                await self._discard(index)
                return None

        return self._together([facts(index) for index in range(self.num_envs)])

    # ------------------------------------------------------------ one member

    async def _begin(self, index: int, options: dict[str, Any]) -> Step:
        seed = self._seeds[index]
        if self._episodes[index]:
            seed = derive_seed(seed, "autoreset", self._episodes[index])
        self._episodes[index] += 1
        handle = self._handles[index]
        if handle is None:
            handle = open_worker(self.makers[index], self.isolation, self.budget)
            self._handles[index] = handle
        try:
            opening = await handle.reset(seed, options)
        except Failure as failure:
            return await self._failed(index, failure)
        self._ended[index] = False
        return Step(opening.task.prompt, 0.0, False, False, {"task": opening.task.id})

    async def _play(self, index: int, action: Action) -> Step:
        handle = self._handles[index]
        assert handle is not None
        try:
            step = await handle.step(cast("Message", action))  # text too: the world parses it
            if step.terminated or step.truncated:
                step.info["facts"] = await handle.measure()
        except Failure as failure:
            return await self._failed(index, failure)
        return step

    async def _failed(self, index: int, failure: Failure) -> Step:
        await self._discard(index)
        self._ended[index] = True
        said = (Message("user", f"error: {failure}"),)
        return Step(said, 0.0, False, True, {"error": failure})

    async def _discard(self, index: int) -> None:
        handle, self._handles[index] = self._handles[index], None
        if handle is not None:
            await handle.close()

    # ------------------------------------------------------------ all members

    def _together(self, work: Sequence[Coroutine[Any, Any, Result]]) -> list[Result]:
        async def gather() -> list[Result]:
            return await asyncio.gather(*work)

        return asyncio.run_coroutine_threadsafe(gather(), self._loop).result()

    def _infos(self, steps: Sequence[Step]) -> dict[str, Any]:
        infos: dict[str, Any] = {}
        for index, step in enumerate(steps):
            infos = self._add_info(infos, step.info, index)
        return infos


def create(
    *, num_envs: int, foldgym_name: str, isolation: Isolation | None = None, **kwargs: Any
) -> IsolatedVectorEnv:
    """What `gymnasium.make_vec("foldgym/GuessNumber-v0", num_envs=8)` calls."""
    kwargs.pop("max_episode_steps", None)  # environments know their own limit
    found = spec(foldgym_name)
    makers = [cast("Callable[[], Env]", maker(foldgym_name, **kwargs))] * num_envs
    return IsolatedVectorEnv(makers, isolation or found.isolation, found.budget)
