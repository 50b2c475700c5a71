"""What information gain costs: the gold answer at every turn, against one pass over the episode.

    python -m benchmarks.suites.gains

Episodes of 10 to 20 turns in the invented world, by a player that searches for what it read; the
demo's model with random weights (what it costs does not depend on them) and tokenizers trained on
such episodes. Processor seconds of one thread, in alternation, the best of `REPEATS` (`rows` once):

    forward    one pass over the episodes up to the last turn, logits at every id
    trunk      the same without the output head: nothing that reads an episode can be cheaper
    gains      every answer at every turn as `information_gain` reads them
    rows       the same with a row of its own for every answer at every turn
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from foldgym.agents.answering import moments
from foldgym.agents.engines.scoring import score
from foldgym.agents.engines.scripted import FunctionPolicy
from foldgym.agents.rollout import Limits, Rollout, rollout
from foldgym.config import SftRun, parse
from foldgym.envs import registry
from foldgym.envs.worker import open_worker
from foldgym.memory import FullHistory
from foldgym.rewards.information_gain import AnswerForm
from foldgym.rewards.outcomes import golds
from foldgym.tools import call
from foldgym.trainers.answers import AnswerReader
from foldgym.trainers.sft import new_actor
from foldgym.trainers.wiring import Actor, worlds
from foldgym.types import Budget, Ids, Message, Prompt, Request, Reward, Trajectory

WORLD = "foldgym/FictionalSearch-v0"
EPISODES, REPEATS = 8, 9
SETTINGS = {  # renderer, documents a search shows
    "compact, 3 documents": ("compact", 3),
    "chatml, 3 documents": ("chatml", 3),
    "chatml, 10 documents": ("chatml", 10),
}


def turns_of(question: str) -> int:
    """10 to 20, by the letters of the question."""
    return 10 + sum(question.encode()) % 11


def player() -> FunctionPolicy:
    """Searches for two words that it has seen, until it is time to answer."""

    def speak(prompt: Prompt, rng: random.Random) -> Message:
        words = [word for message in prompt.messages for word in message.text.split()]
        if prompt.turn + 1 >= turns_of(prompt.messages[0].text):
            return call("answer", text=rng.choice(words))
        return call("search", query=f"{rng.choice(words)} {rng.choice(words)}")

    return FunctionPolicy(speak)


def actor_of(renderer: str) -> Actor:
    text = f"""
    output = "unused"
    renderer = "{renderer}"
    [[envs]]
    name = "{WORLD}"
    isolation = "inline"
    [model]
    max_positions = 4096
    [tokenizer]
    vocab_size = 420
    episodes = 500
    """
    run = parse(SftRun, text)
    return new_actor(run, worlds(run.envs))


def played(actor: Actor, top_k: int) -> list[Trajectory]:
    how = Rollout(actor.renderer, FullHistory, budget=Budget(4096, 0), limits=Limits(max_turns=20))
    groups = asyncio.run(
        rollout(
            [Request(WORLD, seed) for seed in range(EPISODES)],
            lambda request: open_worker(
                registry.maker(WORLD, hops=3, top_k=top_k, max_turns=20), "inline", 30.0
            ),
            player(),
            how,
            0,
            lambda trajectory: Reward(0.0, 0.0),
        )
    )
    return [trajectory for group in groups for trajectory in group.trajectories]


def best(jobs: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Processor seconds of each job, in alternation."""
    found: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(repeats):
        for name, job in jobs.items():
            started = time.process_time()
            job()
            found[name].append(time.process_time() - started)
    return {name: min(seconds) for name, seconds in found.items()}


def in_batches(trunks: Sequence[Ids]) -> list[list[Ids]]:
    """Of like length together, no more ids at a time than the branches' own passes take."""
    found: list[list[Ids]] = []
    for trunk in sorted(trunks, key=len, reverse=True):
        if not found or len(found[-1][0]) * (len(found[-1]) + 1) > 1 << 14:
            found.append([])
        found[-1].append(trunk)
    return found


def padded(trunks: Sequence[Ids]) -> torch.Tensor:
    return torch.tensor([trunk + (0,) * (len(trunks[0]) - len(trunk)) for trunk in trunks])


def measure(renderer: str, top_k: int, repeats: int) -> dict[str, float]:
    actor = actor_of(renderer)
    trajectories = played(actor, top_k)
    form = AnswerForm()
    reader = AnswerReader(actor.policy, actor.renderer, {WORLD: registry.make(WORLD).tools})
    places = [moments(trajectory) for trajectory in trajectories]
    trunks = [
        trajectory.segments[0].token_ids[: plan[-1].at]
        for trajectory, plan in zip(trajectories, places, strict=True)
    ]
    batches = [padded(some) for some in in_batches(trunks)]
    model = actor.policy.model
    pairs: list[tuple[Any, Any]] = []
    for trajectory, plan in zip(trajectories, places, strict=True):
        for place in plan:
            for gold in golds(trajectory.task):
                answer = reader.writer(WORLD, form)(gold)
                shown = trajectory.segments[0].token_ids[: place.at]
                ids = answer.ids[: answer.last]
                pairs.append((shown + ids[: answer.first], ids[answer.first :]))

    @torch.no_grad()
    def forward() -> Any:
        return [model(input_ids=ids_BT, use_cache=False).logits for ids_BT in batches]

    @torch.no_grad()
    def trunk() -> Any:
        return [model.base_model(input_ids=ids_BT, use_cache=False) for ids_BT in batches]

    def gains() -> Sequence[Any]:
        return reader.read(trajectories, form)

    def rows() -> Sequence[Any]:
        return score(model, pairs, 0)

    seconds = best({"forward": forward, "trunk": trunk, "gains": gains}, repeats)
    started = time.process_time()  # once: it takes long, and a few per cent do not matter
    alone = [value for row in rows() for value in row]
    seconds["rows"] = time.process_time() - started
    shared = [x for read in gains() for moment in read for row in moment.answers for x in row]
    gap = max(abs(one - other) for one, other in zip(shared, alone, strict=True))
    answer = reader.writer(WORLD, form)(golds(trajectories[0].task)[0])
    return {
        "turns, least": min(map(len, places)),
        "turns, most": max(map(len, places)),
        "ids an episode": sum(map(len, trunks)) / len(trunks),
        "ids an answer": answer.last,
        "milliseconds forward": 1000 * seconds["forward"],
        "gains / forward": seconds["gains"] / seconds["forward"],
        "gains / trunk": seconds["gains"] / seconds["trunk"],
        "rows / forward": seconds["rows"] / seconds["forward"],
        "largest difference in log p": gap,
    }


def run(repeats: int = REPEATS) -> dict[str, Any]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return {
            name: {key: float(f"{value:.4g}") for key, value in measure(*setting, repeats).items()}
            for name, setting in SETTINGS.items()
        }
    finally:
        torch.set_num_threads(threads)


if __name__ == "__main__":
    print(json.dumps(run(), indent=1))
