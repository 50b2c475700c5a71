"""Shared rules of the suite: one torch thread, and what may be skipped where."""

from __future__ import annotations

import functools
import os
import shutil
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
if "PYTEST_XDIST_WORKER" in os.environ:  # the workers share the cores; read when torch is imported
    os.environ.setdefault("OMP_NUM_THREADS", "1")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a script's background job: children would
    signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ["images_made"]

# Machines are busy: time is never a reason to fail. Where a failure turns a change away, in CI, the
# examples are the same for the same tests; elsewhere every run looks at new ones.
settings.register_profile(
    "foldgym",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="FOLDGYM_REQUIRE" in os.environ,
)
settings.load_profile("foldgym")

MARKS = ("docker", "browser", "vllm", "gpu")
VLLM_PYTHON = Path(__file__).parents[1] / ".vllm/bin/python"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


@functools.cache
def lacks(what: str) -> str:
    """Why this machine cannot run tests with a mark, and what mends it; empty if it can."""
    if what == "docker":
        from images_made import no_docker

        return no_docker()
    if what == "browser":
        found = [os.environ.get("FOLDGYM_CHROMIUM", ""), *map(shutil.which, BROWSERS)]
        return "" if any(found) else "no Chromium: apt-get install chromium"
    if what == "vllm":
        named = "FOLDGYM_VLLM_PYTHON" in os.environ or VLLM_PYTHON.exists()
        return "" if named else "no Python with vllm: make vllm, or set FOLDGYM_VLLM_PYTHON"
    if what == "gpu":
        import torch

        return "" if torch.cuda.is_available() else "torch sees no GPU"
    raise ValueError(what)


def pytest_configure() -> None:
    """A misspelt requirement would require nothing."""
    if unknown := _required() - set(MARKS):
        raise pytest.UsageError(
            f"FOLDGYM_REQUIRE names {', '.join(sorted(unknown))}; known: {', '.join(MARKS)}"
        )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long begins first: nobody waits at the end for one worker's last test.

    A module stays together, so that its fixtures are made once.
    """
    ranks: dict[str, int] = {}
    for item in items:
        module = item.nodeid.partition("::")[0]
        rank = 0 if item.get_closest_marker("vllm") else 2 - bool(item.get_closest_marker("slow"))
        ranks[module] = min(rank, ranks.get(module, rank))
    items.sort(key=lambda item: ranks[item.nodeid.partition("::")[0]])


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips what this machine cannot run; where FOLDGYM_REQUIRE names it, that is a failure."""
    for what in MARKS:
        if item.get_closest_marker(what) and (why := lacks(what)):
            if what in _required():
                pytest.fail(f"FOLDGYM_REQUIRE names {what}, but {why}", pytrace=False)
            pytest.skip(f"needs {what}: {why}")


def _required() -> set[str]:
    return {name for name in os.environ.get("FOLDGYM_REQUIRE", "").split(",") if name}
