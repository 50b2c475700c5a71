"""Where else a run's numbers go: TensorBoard and Weights & Biases, beside the JSONL that is kept.

A sink holds nothing that JSONL does not: a resumed run writes it anew from there, so nothing stands
twice. One that fails is given up with a note, and the run goes on.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from foldgym import console
from foldgym.config import LogSection
from foldgym.errors import MissingExtra
from foldgym.types import Json

_TIMES = "time/"  # before the name of whatever timings.jsonl holds


class Sink(Protocol):
    """Takes the numbers of a step."""

    def write(self, step: int, values: Mapping[str, float], at: float) -> None:
        """Numbers by name, and when they were taken (seconds since 1970)."""
        ...

    def close(self) -> None:
        """No more steps."""
        ...


class Watched:
    """A sink that may fail: it is then given up, and the run is told once."""

    def __init__(self, name: str, make: Callable[[], Sink]) -> None:
        self._name = name
        self._sink: Sink | None = None
        self._try(lambda: setattr(self, "_sink", make()))

    def write(self, step: int, metrics: Mapping[str, Json], seconds: Mapping[str, Json]) -> None:
        """One step; what is no finite number is left out."""
        times = {f"{_TIMES}{name}": value for name, value in seconds.items() if name != "at"}
        values = {k: float(v) for k, v in (*metrics.items(), *times.items()) if _is_number(v)}
        at = seconds.get("at")
        sink = self._sink
        if sink is not None:
            self._try(lambda: sink.write(step, values, at or time.time()))

    def close(self) -> None:
        """No more steps."""
        sink = self._sink
        if sink is not None:
            self._try(sink.close)

    def _try(self, act: Callable[[], object]) -> None:
        try:
            act()
        except Exception as problem:  # whatever these libraries raise is no reason to stop a run
            self._sink = None
            what = str(problem).strip() or type(problem).__name__
            console.note(f"{self._name} is given up: {what.splitlines()[0]}; metrics.jsonl goes on")


def open_sinks(section: LogSection, folder: Path, run: Mapping[str, Json]) -> list[Watched]:
    """The sinks of `[log]`, empty. Raises `MissingExtra` before anything is touched."""
    wanted: list[tuple[str, Callable[[], Sink]]] = []
    if section.tensorboard:
        wanted.append(("tensorboard", lambda: TensorBoard(folder / "tensorboard")))
        _require("tensorboard")
    if section.wandb != "off":
        wanted.append(("wandb", lambda: WeightsAndBiases(folder, run)))
        _require("wandb")
    return [Watched(name, make) for name, make in wanted]


class TensorBoard:
    """One file of events, each written through before the next step begins."""

    def __init__(self, folder: Path) -> None:
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter

        events: Any = event_pb2  # generated, and untyped
        summaries: Any = summary_pb2
        self._event, self._summary = events.Event, summaries.Summary
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self._records: Any = RecordWriter((folder / "events.out.tfevents.foldgym").open("wb"))
        self._put(self._event(wall_time=time.time(), file_version="brain.Event:2"))

    def write(self, step: int, values: Mapping[str, float], at: float) -> None:
        """See `Sink`."""
        rows = [self._summary.Value(tag=name, simple_value=x) for name, x in values.items()]
        self._put(self._event(wall_time=at, step=step, summary=self._summary(value=rows)))

    def close(self) -> None:
        """See `Sink`."""
        self._records.close()

    def _put(self, event: Any) -> None:
        self._records.write(event.SerializeToString())
        self._records.flush()


class WeightsAndBiases:
    """An offline run in `wandb/` of the run folder, for `wandb sync` to send some day."""

    def __init__(self, folder: Path, run: Mapping[str, Json]) -> None:
        import wandb

        shutil.rmtree(folder / "wandb", ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        self._run: Any = wandb.init(
            project="foldgym",
            name=folder.name,
            dir=str(folder),
            config=dict(run),
            mode="offline",
            settings=wandb.Settings(
                silent=True, console="off", disable_git=True, save_code=False,
                x_disable_stats=True,
            ),
        )  # fmt: skip

    def write(self, step: int, values: Mapping[str, float], at: float) -> None:
        """See `Sink`."""
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        """See `Sink`."""
        self._run.finish()


def _is_number(value: Json) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _require(extra: str) -> None:
    from importlib.util import find_spec

    if find_spec(extra) is None:
        raise MissingExtra(f"[log] {extra}", extra)
