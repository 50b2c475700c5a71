"""Run by an interpreter that has vLLM: plays with vLLM in its own process, prints what it found.

`python vllm_resident_play.py POLICY FOLDER`, with foldgym on the path.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import torch

from foldgym.agents.engines.engine import Trainee
from foldgym.agents.engines.models import load_policy, write_policy
from foldgym.agents.engines.torch_engine import TorchPolicy
from foldgym.agents.engines.vllm import vllm
from foldgym.agents.renderers import make_renderer
from foldgym.errors import EngineDown
from foldgym.types import Completion, Prompt, Sampling

HEAT = 0.7


async def live(path: str, folder: Path) -> dict[str, Any]:
    """Completions with an update in the middle, and after a rest."""
    torch.set_num_threads(1)
    saved = load_policy(path)
    renderer = make_renderer("compact", saved.tokenizer)
    policy = TorchPolicy(saved.model, renderer.stop_ids, pad_id=0)

    def write(place: Path) -> None:
        write_policy(place, saved.model, saved.tokenizer, "compact")

    def update() -> None:
        with torch.no_grad():
            saved.model.model.norm.weight += 0.3
        policy.advance()

    trainee = Trainee(policy, renderer, write, folder, HEAT, tensors=saved.model.state_dict)
    engine = vllm(trainee, colocated=True, sleep=True, kv_cache_gib=1, transfer="memory")

    async def say(seed: int, sampling: Sampling) -> Completion:
        session = engine.sampler.open(seed, None)  # pyright: ignore[reportArgumentType]
        said = await session.sample(Prompt((9, 10, 11)), sampling)
        session.close()
        return said

    def gaps(said: Completion, version: int) -> list[float]:
        """Of ids that a version sampled, against the policy as it is now."""
        [own] = policy.score([((9, 10, 11), said.ids)], HEAT)
        versions = said.versions or (said.version,) * len(said.ids)
        triples = zip(own, said.logprobs, versions, strict=True)
        return [abs(a - b) for a, b, v in triples if v == version]

    await engine.start()
    try:
        talks = [asyncio.create_task(say(n, Sampling(HEAT, 300))) for n in range(8)]
        resident: Any = engine.nodes[0].client  # pyright: ignore[reportAttributeAccessIssue]
        while not any(each.newest for each in resident._asked.copy().values()):
            await asyncio.sleep(0.01)
        update()
        written = stamps(folder)
        pushed = await engine.publish()
        silent = stamps(folder) == written
        said = await asyncio.gather(*talks)
        first = [gap for each in said for gap in gaps(each, 1)]
        await engine.rest()
        update()
        engine._push.use = "files"  # pyright: ignore[reportAttributeAccessIssue]
        rested = await engine.publish()
        again = [await say(5, Sampling(HEAT, 20)) for _ in range(2)]
        later = [gap for each in again for gap in gaps(each, 2)]
        resident._llm.llm_engine.step = broken
        try:
            down = str(await say(5, Sampling(HEAT, 20)))
        except EngineDown as problem:
            down = str(problem)
        return {
            "mixed": sum(bool(each.versions) for each in said),
            "gap": max([*first, *later]),
            "push_gap": max(pushed["push_gap_max"], rested["push_gap_max"]),
            "same": again[0].ids == again[1].ids,
            "version": again[0].version,
            "down": down,
            "silent": silent,
        }
    finally:
        await engine.stop()


def stamps(folder: Path) -> dict[str, int]:
    """When each of the served files was written."""
    return {path.name: path.stat().st_mtime_ns for path in (folder / "weights").iterdir()}


def broken() -> None:
    """A step that fails for good."""
    raise RuntimeError("out of memory")


if __name__ == "__main__":
    print(json.dumps(asyncio.run(live(sys.argv[1], Path(sys.argv[2])))))
