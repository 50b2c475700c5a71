"""Every estimator against a policy gradient that is known exactly.

The world is small enough to enumerate: rooms in a row, some of which slip; writing a note folds
memory (a new segment) and doubles what the goal pays; stopping ends the episode, so episodes differ
in turns and in segments. The policy is a softmax per observation. A sample is a batch of four tasks
with eight episodes each, and its gradient is the mean over trajectories of the sum over sampled ids
of credit times the gradient of the log-prob. Every estimator sees the same batches.

Two baselines are broken on purpose, the way peers ship them: statistics and loss over rows, so that
an episode counts as often as it folded; and normalisation per turn index over the episodes that
reached it.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

from foldgym.rewards.rubric import needs
from foldgym.trainers.advantages import ADVANTAGES
from foldgym.types import (
    Group,
    Message,
    Request,
    Reward,
    Segment,
    Stop,
    Task,
    ToolCall,
    Trajectory,
    Turn,
)

HERE = Path(__file__).resolve().parents[1]
RESULTS = HERE / "results" / "estimators.json"
DOCS = HERE.parent / "docs"

GO, NOTE, STOP = range(3)
GOAL, TURNS = 3, 6
TASKS = ((0, 0.0), (0, 0.3), (1, 0.0), (1, 0.3))  # first room, chance that a step slips
MEMBERS = 8
WIDTH = (GOAL + 1) * 2 * 3  # one logit per room, noted or not, and action

# estimators that are not policy gradients of this objective by design, and why
NOT_HERE = {
    "reinforce_pp_kl": "another objective: it adds a KL to the reward",
    "dyna_grpo": "is grpo where no episode looked ahead",
    "dcpo": "is grpo where every member is an episode of its own",
}
OPTIONS: dict[str, dict[str, Any]] = {
    "hicra": {"spans": "tool_calls"},
    "igpo_curriculum": {"total": 100},
}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "turn_loo (zero)": ("turn_loo", {"ended": "zero"}),
    "turn_loo (anchor)": ("turn_loo", {"anchor": "exact"}),
    "gigpo (gamma 1)": ("gigpo", {"gamma": 1.0}),
    "gigpo (code, std)": ("gigpo", {"statistics": "code", "norm_std": True}),
    "igpo (joint)": ("igpo", {"mode": "joint"}),
}
UNBIASED = ("rloo", "turn_loo", "turn_loo (zero)", "turn_loo (anchor)", "gae")


# ---------------------------------------------------------------- the world


@dataclass(frozen=True, slots=True)
class Episode:
    """One possible episode: its probability, what it did and what it is as a trajectory."""

    chance: float
    states: tuple[int, ...]
    actions: tuple[int, ...]
    trajectory: Trajectory
    reward: Reward
    score_KD: np.ndarray  # gradient of the log-prob of every action
    entropy_K: np.ndarray
    value_K: np.ndarray


def policy(seed: int = 3) -> np.ndarray:
    """Probabilities [state, action] of a policy that is neither good nor uniform."""
    logits = np.random.default_rng(seed).normal(0.0, 0.6, (WIDTH // 3, 3))
    logits[:, GO] += 0.6
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


def outcome(room: int, noted: int) -> float:
    """What stopping pays."""
    return {GOAL: 1.0, GOAL - 1: 0.2}.get(room, 0.0) * (1 + noted)


def moves(room: int, noted: int, action: int, slip: float) -> list[tuple[float, int, int, float]]:
    """`(chance, room, noted, turn reward)` for what may follow; not for stopping."""
    if action == NOTE:
        return [(1.0, room, 1, -0.05)]
    ahead = min(GOAL, room + 1)
    gain = 0.1 * (ahead > room)
    return [(1.0 - slip, ahead, noted, gain), *([(slip, room, noted, 0.0)] if slip else [])]


def values(pi: np.ndarray, slip: float, turns: int) -> np.ndarray:
    """Exact value [turn, state] of the return-to-go, 0 after the last turn."""
    value = np.zeros((turns + 1, WIDTH // 3))
    for turn in range(turns - 1, -1, -1):
        for room in range(GOAL + 1):
            for noted in range(2):
                s = 2 * room + noted
                value[turn, s] = pi[s, STOP] * outcome(room, noted)
                for action in (GO, NOTE):
                    for chance, r, n, gain in moves(room, noted, action, slip):
                        later = gain + value[turn + 1, 2 * r + n]
                        value[turn, s] += pi[s, action] * chance * later
    return value


def episodes(pi: np.ndarray, start: int, slip: float, turns: int = TURNS) -> list[Episode]:
    """Every episode of a task."""
    value = values(pi, slip, turns)
    out: list[Episode] = []

    def grow(room: int, noted: int, chance: float, states: Any, actions: Any, gains: Any) -> None:
        s = 2 * room + noted
        if len(actions) == turns:
            out.append(make(pi, value, start, chance, states, actions, gains, None, room))
            return
        for action in range(3):
            here = chance * pi[s, action]
            if action == STOP:
                paid = outcome(room, noted)
                out.append(
                    make(
                        pi,
                        value,
                        start,
                        here,
                        (*states, s),
                        (*actions, STOP),
                        (*gains, 0.0),
                        paid,
                        room,
                    )
                )
                continue
            for odds, r, n, gain in moves(room, noted, action, slip):
                grow(r, n, here * odds, (*states, s), (*actions, action), (*gains, gain))

    grow(start, 0, 1.0, (), (), ())
    return out


def make(
    pi: np.ndarray,
    value: np.ndarray,
    start: int,
    chance: float,
    states: Sequence[int],
    actions: Sequence[int],
    gains: Sequence[float],
    paid: float | None,
    room: int,
) -> Episode:
    """A path as a trajectory: one sampled id per turn, a new segment after every note."""
    turns: list[Turn] = []
    pieces: list[list[int]] = [[-1]]
    for k, action in enumerate(actions):
        seen = f"room {states[k + 1] // 2} notes {states[k + 1] % 2}" if k + 1 < len(states) else ""
        calls = (ToolCall("go"),) if action == GO else ()
        turns.append(
            Turn(k, Message("assistant", str(action), tool_calls=calls), (Message("tool", seen),))
        )
        pieces[-1] += [k, -1]
        if action == NOTE:
            pieces.append([-1])
    segments = tuple(
        Segment((1,) * len(p), tuple(p), tuple(-0.5 * (t >= 0) for t in p), (0,) * len(p))
        for p in pieces
        if max(p) >= 0
    )
    end = paid or 0.0
    stop = Stop.DONE if paid is not None else Stop.MAX_TURNS
    facts = {"success": room == GOAL and paid is not None, "answer": f"{room} {end}"}
    task = Task("t", (Message("user", f"room {start} notes 0"),))
    trajectory = Trajectory("", "rooms", task, 0, tuple(turns), segments, stop, facts)
    score = np.zeros((len(actions), WIDTH))
    for k, (s, action) in enumerate(zip(states, actions, strict=True)):
        score[k, 3 * s : 3 * s + 3] = -pi[s]
        score[k, 3 * s + action] += 1.0
    entropy = np.array([-(pi[s] * np.log(pi[s])).sum() for s in states])
    level = np.array([value[k, s] for k, s in enumerate(states)])
    reward = Reward(end + math.fsum(gains), end, tuple(gains))
    return Episode(chance, tuple(states), tuple(actions), trajectory, reward, score, entropy, level)


def true_gradient(paths: Sequence[Sequence[Episode]]) -> np.ndarray:
    """The gradient of the mean return over tasks, by the sum over all episodes."""
    return np.mean(
        [sum(p.chance * p.reward.total * p.score_KD.sum(0) for p in task) for task in paths], axis=0
    )


# ---------------------------------------------------------------- estimators

Sample = list[list[Episode]]
Estimator = Callable[[Sample, "list[Group]"], np.ndarray]


def ours(name: str, options: Mapping[str, Any]) -> Estimator:
    """The gradient of a batch under a registered advantage."""
    fn = ADVANTAGES[name]

    def advantage(groups: Sequence[Group], **given: Any) -> Any:
        return fn(groups, **given, **options)

    def column(sample: Sample, groups: Sequence[Group], which: str) -> Any:
        return tuple(
            tuple(
                tuple(
                    np.append(getattr(path, which), 0.0)[np.asarray(segment.turn_ids)]
                    for segment in trajectory.segments
                )
                for path, trajectory in zip(members, group.trajectories, strict=True)
            )
            for members, group in zip(sample, groups, strict=True)
        )

    def gradient(sample: Sample, groups: list[Group]) -> np.ndarray:
        given: dict[str, Any] = {}
        for name in needs(fn):
            if name == "step":
                given[name] = 50
            else:
                which = {"entropy": "entropy_K", "value": "value_K"}[name]
                given[name] = column(sample, groups, which)
        credits = advantage(groups, **given)
        total = np.zeros(WIDTH)
        for members, credit_G in zip(sample, credits, strict=True):
            for path, credit in zip(members, credit_G, strict=True):
                for segment, part in zip(path.trajectory.segments, credit, strict=True):
                    turn_T = np.asarray(segment.turn_ids)
                    inside = turn_T >= 0
                    total += part[inside] @ path.score_KD[turn_T[inside]]
        return total / sum(map(len, sample))

    return gradient


def rows_weighted(sample: Sample, groups: list[Group]) -> np.ndarray:
    """GRPO without deviation over rows: statistics and mean count an episode per segment."""
    del groups
    total, count = np.zeros(WIDTH), 0
    for members in sample:
        rows = np.array([len(path.trajectory.segments) for path in members])
        rewards = np.array([path.reward.total for path in members])
        mean = (rows * rewards).sum() / rows.sum()
        for path, reward in zip(members, rewards, strict=True):
            total += (reward - mean) * path.score_KD.sum(0)
        count += int(rows.sum())
    return total / count


def per_turn_index(sample: Sample, groups: list[Group]) -> np.ndarray:
    """Returns-to-go standardised per turn index, over the episodes that reached the turn."""
    del groups
    total = np.zeros(WIDTH)
    for members in sample:
        returns = [np.cumsum(_earned(path)[::-1])[::-1] for path in members]
        for k in range(TURNS):
            here = [(path, g[k]) for path, g in zip(members, returns, strict=True) if len(g) > k]
            if len(here) < 2:
                continue  # alone at this turn: compared with itself
            x = np.array([g for _, g in here])
            for (path, _), a in zip(here, (x - x.mean()) / (x.std(ddof=1) + 1e-6), strict=True):
                total += a * path.score_KD[k]
    return total / sum(map(len, sample))


def _earned(path: Episode) -> np.ndarray:
    earned = np.array(path.reward.turns)
    earned[-1] += path.reward.outcome
    return earned


BROKEN: dict[str, Estimator] = {
    "broken: rows": rows_weighted,
    "broken: turn index": per_turn_index,
}


def estimators() -> dict[str, Estimator]:
    """Everything registered that estimates this gradient, variants, and the broken ones."""
    found = {name: ours(name, OPTIONS.get(name, {})) for name in ADVANTAGES if name not in NOT_HERE}
    return found | {label: ours(*how) for label, how in VARIANTS.items()} | BROKEN


# ---------------------------------------------------------------- measuring


def draw(
    paths: Sequence[Sequence[Episode]], rng: np.random.Generator
) -> tuple[Sample, list[Group]]:
    """A batch: every task once, eight episodes each."""
    sample: Sample = []
    groups: list[Group] = []
    for number, task in enumerate(paths):
        odds = np.cumsum([path.chance for path in task])
        picked = [task[int(np.searchsorted(odds, u))] for u in rng.random(MEMBERS) * odds[-1]]
        sample.append(picked)
        groups.append(
            Group(
                Request("rooms", number, MEMBERS),
                tuple(path.trajectory for path in picked),
                tuple(path.reward for path in picked),
            )
        )
    return sample, groups


def measure(estimate_ND: np.ndarray, truth_D: np.ndarray) -> dict[str, float]:
    """Bias, direction, variance and cosine of N estimates.

    `bias` is relative to the length of the gradient; `direction` is what is left of it after the
    best rescaling, which an adaptive optimiser makes anyway. The sampling noise of the mean is
    taken off both squares, so honest estimators show about 0. `noise` is the total variance of one
    batch over the squared length of the mean; `cosine` that of one batch with the truth.
    """
    number = len(estimate_ND)
    mean_D, variance_D = estimate_ND.mean(0), estimate_ND.var(0, ddof=1)
    size, length = float(np.linalg.norm(truth_D)), float(np.linalg.norm(mean_D))
    best = float(mean_D @ truth_D) / length**2

    def gap(scale: float) -> float:
        off = scale * mean_D - truth_D
        return max(0.0, float(off @ off - scale**2 * variance_D.sum() / number)) ** 0.5 / size

    norm_N = np.maximum(np.linalg.norm(estimate_ND, axis=1), 1e-12)
    cosine_N = estimate_ND @ truth_D / (norm_N * size)
    z_D = np.abs(mean_D - truth_D) / np.maximum(np.sqrt(variance_D / number), 1e-15)
    scaled_z_D = np.abs(best * mean_D - truth_D) / np.maximum(
        np.sqrt(best**2 * variance_D / number), 1e-15
    )
    return {
        "bias": gap(1.0),
        "largest_z": float(z_D.max()),
        "direction": gap(best),
        "direction_z": float(scaled_z_D.max()),
        "noise": float(variance_D.sum()) / length**2,
        "cosine": float(cosine_N.mean()),
        "cosine_95": 1.96 * float(cosine_N.std(ddof=1)) / number**0.5,
    }


def critical(comparisons: int, level: float = 0.01) -> float:
    """The |z| that one of so many honest comparisons exceeds with probability `level`."""
    return NormalDist().inv_cdf(1 - level / (2 * comparisons))


def run(batches: int = 2000, seed: int = 0) -> dict[str, Any]:
    """Measures everything and writes results, plot and table."""
    began = time.perf_counter()
    pi = policy()
    paths = [episodes(pi, start, slip) for start, slip in TASKS]
    truth_D = true_gradient(paths)
    rng = np.random.default_rng(seed)
    chosen = estimators()
    found: dict[str, list[np.ndarray]] = {name: [] for name in chosen}
    for _ in range(batches):
        sample, groups = draw(paths, rng)
        for name, gradient in chosen.items():
            found[name].append(gradient(sample, groups))
    rows = {name: measure(np.array(values), truth_D) for name, values in found.items()}
    bound = critical(WIDTH * len(UNBIASED))  # 1 % of false alarms in all
    result = {
        "batches": batches,
        "episodes_per_batch": len(TASKS) * MEMBERS,
        "episodes_in_all": sum(map(len, paths)),
        "gradient_norm": float(np.linalg.norm(truth_D)),
        "critical_z": bound,
        "unbiased": {name: rows[name]["largest_z"] < bound for name in UNBIASED},
        "not_here": NOT_HERE,
        "estimators": rows,
    }
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    plot(result)
    write_table(result)
    return {**result, "seconds": time.perf_counter() - began}


# ---------------------------------------------------------------- showing


def ordered(result: Mapping[str, Any]) -> list[tuple[str, dict[str, float]]]:
    """Rows by how well one batch points along the gradient, the broken ones last."""
    rows = result["estimators"].items()
    return sorted(rows, key=lambda item: (item[0] in BROKEN, -item[1]["cosine"]))


def table(result: Mapping[str, Any]) -> str:
    """Markdown."""
    lines = [
        "| estimator | bias | largest z | direction | noise | cosine of one batch |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in ordered(result):
        mark = ""
        if row["largest_z"] < result["critical_z"]:
            mark = " (within its interval)"
        lines.append(
            f"| {name} | {row['bias']:.3f}{mark} | {row['largest_z']:.1f} | "
            f"{row['direction']:.3f} | {row['noise']:.2f} | "
            f"{row['cosine']:.3f} ± {row['cosine_95']:.3f} |"
        )
    return "\n".join(lines)


def write_table(result: Mapping[str, Any], page: Path = DOCS / "estimators.md") -> None:
    """Puts the table between the marks of the docs page."""
    start, end = "<!-- table: benchmarks/suites/estimators.py -->", "<!-- end of table -->"
    text = page.read_text(encoding="utf-8")
    before, _, rest = text.partition(start)
    _, _, after = rest.partition(end)
    if not after:
        raise ValueError(f"{page} has no marks {start} and {end}")
    page.write_text(f"{before}{start}\n{table(result)}\n{end}{after}", encoding="utf-8")


def plot(result: Mapping[str, Any], path: Path = DOCS / "figures" / "estimators.svg") -> None:
    """Direction error against noise: near the lower left is good."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    matplotlib.rcParams.update({"svg.hashsalt": "foldgym", "svg.fonttype": "none"})
    rows = ordered(result)[::-1]
    place = np.arange(len(rows))
    colours = [
        "tab:red" if name in BROKEN else "tab:green" if name in UNBIASED else "tab:gray"
        for name, _ in rows
    ]
    figure, axes = pyplot.subplots(1, 3, figsize=(11, 0.26 * len(rows) + 1.2), sharey=True)
    for axis, key, label in zip(
        axes,
        ("bias", "direction", "cosine"),
        ("bias / |gradient|", "bias after the best rescaling", "cosine of one batch"),
        strict=True,
    ):
        spread = [row["cosine_95"] for _, row in rows] if key == "cosine" else None
        axis.barh(place, [row[key] for _, row in rows], color=colours, xerr=spread)
        axis.set_title(label, fontsize=9)
        axis.grid(axis="x", alpha=0.3)
    axes[0].set_yticks(place, [name for name, _ in rows], fontsize=8)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


if __name__ == "__main__":
    print(table(run()))
