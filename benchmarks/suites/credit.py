"""Delayed rewards over many turns: which estimator, and which curriculum, learns faster.

    python -m benchmarks.suites.credit              # about five minutes on one core
    python -m benchmarks.suites.credit --quick      # a smoke test

Three seeded worlds, a softmax policy with one row of logits per observation, Adam, and equal
numbers of environment steps. Everything in between is the library's own: trajectories, groups, the
registry of advantages, the batch with its weights, and the samplers. What is measured is credit,
not a model.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from foldgym.seeding import derive_seed, generator
from foldgym.trainers.advantages import ADVANTAGES, estimate
from foldgym.trainers.batch import make_batch
from foldgym.trainers.samplers import curriculum
from foldgym.types import (
    Group,
    Message,
    Request,
    Reward,
    Segment,
    Stop,
    Task,
    Trajectory,
    Turn,
)

DOCS = Path(__file__).parents[2] / "docs"
RESULTS = Path(__file__).parents[1] / "results" / "credit.json"
SEEDS, GROUPS, SIZE, RATE, EVALS = 5, 4, 8, 0.1, 10
BUDGET = 40000  # environment steps of a run
ROWS = 1024  # observations a policy can tell apart
T95 = 2.776  # Student's t, 4 degrees of freedom

# ---------------------------------------------------------------- three worlds


@dataclass
class Play:
    """An episode in progress: `at` is the world's own state."""

    at: list[Any]
    text: str
    answer: int  # the call that ends it well, for IGPO's information gain
    score: float = 0.0
    done: bool = False


