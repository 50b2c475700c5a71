"""Every memory, renderer and policy that ships keeps its contract; broken ones are found out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from chats import FAMILIES

from foldgym.agents.engines.models import init_model
from foldgym.agents.engines.scripted import ExpertPolicy, random_policy, silent_policy
from foldgym.agents.engines.torch_engine import TorchPolicy
from foldgym.agents.renderers import RENDERERS, CompactRenderer, make_renderer
from foldgym.memory import MEMORIES, FullHistory, SlidingWindow
from foldgym.memory.views import task_of
from foldgym.testing.agents import check_memory, check_policy, check_renderer
from foldgym.testing.doubles import ByteTokenizer, HashPolicy
from foldgym.types import Log, Message, Policy, Ref, View


def torch_policy(batching: str) -> Policy:
    torch.set_num_threads(1)
    tokens = ByteTokenizer()
    model = init_model(vocab_size=tokens.vocab_size, hidden=32, layers=1, heads=2, mlp=32)
    return TorchPolicy(model, CompactRenderer(tokens).stop_ids, pad_id=0, batching=batching)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", sorted(MEMORIES))
def test_memories_keep_their_contract(name: str) -> None:
    assert check_memory(MEMORIES[name]) == []


@pytest.mark.parametrize("name", ["compact", "chatml"])
def test_renderers_keep_their_contract(name: str) -> None:
    assert check_renderer(make_renderer(name, ByteTokenizer())) == []


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_renderers_of_published_templates_keep_their_contract(name: str) -> None:
    family = FAMILIES[name]
    assert check_renderer(family.make()) == []
    plain = ByteTokenizer((*family.specials, *family.words))
    assert check_renderer(make_renderer(family.renderer, plain, **family.options)) == []


def test_every_renderer_is_checked() -> None:
    assert {*(family.renderer for family in FAMILIES.values()), "compact", "chatml"} == {*RENDERERS}


@pytest.mark.parametrize(
    "make",
    [
        ExpertPolicy,
        random_policy,
        silent_policy,
        lambda: HashPolicy(CompactRenderer(ByteTokenizer())),
        lambda: torch_policy("rounds"),
        lambda: torch_policy("dynamic"),
    ],
    ids=["expert", "random", "silent", "hash", "torch rounds", "torch dynamic"],
)
def test_policies_keep_their_contract(make: Callable[[], Policy]) -> None:
    assert check_policy(make(), CompactRenderer(ByteTokenizer())) == []


class Forgetful(SlidingWindow):
    rewrites = False


class Orphaning(FullHistory):
    rewrites = True

    def view(self, log: Log, state: object) -> View:
        heard = tuple(Ref(event.id) for event in log if event.kind == "observation")
        return View((*task_of(log), *heard))


class Fickle(FullHistory):
    rewrites = True
    asked = 0

    def view(self, log: Log, state: object) -> View:
        self.asked += 1
        full = super().view(log, state)
        return full if self.asked % 2 else View(full.items[:1])


class Counting(FullHistory):
    """Shows how often it was told of anything in this process, not only in this episode."""

    rewrites = True
    told = 0

    async def on(self, boundary: Any, log: Log, state: Any, ask: Any) -> Any:
        Counting.told += 1
        return Counting.told

    def view(self, log: Log, state: Any) -> View:
        full = super().view(log, state)
        return View(full.items[:1]) if (state or 0) % 3 else full


class Whimsical(Counting):
    """Asks now and then, by a count of its own."""

    async def on(self, boundary: Any, log: Log, state: Any, ask: Any) -> Any:
        if await super().on(boundary, log, state, ask) % 3 == 0:
            await ask("whim", View(task_of(log)), 5)
        return None


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: Forgetful(1), "rewrites = False"),
        (Counting, "told the same log, the view differs"),
        (Whimsical, "other questions are asked"),
        (Orphaning, "without the call it answers"),
        (Fickle, "not pure"),
    ],
)
def test_a_memory_that_breaks_a_promise_is_found_out(make: Callable[[], Any], what: str) -> None:
    assert any(what in str(finding) for finding in check_memory(make))


class Blurting(CompactRenderer):
    """Forgets to end what it says."""

    def say(self, message: Message, tools: Any) -> tuple[int, ...]:
        return super().say(message, tools)[:-1]


def test_a_renderer_that_breaks_a_promise_is_found_out() -> None:
    findings = check_renderer(Blurting(ByteTokenizer()))
    assert any("stop id" in str(finding) for finding in findings)


def test_a_policy_that_ignores_its_seed_is_found_out() -> None:
    class Moody(HashPolicy):
        def open(self, seed: int, env: Any) -> Any:
            self.version += 1
            return super().open(seed + self.version, env)

    findings = check_policy(
        Moody(CompactRenderer(ByteTokenizer())), CompactRenderer(ByteTokenizer())
    )
    assert any("one seed" in str(finding) for finding in findings)
