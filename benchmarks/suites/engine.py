"""Tokens per second of the torch engine, and of transformers `generate` without a kept cache.

`generate` computes every prompt anew. The model, the number of conversations and turns, the new
ids per turn and the end of a turn (one id in ten is a stop id, 16 ids at most) are the same for
both; one thread; both in this process and in alternation. The best of `REPEATS` counts, since
other programs only ever slow a run down; rates are given per second and per second of processor.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from foldgym.agents.engines.models import init_model
from foldgym.agents.engines.torch_engine import TorchPolicy
from foldgym.types import Ids, Prompt, Sampling

VOCAB, PAD = 420, 0
STOPS = tuple(range(10, 51))
MOST = 16
REPEATS = 3


def news(number: int, turn: int) -> Ids:
    """What the world says in one turn: a question of 20-29 ids, then 6-15 ids."""
    rng = random.Random(number * 1000 + turn)
    count = rng.randrange(6, 16) if turn else rng.randrange(20, 30)
    return tuple(rng.randrange(51, VOCAB) for _ in range(count))


def with_engine(policy: TorchPolicy, episodes: int, turns: int) -> int:
    """Play all episodes; returns how many ids were sampled."""

    async def one(number: int) -> int:
        session, ids, sampled = policy.open(number), news(number, 0), 0
        for turn in range(1, turns + 1):
            said = await session.sample(Prompt(ids), Sampling(1.0, MOST))
            sampled += len(said.ids)
            ids = ids + said.ids + news(number, turn)
        session.close()
        return sampled

    async def every() -> int:
        return sum(await asyncio.gather(*map(one, range(episodes))))

    return asyncio.run(every())


def with_generate(model: Any, episodes: int, turns: int) -> int:
    """The same with `generate`: all conversations of a turn in one left-padded batch."""
    rows = [news(number, 0) for number in range(episodes)]
    sampled = 0
    for turn in range(1, turns + 1):
        width = max(map(len, rows))
        batch = [(PAD,) * (width - len(row)) + row for row in rows]
        mask = [[0] * (width - len(row)) + [1] * len(row) for row in rows]
        output = model.generate(
            input_ids=torch.tensor(batch),
            attention_mask=torch.tensor(mask),
            max_new_tokens=MOST,
            do_sample=True,
            top_k=0,
            top_p=1.0,
            temperature=1.0,
            eos_token_id=list(STOPS),
            pad_token_id=PAD,
        )
        said = [cut(ids) for ids in output[:, width:].tolist()]
        sampled += sum(map(len, said))
        rows = [
            row + ids + news(n, turn) for n, (row, ids) in enumerate(zip(rows, said, strict=True))
        ]
    return sampled


def cut(ids: Sequence[int]) -> Ids:
    """Ids up to the first stop id, it included; what follows is padding."""
    ends = [place + 1 for place, token in enumerate(ids) if token in STOPS]
    return tuple(ids[: ends[0]] if ends else ids)


def rates(play: Callable[[], int]) -> tuple[float, float]:
    """Sampled ids per second, and per second of processor time."""
    clock, processor = time.perf_counter(), time.process_time()
    sampled = play()
    return sampled / (time.perf_counter() - clock), sampled / (time.process_time() - processor)


def run(episodes: Sequence[int] = (32, 128), turns: int = 8) -> dict[str, Any]:
    """Tokens per second by number of episodes, and the engine's share of prompt ids it kept."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    model = init_model(vocab_size=VOCAB, pad_id=PAD).eval()
    found: dict[str, Any] = {"turns": turns, "parameters": model.num_parameters(), "threads": 1}
    try:
        for count in episodes:
            rounds = TorchPolicy(model, STOPS, pad_id=PAD)
            dynamic = TorchPolicy(model, STOPS, pad_id=PAD, batching="dynamic")
            players: dict[str, Callable[[], int]] = {
                "rounds": lambda: with_engine(rounds, count, turns),  # noqa: B023
                "dynamic": lambda: with_engine(dynamic, count, turns),  # noqa: B023
                "generate": lambda: with_generate(model, count, turns),  # noqa: B023
            }
            torch.manual_seed(0)
            taken = [{name: rates(play) for name, play in players.items()} for _ in range(REPEATS)]
            best = {name: [max(one[name][i] for one in taken) for i in (0, 1)] for name in players}
            counters = rounds.counters()
            prompts = counters["reused"] + counters["prefilled"]
            found[f"{count} episodes"] = {
                "tokens_per_second": {name: round(value) for name, (value, _) in best.items()},
                "tokens_per_processor_second": {n: round(value) for n, (_, value) in best.items()},
                "ratio": round(best["rounds"][0] / best["generate"][0], 2),
                "ratios": [round(one["rounds"][0] / one["generate"][0], 2) for one in taken],
                "kept_share_of_prompts": round(counters["reused"] / prompts, 3),
            }
    finally:
        torch.set_num_threads(threads)
    return found


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
