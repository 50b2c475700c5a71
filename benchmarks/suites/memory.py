"""What every memory costs on one long episode, and what keeping keys and values saves.

A player reads ten gauges in turn for 200 turns; all answers are equally long, and of five in a row
two are errors. Where a memory has tools of its own, every eighth turn is a call of one. Notes are
fixed texts. Tokens are bytes. Folds are due at 1024 tokens; nothing else limits a context.

Then a small model plays 200 turns under the memory that only appends, once with keys and values
kept from turn to turn and once computing every prompt anew.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median
from typing import Any

import foldgym
from foldgym.agents.renderers import CompactRenderer
from foldgym.agents.rollout import Limits, Rollout, rollout
from foldgym.envs.worker import open_worker
from foldgym.memory import MEMORIES
from foldgym.memory.deepagent import ASKED
from foldgym.testing.doubles import ByteTokenizer
from foldgym.tools import call
from foldgym.types import (
    Budget,
    Completion,
    EnvHandle,
    Message,
    Policy,
    Prompt,
    Request,
    Reward,
    Sampling,
    Session,
    Trajectory,
)

DOCS = Path(__file__).resolve().parents[2] / "docs"
TURNS, CHORE, SOFT, ROOM = 200, 8, 1024, 1 << 20
RENDERER = CompactRenderer(ByteTokenizer())
OPTIONS: Mapping[str, Mapping[str, Any]] = {"deepagent": {"max_folds": TURNS}}
"""For the others what they do by default is what is measured."""
NOTES = "gauge 3 reads 417, gauge 4 reads 082."
DEEP = {
    "episode": {"task_description": "watch", "key_events": [], "current_progress": NOTES},
    "working": {"immediate_goal": "go on", "current_challenges": "", "next_actions": []},
    "tool": {"tools_used": [], "derived_rules": ["look again when a gauge is busy"]},
}


class Gauges(foldgym.ToolEnv):
    """Ten gauges; of five looks in a row two are errors."""

    def setup(self, rng: random.Random) -> str:
        return "Watch the gauges."

    @foldgym.tool
    def look(self, gauge: int) -> str:
        """Read a gauge."""
        if self.turn % 5 > 2:
            return f"error: gauge {gauge} is busy"
        return f"gauge {gauge} now reads: {self.turn * 7 % 1000:03d}"

    def respond(self, message: Message) -> str:
        return "error: look at a gauge"


@dataclass(slots=True)
class Watcher:
    """A policy that looks at one gauge after the other, and now and then minds its memory."""

    version: int = 0

    def open(self, seed: int, env: EnvHandle) -> Session:
        return _Watching()


@dataclass(slots=True)
class _Watching:
    turn: int = 0

    async def sample(self, prompt: Prompt, sampling: Sampling) -> Completion:
        if prompt.purpose != "act":
            return Completion(message=Message("assistant", written(prompt)))
        self.turn += 1
        own = chore(prompt, self.turn) if self.turn % CHORE == 0 else None
        return Completion(message=own or call("look", gauge=self.turn % 10))

    def close(self) -> None:
        """Nothing is held."""


def written(prompt: Prompt) -> str:
    """Notes of a fixed text, in the form that was asked for."""
    asked = prompt.messages[-1].text
    for kind, instruction in ASKED.items():
        if asked.startswith(instruction):
            return json.dumps(DEEP[kind])
    return f"<cheatsheet>\n{NOTES}\n</cheatsheet>" if "<cheatsheet>" in asked else NOTES


def chore(prompt: Prompt, turn: int) -> Message | None:
    """A call of the memory's own tools, if it has one for this; all that has an id is pruned."""
    names = {tool.name for tool in prompt.tools}
    labels = [m[1] for m in (re.fullmatch(r"\[id (\d+)\]", x.text) for x in prompt.messages) if m]
    if "prune_context" in names and labels:
        return call("prune_context", memory=NOTES, ids=labels)
    if "note" in names:
        return call("note", text=NOTES)
    if "subgoal" in names:
        return call("subgoal", text=f"gauge {turn % 10}")
    if "memory_put" in names:
        return call("memory_put", key=f"gauge {turn % 10}", text=NOTES)
    return call("memory_add", text=NOTES) if "memory_add" in names else None


def played(name: str, policy: Policy, turns: int = TURNS, tokens: int = 64) -> Trajectory:
    """One episode under the memory of this name."""
    how = Rollout(
        RENDERER,
        lambda: MEMORIES[name](**OPTIONS.get(name, {})),
        Sampling(max_tokens=tokens),
        Budget(ROOM, 64, SOFT / ROOM),
        Limits(turns, math.inf, turns + 1),
    )
    open_env = lambda request: open_worker(Gauges, "inline", 60.0)  # noqa: E731
    (group,) = asyncio.run(
        rollout([Request("gauges", 0)], open_env, policy, how, 0, lambda t: Reward(0.0, 0.0))
    )
    if group.failures:
        raise RuntimeError(group.failures[0].error)
    return group.trajectories[0]


