"""Where the seconds of a step went."""

from __future__ import annotations

import time
from collections.abc import Callable


class Clock:
    """Seconds of the parts of a step; `busy` are the seconds that something else was at work."""

    def __init__(self, busy: Callable[[], float] = lambda: 0.0) -> None:
        self.laps: dict[str, float] = {}
        self._busy, self._shared = busy, dict[str, float]()
        self._last, self._seen = time.perf_counter(), busy()

    def lap(self, name: str) -> None:
        """The time since the last lap was spent on `name`."""
        now, seen = time.perf_counter(), self._busy()
        self.laps[name], self._shared[name] = now - self._last, seen - self._seen
        self._last, self._seen = now, seen

    @property
    def overlap(self) -> dict[str, float]:
        """Seconds in which rollouts went on, did so beside other work, and did not."""
        rollout = sum(self._shared.values())
        beside = sum(s for name, s in self._shared.items() if name not in ("wait", "rest"))
        idle = sum(self.laps.values()) - rollout
        return {"rollout": rollout, "overlap": beside, "rollouts_idle": idle}
