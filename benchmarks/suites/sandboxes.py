"""What boxes cost: start, first command, command, clean tree, grading; against `docker exec`.

    python -m benchmarks.run sandboxes
    python -m benchmarks.suites.sandboxes --docs      # the table of the last result

Every way lives the same life: a box with 500 files (5 MB), five commands, a change undone, the end,
and a fresh box that runs one small test. `plain` is what peers do: `docker run -d`, one
`docker exec` for each command, `docker rm -f`, all as subprocesses.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from random import Random
from typing import Any

from foldgym.console import note
from foldgym.containers import BoxSpec, Pool, Sandbox, Snapshot, available, open_box, pack

RESULTS = Path(__file__).parents[1] / "results" / "sandboxes.json"
FILES, BYTES, COMMANDS, ALONE, MANY = 500, 10_000, 5, 6, 32
DIRTY = "rm -rf pkg1; echo x > pkg0/m0.py; touch a b c; sleep 600 >/dev/null 2>&1 &"
TEST = "[ $(find . -name '*.py' | wc -l) = 500 ] && echo PASSED"
STEPS = ("start", "first", "command", "reset", "close", "grade")
Life = dict[str, list[float]]


class Plain:
    """A container driven by the docker program, one process for each thing done."""

    def __init__(self, image: str, files: Snapshot) -> None:
        self.name, self.files = f"foldgym-bench-{uuid.uuid4().hex}", files
        options = ["--name", self.name, "--label", "foldgym-bench", "--network", "none", "-u", "0"]
        options += ["--tmpfs", "/work:exec", "-w", "/work"]
        _docker("run", "-d", *options, image, "tail", "-f", "/dev/null")
        self.fill("true")

    def fill(self, first: str) -> None:
        command = ["bash", "-c", f"{first}; tar -xf -"]
        _docker("exec", "-i", self.name, *command, data=self.files.archive)

    def exec(self, command: str) -> bytes:
        return _docker("exec", self.name, "bash", "-c", command)

    def restore(self, files: Snapshot) -> None:
        """As a box does it; the files are those it began with."""
        self.fill("pkill sleep; find . -mindepth 1 -delete")

    def close(self) -> None:
        _docker("rm", "-f", self.name)


def _docker(*words: str, data: bytes = b"") -> bytes:
    return subprocess.run(["docker", *words], input=data, capture_output=True, check=True).stdout


def life(start: Callable[[], AbstractContextManager[Any]], files: Snapshot) -> Life:
    """Seconds that each step of one box's life took."""
    took: Life = {step: [] for step in STEPS}

    @contextmanager
    def timed(step: str) -> Generator[None]:
        began = time.perf_counter()
        yield
        took[step].append(time.perf_counter() - began)

    with ExitStack() as stack:
        with timed("start"):
            box = stack.enter_context(start())
        with timed("first"):
            box.exec("true")
        for _ in range(COMMANDS):
            with timed("command"):
                box.exec("true")
        box.exec(DIRTY)
        with timed("reset"):
            box.restore(files)
        began = time.perf_counter()
        stack.close()
    took["close"] = [time.perf_counter() - began]
    with timed("grade"), start() as box:
        result = box.exec(TEST)
        said = result if isinstance(result, bytes) else result.stdout
        if said != b"PASSED\n":
            raise RuntimeError(f"the box did not hold the files: {result!r:.200}")
    return took


def measure(start: Callable[[], AbstractContextManager[Any]], files: Snapshot, many: int) -> Any:
    """p50 and p95 in milliseconds, of boxes one after another, or of `many` at once."""
    with start() as box:
        box.exec("true")  # what is made once for all boxes is made
    with ThreadPoolExecutor(many) as threads:
        running = [threads.submit(life, start, files) for _ in range(max(many, ALONE))]
        lives = [each.result() for each in running]
    return {step: _quantiles([each for one in lives for each in one[step]]) for step in STEPS}


def _quantiles(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    return {
        name: round(1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2)
        for name, share in (("p50", 0.5), ("p95", 0.95))
    }


def ways(spec: BoxSpec, many: int) -> Generator[tuple[str, Callable[[], Any]]]:
    """Each way to have boxes that this machine offers; a pool is full when it is handed out."""
    for backend in ("docker", "bubblewrap", "process"):
        if available(backend):
            continue

        def opened(backend: str = backend) -> Sandbox:
            return open_box(spec, backend)

        yield backend, opened
        if backend != "process":
            with Pool(spec, backend, warm=many, cap=2 * many) as pool:
                with pool.change:
                    pool.change.wait_for(lambda pool=pool: len(pool.ready) == many, 300)
                yield f"{backend}, warm pool", pool.box
    if not available("docker"):
        from foldgym.containers import engine

        image, files = engine.image_of(spec.image), spec.files
        assert files is not None

        @contextmanager
        def plain() -> Generator[Plain]:
            box = Plain(image, files)
            try:
                yield box
            finally:
                box.close()

        yield "plain docker", plain


def run() -> dict[str, Any]:
    random = Random(5)
    files = pack({f"pkg{i % 25}/m{i}.py": random.randbytes(BYTES) for i in range(FILES)})
    spec = BoxSpec(files=files, untrusted=False, run="benchmark")
    found: dict[str, Any] = {}
    for many in (1, MANY):
        for name, start in ways(spec, many):
            found.setdefault(name, {})[f"{many} at once"] = measure(start, files, many)
            note(f"{name}, {many} at once, load {os.getloadavg()[0]:.1f}")
    if "plain docker" in found:
        from foldgym.containers import engine

        box = Plain(engine.image_of(""), files)
        began = time.perf_counter()
        _docker("stop", box.name)
        found["plain docker"]["docker stop"] = round(1000 * (time.perf_counter() - began))
        box.close()
    return {"load_after": round(os.getloadavg()[0], 2), "milliseconds": found}


def docs() -> str:
    """The result as a table, p50 / p95 in milliseconds."""
    result = json.loads(RESULTS.read_text())
    lines = ["| way | at once | " + " | ".join(STEPS) + " |", "|---|---" + "|---" * 6 + "|"]
    for name, rows in result["milliseconds"].items():
        for many, steps in rows.items():
            if isinstance(steps, dict):
                cells = [f"{steps[s]['p50']:.3g} / {steps[s]['p95']:.3g}" for s in STEPS]
                lines.append(f"| {name} | {many.split()[0]} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__" and "--docs" in sys.argv:
    print(docs())