def cost(trajectory: Trajectory) -> dict[str, Any]:
    """Tokens of an episode, and how its contexts grew."""
    counted = trajectory.counters
    contexts = [turn.prompt_tokens for turn in trajectory.turns if turn.purpose == "act"]
    early, late = halves(contexts)
    return {
        "prompt_tokens": int(counted["prompt_tokens"]),
        "computed_tokens": int(counted["prompt_tokens"] - counted["reused_tokens"]),
        "context_peak": int(counted["context_peak"]),
        "segments": int(counted["segments"]),
        "segment_tokens": int(counted["segment_tokens"]),
        "rewrite_ratio": round(counted["rewrite_ratio"], 2),
        "shortenings": int(counted.get("shortenings", 0)),
        "growth": round(fmean(late) / fmean(early), 2),
        "constant": stays(contexts),
        "contexts": contexts,
    }


def halves(contexts: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
    return contexts[: len(contexts) // 2], contexts[len(contexts) // 2 :]


def stays(contexts: Sequence[int]) -> bool:
    """Whether the largest context of the second half is that of the first, to within a turn."""
    early, late = halves(contexts)
    turn = max(b - a for a, b in pairwise(contexts))
    return max(late) <= max(early) + turn


# ---------------------------------------------------------------- seconds a turn


@dataclass(slots=True)
class Clocked:
    """A policy whose turns are timed, from one call to the next; `anew` keeps nothing between."""

    inner: Policy
    anew: bool
    moments: list[float] = field(default_factory=list[float])
    version: int = 0

    def open(self, seed: int, env: EnvHandle) -> Session:
        return _Clocked(self, seed, env, self.inner.open(seed, env))


@dataclass(slots=True)
class _Clocked:
    policy: Clocked
    seed: int
    env: EnvHandle
    inner: Session

    async def sample(self, prompt: Prompt, sampling: Sampling) -> Completion:
        self.policy.moments.append(time.perf_counter())
        if self.policy.anew and prompt.turn:
            self.inner.close()
            self.inner = self.policy.inner.open(self.seed + prompt.turn, self.env)
        return await self.inner.sample(prompt, sampling)

    def close(self) -> None:
        self.inner.close()


def seconds(
    batching: Any, turns: int = TURNS, window: int = 20, repeats: int = 3
) -> dict[str, Any]:
    """Milliseconds of the first and last `window` turns, with and without kept keys and values.

    The two alternate; the least of each figure counts, since others' programs only slow a run.
    """
    import torch

    from foldgym.agents.engines.models import init_model
    from foldgym.agents.engines.torch_engine import TorchPolicy

    torch.set_num_threads(1)
    size = ByteTokenizer().vocab_size
    model = init_model(vocab_size=size, hidden=64, heads=2, mlp=128, max_positions=64 * turns)
    taken: dict[str, list[tuple[float, float]]] = {"kept": [], "anew": []}
    tokens: dict[str, tuple[int, int]] = {}
    for _ in range(repeats):
        for name in taken:
            engine = TorchPolicy(model, RENDERER.stop_ids, pad_id=0, batching=batching)
            policy = Clocked(engine, name == "anew")
            trajectory = played("full", policy, turns + 1, tokens=8)
            assert trajectory.counters["segments"] == 1
            spans = [b - a for a, b in pairwise(policy.moments)]
            taken[name].append((median(spans[1 : window + 1]), median(spans[-window:])))
            counters = engine.counters()
            tokens[name] = int(counters["prefilled"]), int(counters["reused"])
    found: dict[str, Any] = {"turns": turns, "parameters": model.num_parameters(), "threads": 1}
    for name, spans in taken.items():
        early, late = (min(each[side] for each in spans) for side in (0, 1))
        found[name] = {
            "milliseconds_early": round(1000 * early, 2),
            "milliseconds_late": round(1000 * late, 2),
            "late_over_early": round(late / early, 2),
            "computed_tokens": tokens[name][0],
            "kept_tokens": tokens[name][1],
        }
    return found


# ---------------------------------------------------------------- everything


def run() -> dict[str, Any]:
    """Costs by memory, seconds by batching; the figure too."""
    found = {name: cost(played(name, Watcher())) for name in MEMORIES}
    plot({name: each.pop("contexts") for name, each in found.items()})
    timed = {batching: seconds(batching) for batching in ("rounds", "dynamic")}
    return {"turns": TURNS, "soft_limit": SOFT, "memories": found, "seconds_a_turn": timed}


def plot(
    contexts: Mapping[str, Sequence[int]], path: Path = DOCS / "figures" / "memory_cost.svg"
) -> None:
    """The context of every turn, by memory; the ones that grow and the ones that do not."""
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams.update({"svg.hashsalt": "foldgym", "svg.fonttype": "none"})
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    for axes, constant in zip(figure.subplots(1, 2), (False, True), strict=True):
        shown: dict[tuple[int, ...], list[str]] = {}
        for name, values in contexts.items():
            if stays(values) == constant:
                shown.setdefault(tuple(values), []).append(name)
        for values, names in shown.items():
            axes.plot(range(1, len(values) + 1), values, label=", ".join(names), linewidth=1.2)
        axes.set_title("contexts that stay" if constant else "contexts that grow", loc="left")
        highest = max(max(values) for values in shown)
        axes.set(xlabel="turn", ylabel="prompt tokens", ylim=(0, 1.25 * highest))
        axes.legend(fontsize="small", frameon=False, loc="upper left", ncols=3 if constant else 1)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
