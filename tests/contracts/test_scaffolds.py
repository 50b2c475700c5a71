"""Every scaffold that ships keeps the contract, and the check finds those that do not."""

from __future__ import annotations

import random
from itertools import count

import pytest

from foldgym.agents.scaffolds import SCAFFOLDS
from foldgym.agents.stage import Stage
from foldgym.config import resolve
from foldgym.testing.scaffolds import check_scaffold
from foldgym.types import Completion, Message, Stop


@pytest.mark.parametrize("name", sorted(SCAFFOLDS))
def test_shipped_scaffolds(name: str) -> None:
    assert check_scaffold(resolve("scaffold", name, SCAFFOLDS), seeds=range(4)) == []


class Base:
    roles = ("main",)

    async def run(self, stage: Stage) -> Stop:
        talk = await stage.lineage("main", memory=stage.memory())
        await self.begin(stage)
        return await stage.converse(talk)

    async def begin(self, stage: Stage) -> None:
        pass


def complaint(make: type[Base]) -> str:
    found = check_scaffold(make, seeds=[0])
    assert found
    return str(found[0])


def test_a_role_that_is_not_named() -> None:
    class Secret(Base):
        async def begin(self, stage: Stage) -> None:
            await (await stage.lineage("spy")).aside("spy", "well?", 5)

    assert "the role 'spy' spoke, but `roles` names only main" in complaint(Secret)


def test_chance_from_elsewhere() -> None:
    rolls = count()

    class Dice(Base):
        async def begin(self, stage: Stage) -> None:
            stage.talks[0].show(Message("user", f"{next(rolls)} {random.Random(1).random()}"))

    assert "played twice with one seed it differs" in complaint(Dice)


def test_tokens_that_are_never_recorded() -> None:
    class Whisper(Base):
        async def begin(self, stage: Stage) -> None:
            talk = stage.talks[0]
            prompt = await talk.prompt()
            assert prompt is not None
            said: Completion = await stage.cast.sample("main", "policy", prompt, stage.sampling)
            assert said.ids

    assert "ids were sampled but" in complaint(Whisper)
