"""Shared rules of the suite: one torch thread, and what may be skipped where."""

from __future__ import annotations

import os
import shutil

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def _have(what: str) -> bool:
    if what == "docker":
        return shutil.which("dockerd") is not None and os.path.exists("/var/run/docker.sock")
    if what == "browser":
        return any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))
    if what == "vllm":
        return "FOLDGYM_VLLM_PYTHON" in os.environ
    if what == "gpu":
        import torch

        return torch.cuda.is_available()
    raise ValueError(what)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips what this machine cannot run; where FOLDGYM_REQUIRE names it, that is a failure."""
    required = {name for name in os.environ.get("FOLDGYM_REQUIRE", "").split(",") if name}
    for what in ("docker", "browser", "vllm", "gpu"):
        if item.get_closest_marker(what) and not _have(what):
            if what in required:
                pytest.fail(f"FOLDGYM_REQUIRE names {what}, but this machine has none")
            pytest.skip(f"needs {what}")