class KeyDoor:
    """A corridor: walk to the key at one end, take it, carry it to the door at the other."""

    name, actions, level, levels = (
        "key and door",
        ("left", "right", "take", "open"),
        5,
        (3, 4, 5, 6, 7),
    )

    def limit(self, level: int) -> int:
        return 4 * level

    def start(self, seed: int, level: int) -> Play:
        left = generator(seed, "key").random() < 0.5
        return self._seen(Play([level // 2, False, 0 if left else level - 1, level], "", 3))

    def step(self, play: Play, action: int) -> None:
        place, has, key, level = play.at
        if action < 2:
            place = min(level - 1, max(0, place + (1 if action else -1)))
        elif action == 2:
            has = has or place == key
        elif has and place == level - 1 - key:
            play.score, play.done = 1.0, True
        play.at[:2] = place, has
        self._seen(play)

    def _seen(self, play: Play) -> Play:
        place, has, key, level = play.at
        side = "left" if key == 0 else "right"
        play.text = (
            f"room {place} of {level}, the key was {side}, {'you have it' if has else 'not yet'}"
        )
        return play


class TrappedChain:
    """Tools in the right order; one tool ends the episode at once, for a small reward."""

    name = "tool chain with a trap"
    actions, level, levels = ("find", "open", "parse", "sort", "send", "sell"), 5, (2, 3, 4, 5, 7)
    trap, payment = 5, 0.2

    def limit(self, level: int) -> int:
        return 3 * level

    def start(self, seed: int, level: int) -> Play:
        kind = generator(seed, "chain").randrange(2)
        return Play([0, kind, level], f"order {kind}, stage 0", self._right(kind, level - 1))

    def step(self, play: Play, action: int) -> None:
        stage, kind, level = play.at
        if action == self.trap:
            play.score, play.done = self.payment, True
        elif action == self._right(kind, stage):
            play.at[0] = stage = stage + 1
            if stage == level:
                play.score, play.done = 1.0, True
        play.text = f"order {kind}, stage {play.at[0]}"

    def _right(self, kind: int, stage: int) -> int:
        return generator("recipe", kind, stage).randrange(5)


class LongCopy:
    """Note a letter, pass many that look alike without noting them, and say it at the end."""

    name = "long copy with distractors"
    letters = "abcd"
    actions = (*(f"note {x}" for x in "abcd"), *(f"say {x}" for x in "abcd"), "pass")
    level, levels = 4, (1, 2, 3, 4, 6)

    def limit(self, level: int) -> int:
        return level + 2

    def start(self, seed: int, level: int) -> Play:
        rng = generator(seed, "copy")
        shown = [rng.choice(self.letters) for _ in range(level + 1)]
        return self._seen(Play([0, "-", shown], "", 4 + self.letters.index(shown[0])))

    def step(self, play: Play, action: int) -> None:
        turn, note, shown = play.at
        if turn == len(shown):  # before that, saying anything is a wasted turn
            play.done, play.score = True, float(action == play.answer)
        elif action < 4:
            note = self.letters[action]
        play.at[:2] = min(turn + 1, len(shown)), note
        self._seen(play)

    def _seen(self, play: Play) -> Play:
        turn, note, shown = play.at
        now = (
            "first " + shown[0]
            if turn == 0
            else f"also {shown[turn]}"
            if turn < len(shown)
            else "now"
        )
        play.text = f"{now} | note {note}"
        return play


WORLDS = (KeyDoor(), TrappedChain(), LongCopy())

# ---------------------------------------------------------------- a tiny policy


class Table:
    """Logits [O, A] by observation text, and Adam."""

    def __init__(self, actions: int) -> None:
        self.logits = np.zeros((ROWS, actions))
        self.index: dict[str, int] = {}
        self.moments = (np.zeros_like(self.logits), np.zeros_like(self.logits))
        self.updates = 0

    def row(self, text: str) -> int:
        return self.index.setdefault(text, len(self.index))

    def probs(self) -> Any:
        """[O, A]"""
        e = np.exp(self.logits - self.logits.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)

    def ascend(self, batch: Any) -> None:
        """One step along `sum(weight A grad logp)`; ids are observation, action, and so on."""
        rows, columns = np.nonzero(batch.weight_BT)
        coef_N = batch.weight_BT[rows, columns] * batch.advantage_BT[rows, columns]
        seen_N = batch.ids_BT[rows, columns - 1]
        grad = -np.bincount(seen_N, coef_N, ROWS)[:, None] * self.probs()
        np.add.at(grad, (seen_N, batch.ids_BT[rows, columns] - ROWS), coef_N)
        self.updates += 1
        first, second = self.moments
        first += 0.1 * (grad - first)
        second += 0.01 * (grad**2 - second)
        scale = np.sqrt(second / (1 - 0.99**self.updates))
        self.logits += RATE * first / (1 - 0.9**self.updates) / (scale + 1e-8)


@cache
def said(name: str) -> Message:
    return Message("assistant", name)


@cache
def shown(text: str) -> tuple[Message, ...]:
    return (Message("tool", text),)


def episode(
    world: Any, table: Table, cumulative: Any, seed: int, level: int, rng: Any, gains: bool
) -> tuple[list[int], list[int], list[str], float, list[float]]:
    """Observations, actions, texts, score, and per turn what it gained for the right answer."""
    play = world.start(seed, level)
    seen, done, texts, gained = [], [], [play.text], []
    probs = table.probs() if gains else None
    for _ in range(world.limit(level)):
        row = table.row(play.text)
        action = min(int(np.searchsorted(cumulative[row], rng.random())), len(world.actions) - 1)
        world.step(play, action)
        seen.append(row)
        done.append(action)
        texts.append(play.text)
        if probs is not None:
            last = play.done
            after = 0.0 if last else probs[table.row(play.text), play.answer]
            gained.append(0.0 if last else float(after - probs[row, play.answer]))
        if play.done:
            break
    return seen, done, texts, play.score, gained


def group_of(
    world: Any, table: Table, request: Request, version: int, rng: Any, gains: bool
) -> Group:
    """The episodes of one request, as the library's own trajectories."""
    level = int(request.kwargs["level"])
    probs = table.probs()
    cumulative, log_probs = probs.cumsum(axis=1), np.log(probs)
    members: list[Trajectory] = []
    rewards: list[Reward] = []
    for i in range(request.n):
        seen, done, texts, score, gained = episode(
            world, table, cumulative, request.seed, level, rng, gains
        )
        turns = tuple(
            Turn(k, said(world.actions[action]), shown(texts[k + 1]))
            for k, action in enumerate(done)
        )
        count = len(done)
        ids = [x for row, action in zip(seen, done, strict=True) for x in (row, ROWS + action)]
        logps = [
            x for row, a in zip(seen, done, strict=True) for x in (0.0, float(log_probs[row, a]))
        ]
        turn_ids = [x for k in range(count) for x in (-1, k)]
        versions = [x for _ in range(count) for x in (-1, version)]
        segment = Segment(tuple(ids), tuple(turn_ids), tuple(logps), tuple(versions))
        facts = {"score": score, "success": score == 1.0}
        task = Task(f"{request.seed}", shown(texts[0]))
        members.append(
            Trajectory(
                f"{request.seed}-{i}", world.name, task, i, turns, (segment,), Stop.DONE, facts
            )
        )
        rewards.append(Reward(score + sum(gained), score, tuple(gained)))
    return Group(request, tuple(members), tuple(rewards))


def entropies(table: Table) -> Callable[[Sequence[Group]], Any]:
    """EMPG's column, under the policy that sampled."""

    def column(groups: Sequence[Group]) -> Any:
        probs = table.probs()
        entropy_O = -(probs * np.log(probs)).sum(axis=1)

        def part(segment: Segment) -> Any:
            out_T = np.zeros(len(segment.token_ids))
            out_T[1::2] = entropy_O[list(segment.token_ids[::2])]
            return out_T

        return tuple(tuple((part(t.segments[0]),) for t in g.trajectories) for g in groups)

    return column


# ---------------------------------------------------------------- training at equal steps


def success(world: Any, table: Table, levels: Sequence[int], seed: int, episodes: int) -> float:
    """Share of held-out episodes that end well, sampled."""
    rng = np.random.default_rng(derive_seed(seed, "eval"))
    cumulative = table.probs().cumsum(axis=1)
    scores = [
        episode(world, table, cumulative, derive_seed("held out", i), level, rng, False)[3]
        for level in levels
        for i in range(episodes // len(levels))
    ]
    return float(np.mean([score == 1.0 for score in scores]))


def learn(
    world: Any, seed: int, budget: int, advantage: Any, selector: Any, levels: Sequence[int]
) -> list[float]:
    """Held-out success at `EVALS` equally spaced numbers of environment steps."""
    name, options, gains = advantage
    arms = [
        {"name": f"level-{level:02d}", "env": world.name, "kwargs": {"level": level}}
        for level in levels
    ]
    made: dict[str, Any] = {} if selector is None else {"selector": selector}
    sampler = curriculum({world.name: 1.0}, derive_seed(seed, "sampler"), SIZE, arms=arms, **made)
    table = Table(len(world.actions))
    rng = np.random.default_rng(derive_seed(seed, world.name, "play"))
    given = {"entropy": entropies(table)}
    curve: list[float] = []
    steps = update = 0
    norm = float(max(world.limit(level) for level in levels))
    while len(curve) < EVALS:
        requests = sampler.plan(update + 1, GROUPS)
        groups = [group_of(world, table, request, update, rng, gains) for request in requests]
        steps += sum(len(t.turns) for g in groups for t in g.trajectories)
        credits = estimate(partial(ADVANTAGES[name], **options), groups, given)
        weighed, weighed_credits = sampler.weigh(groups, credits)
        table.ascend(make_batch(weighed, weighed_credits, "dr-grpo", norm=norm))
        sampler.update(groups, [])
        update += 1
        while len(curve) < EVALS and steps >= budget * (len(curve) + 1) / EVALS:
            curve.append(success(world, table, levels, seed, 100))
    return curve


ESTIMATORS: dict[str, tuple[str, dict[str, Any], bool]] = {
    "grpo": ("grpo", {}, False),
    "dr_grpo": ("dr_grpo", {}, False),
    "rloo": ("rloo", {}, False),
    "gigpo": ("gigpo", {}, False),
    "igpo": ("igpo", {}, True),
    "turn_loo": ("turn_loo", {}, False),
    "turn_loo (anchor)": ("turn_loo", {"anchor": "exact"}, False),
    "empg": ("empg", {}, False),
}
CURRICULA: dict[str, Any] = {
    "uniform": None,
    "sec": "sec",
    "dump": "dump",
    "dads": "dads",
    "pcl": "pcl",
}


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half the 95 % interval over seeds."""
    half = T95 * float(np.std(values, ddof=1)) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return float(np.mean(values)), half


def measure(
    table: dict[str, Any], budget: int, seeds: int, curricula: bool
) -> dict[str, dict[str, Any]]:
    """Per world and method: final success, its mean over training, and paired differences."""
    out: dict[str, dict[str, Any]] = {}
    for world in WORLDS:
        curves: dict[str, Any] = {}
        for name, method in table.items():
            levels = world.levels if curricula else (world.level,)
            advantage = ESTIMATORS["rloo"] if curricula else method
            selector = method if curricula else None
            curves[name] = [
                learn(world, seed, budget, advantage, selector, levels) for seed in range(seeds)
            ]
        base = np.mean(next(iter(curves.values())), axis=1)
        out[world.name] = {
            name: {
                "final": interval([curve[-1] for curve in runs]),
                "area": interval([float(np.mean(curve)) for curve in runs]),
                "against_first": interval((np.mean(runs, axis=1) - base).tolist()),
                "curve": np.mean(runs, axis=0).tolist(),
            }
            for name, runs in curves.items()
        }
    return out


def both_tables(budget: int = BUDGET, seeds: int = SEEDS) -> dict[str, Any]:
    """Estimators on one level of each world, curricula over all levels."""
    started = time.perf_counter()
    return {
        "budget": budget,
        "seeds": seeds,
        "estimators": measure(ESTIMATORS, budget, seeds, False),
        "curricula": measure(CURRICULA, budget, seeds, True),
        "seconds": round(time.perf_counter() - started, 1),
    }


def run() -> dict[str, Any]:
    """Measures, and writes results, figure and page."""
    result = both_tables()
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    plot(result)
    write_docs(result)
    return result


def table_of(part: dict[str, dict[str, Any]]) -> str:
    """Markdown: rows are methods, two columns a world."""
    worlds = list(part)
    head = ["method", *(f"{world}: {what}" for world in worlds for what in ("area", "final"))]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name in part[worlds[0]]:
        cells = [name]
        for world in worlds:
            row = part[world][name]
            clear = abs(row["against_first"][0]) > row["against_first"][1] > 0
            mark = (" ▲" if row["against_first"][0] > 0 else " ▼") if clear else ""
            cells += [
                f"{row['area'][0]:.2f} ± {row['area'][1]:.2f}{mark}",
                f"{row['final'][0]:.2f} ± {row['final'][1]:.2f}",
            ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plot(result: dict[str, Any], path: Path = DOCS / "figures" / "credit.svg") -> None:
    """Curves: worlds across, estimators above, curricula below."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    matplotlib.rcParams.update({"svg.hashsalt": "foldgym", "svg.fonttype": "none"})
    figure, axes = pyplot.subplots(2, len(WORLDS), figsize=(11, 6), sharey=True, sharex=True)
    at = np.arange(1, EVALS + 1) * result["budget"] / EVALS / 1000
    for line, part in zip(axes, ("estimators", "curricula"), strict=True):
        for axis, (world, rows) in zip(line, result[part].items(), strict=True):
            for name, row in rows.items():
                axis.plot(at, row["curve"], label=name, linewidth=1.2)
            axis.set_title(world, fontsize=9)
            axis.set_ylim(-0.02, 1.02)
        line[0].set_ylabel("held-out success")
        line[-1].legend(fontsize=7, loc="lower right")
    for axis in axes[-1]:
        axis.set_xlabel("thousand environment steps")
    figure.tight_layout()
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def write_docs(result: dict[str, Any], page: Path = DOCS / "credit.md") -> None:
    """Puts both tables between their marks."""
    text = page.read_text(encoding="utf-8")
    for part in ("estimators", "curricula"):
        start, end = f"<!-- table: {part} -->\n", f"\n<!-- end of {part} -->"
        before, rest = text.split(start)
        text = before + start + table_of(result[part]) + end + rest.split(end)[1]
    page.write_text(text, encoding="utf-8")


def main(arguments: Sequence[str]) -> None:
    """From the command line."""
    result = both_tables(2000, 2) if "--quick" in arguments else run()
    for part in ("estimators", "curricula"):
        print(table_of(result[part]))
    print(f"{result['seconds']} s")


if __name__ == "__main__":
    main(sys.argv[1:])
