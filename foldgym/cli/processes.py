"""Starts a command in several processes of this machine that find one another."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

from foldgym.errors import UserError

_LOOK, _LEAVE = 0.1, 20.0  # seconds between looks, and to leave in once one has left


def start(words: Sequence[str], count: int) -> int:
    """Runs `foldgym WORDS` in `count` processes; returns the exit code of the first.

    Rank 0 talks; when it fails, or any other does, all are ended.
    """
    if count < 2:
        raise UserError(f"--processes {count}: several processes are at least 2")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    crew = [
        subprocess.Popen(
            [sys.executable, "-m", "foldgym", *words],
            env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(count)
    ]
    try:
        codes = [each.poll() for each in crew]
        while codes[0] is None and not any(codes):
            time.sleep(_LOOK)
            codes = [each.poll() for each in crew]
        # what another rank saw rank 0 sees at once, and says it better; when it fails, all is over
        deadline = time.monotonic() + _LEAVE
        while not codes[0] and None in codes and time.monotonic() < deadline:
            time.sleep(_LOOK)
            codes = [each.poll() for each in crew]
        return codes[0] if codes[0] is not None else next((code for code in codes if code), 1)
    finally:
        for each in crew:
            each.kill()
            each.wait()
