"""A world with something around it: how a scaffold answers in the world's place."""

from __future__ import annotations

from collections.abc import Mapping

from foldgym.types import Action, EnvHandle, Evidence, Json, Message, Observation, Opening, Step


class Around:
    """Passes everything on to `inner`; a subclass changes what it needs to."""

    def __init__(self, inner: EnvHandle) -> None:
        self.inner = inner

    async def reset(self, seed: int, options: Mapping[str, Json]) -> Opening:
        """Passed on."""
        return await self.inner.reset(seed, options)

    async def step(self, action: Message) -> Step:
        """Passed on."""
        return await self.inner.step(action)

    async def expert(self, style: str, seed: int) -> Action:
        """Passed on."""
        return await self.inner.expert(style, seed)

    async def measure(self) -> dict[str, Json]:
        """Passed on."""
        return await self.inner.measure()

    async def evidence(self) -> tuple[Evidence, ...]:
        """Passed on."""
        return await self.inner.evidence()

    async def close(self) -> None:
        """Passed on."""
        await self.inner.close()


def unheard(*replies: Message) -> Step:
    """The answer to an action that never reached the world."""
    return Step(replies, 0.0, False, False, {})


def heard_first(replies: Observation, step: Step) -> Step:
    """The world's answer behind replies of ours."""
    return step._replace(observation=(*replies, *step.observation))
