"""What a run writes down: metrics, timings and trajectories, each a JSONL file with an offset.

`metrics.jsonl` holds only values that are the same whenever the run is repeated; wall-clock times,
speeds and memory have a file of their own.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean

from foldgym.agents.counting import costs
from foldgym.records import JsonlReader, JsonlWriter, to_table
from foldgym.trainers.feed import Lot
from foldgym.trainers.hold import Hold
from foldgym.trainers.sinks import Watched
from foldgym.trainers.throughput import Meter
from foldgym.types import Group, Json, Stop

METRICS, TIMINGS, TRAJECTORIES = "metrics.jsonl", "timings.jsonl", "trajectories.jsonl"


class RunLog:
    """The files of a run folder, cut back to `offsets` (without, to nothing).

    Until it is closed the folder is this process's alone (`Hold`, with its errors). `sinks` are
    told what metrics and timings hold already, and every step from then on; `meter` adds to the
    timings of a step. Raises `DataError` when the files cannot be written, or are shorter than the
    offsets say; a file that these do not name stays as it is.
    """

    def __init__(
        self,
        folder: Path,
        offsets: Mapping[str, int] | None = None,
        trajectories: bool = True,
        *,
        sinks: Sequence[Watched] = (),
        meter: Meter | None = None,
    ) -> None:
        names = (METRICS, TIMINGS, TRAJECTORIES) if trajectories else (METRICS, TIMINGS)
        self._hold = Hold(folder)
        self._files = {name: JsonlWriter(folder / name) for name in names}
        for name, file in self._files.items():
            if offsets is None or name in offsets:
                file.truncate_to(0 if offsets is None else offsets[name])
        self._sinks, self._meter = sinks, meter
        if sinks:
            files = (JsonlReader(folder / name) for name in (METRICS, TIMINGS))
            for row, times in zip(*files, strict=True):
                self._tell(row.pop("step"), row, {k: v for k, v in times.items() if k != "step"})

    def step(
        self,
        step: int,
        metrics: Mapping[str, Json],
        seconds: Mapping[str, float],
        sampled: float = 0.0,
    ) -> None:
        """One line each of metrics and timings; `sampled` ids came of the step's rollouts."""
        times: Mapping[str, Json] = seconds
        if self._meter is not None:
            times = {**seconds, **self._meter(sampled, seconds)}
        self._files[METRICS].write({"step": step, **metrics})
        self._files[TIMINGS].write({"step": step, **times})
        self._tell(step, metrics, times)

    def trajectories(self, step: int, groups: Sequence[Group], kept: bool) -> None:
        """One line per episode, failures included; nothing if the run keeps none."""
        file = self._files.get(TRAJECTORIES)
        if file is None:
            return
        for number, group in enumerate(groups):
            notes: dict[str, Json] = {"step": step, "group": number, "kept": kept}
            for trajectory, reward in zip(group.trajectories, group.rewards, strict=True):
                file.write(to_table(trajectory, reward, **notes))
            for trajectory in group.failures:
                file.write(to_table(trajectory, **notes))

    def lots(self, step: int, lots: Iterable[Lot]) -> None:
        """The trajectories of lots, what was accepted first."""
        for lot in lots:
            self.trajectories(step, lot.accepted, True)
            self.trajectories(step, lot.rejected, False)

    def offsets(self) -> dict[str, int]:
        """Bytes per file, all of them on the disk when this returns."""
        for file in self._files.values():
            with file.path.open("rb") as handle:
                os.fsync(handle.fileno())
        return {name: file.offset for name, file in self._files.items()}

    def close(self) -> None:
        """Closes all files and sinks."""
        for file in self._files.values():
            file.close()
        for sink in self._sinks:
            sink.close()
        self._hold.release()

    def _tell(self, step: int, metrics: Mapping[str, Json], times: Mapping[str, Json]) -> None:
        for sink in self._sinks:
            sink.write(step, metrics, times)


def spent(aux: object) -> dict[str, float]:
    """What a chat API that helps was asked for since the run was started; else nothing."""
    accounts = getattr(aux, "accounts", None)
    if accounts is None:
        return {}
    tokens = float(accounts.prompt_tokens + accounts.completion_tokens)
    cost = {} if accounts.cost is None else {"aux/cost": float(accounts.cost)}
    return {"aux/requests": float(accounts.requests), "aux/tokens": tokens, **cost}


def summary(groups: Sequence[Group], played: Sequence[Group] | None = None) -> dict[str, float]:
    """Means over the trajectories of a step: reward, success, turns, tokens, stops, segments, ...

    `degenerate` is the share of groups whose rewards are all equal. `failures` are those of all
    groups `played`, by default of these: a group in which every episode failed is never accepted.
    """
    trajectories = [t for group in groups for t in group.trajectories]
    failed = sum(len(group.failures) for group in (groups if played is None else played))
    if not trajectories:
        return {"episodes": 0.0, "failures": float(failed)}
    totals = [[reward.total for reward in group.rewards] for group in groups if group.rewards]
    found: dict[str, float] = {
        "reward": fmean(x for group in totals for x in group),
        "success": fmean(float(bool(t.facts.get("success"))) for t in trajectories),
        "turns": fmean(len(t.turns) for t in trajectories),
        "segments": fmean(len(t.segments) for t in trajectories),
        "sampled_tokens": fmean(t.trained for t in trajectories),
        "problems": fmean(any(turn.problem for turn in t.turns) for t in trajectories),
        "degenerate": fmean(float(max(group) == min(group)) for group in totals),
        "episodes": float(len(trajectories)),
        "failures": float(failed),
    }
    for stop in Stop:
        if count := sum(t.stop is stop for t in trajectories):
            found[f"stop/{stop.value}"] = count / len(trajectories)
    found |= {f"memory/{name}": value for name, value in costs(trajectories).items()}
    parts = sorted({name for group in groups for r in group.rewards for name in r.parts})
    if len(parts) > 1:
        for name in parts:
            found[f"reward/{name}"] = fmean(
                r.parts.get(name, 0.0) for group in groups for r in group.rewards
            )
    envs = sorted({t.env for t in trajectories})
    if len(envs) > 1:
        for env in envs:
            found[f"success/{env}"] = fmean(
                float(bool(t.facts.get("success"))) for t in trajectories if t.env == env
            )
    return found


def sampled_ids(played: Sequence[Group]) -> float:
    """How many ids the policy sampled, those of rejected groups and of failures included."""
    everything = (t for group in played for t in (*group.trajectories, *group.failures))
    return float(sum(t.counters.get("sampled_tokens", 0) for t in everything))


def headline(metrics: Mapping[str, Json]) -> str:
    """The few numbers that a person watches."""
    shown = ("reward", "success", "turns", "nll", "entropy", "logprob_gap_max", "grad_norm")
    return "  ".join(f"{name} {metrics[name]:.3g}" for name in shown if name in metrics)
