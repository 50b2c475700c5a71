"""A Docker engine of a test's own, so that one may be restarted without ending others' boxes."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from foldgym.containers.processes import remove_tree


class PrivateEngine:
    """A dockerd below a folder of its own, without network."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host = f"unix://{folder}/engine.sock"
        self.image = ""
        """What `take` brought."""
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = ["dockerd", "--host", self.host, "--pidfile", f"{self.folder}/engine.pid"]
        command += ["--data-root", f"{self.folder}/data", "--exec-root", f"{self.folder}/exec"]
        command += ["--bridge=none", "--iptables=false", "--ip-forward=false"]
        with (self.folder / "engine.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        until = time.monotonic() + 60
        while self.ask("version").returncode:
            if self.process.poll() is not None or time.monotonic() > until:
                log_text = (self.folder / "engine.log").read_text(errors="replace")
                raise RuntimeError(f"no private dockerd: {log_text[-2000:]}")
            time.sleep(0.1)

    def stop(self) -> None:
        """End it with its containers."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(60)
            self.process = None

    def ask(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        """Run the Docker client."""
        return subprocess.run(["docker", "--host", self.host, *words], capture_output=True)

    def take(self, image: str) -> None:
        """Copy an image of the shared engine."""
        with subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE) as saved:
            command = ["docker", "--host", self.host, "load"]
            subprocess.run(command, stdin=saved.stdout, check=True, capture_output=True)
        self.image = image


@contextmanager
def private_engine() -> Generator[PrivateEngine]:
    """It runs while the block does; skips where this user may not have one."""
    if os.geteuid() or shutil.which("dockerd") is None:
        pytest.skip("a private dockerd needs root")
    with tempfile.TemporaryDirectory(prefix="engine-", ignore_cleanup_errors=True) as name:
        engine = PrivateEngine(Path(name))
        try:
            engine.start()
            yield engine
        finally:
            engine.stop()
            # helpers of a dockerd that ended may still be unmounting
            remove_tree(engine.folder, 30)
