"""One vLLM server as a process of ours: started, watched, and gone when we are.

It listens on this machine alone, writes to a log, and is the child of a keeper (`keeper.py`).
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import httpx

from foldgym.agents.engines import keeper
from foldgym.errors import EngineDown

NAME = "policy"  # under which the server serves the model
_RAISED = re.compile(r"\b\w+(Error|Exception): .*")
_OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_SERVER_DEV_MODE": "1",  # which brings the calls that change weights
}
_OURS = {"PYTHONPATH", "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK"} | {
    "MASTER_ADDR",
    "MASTER_PORT",
}


class Server:
    """A server of the model in `weights`: `start`, `alive`, `stop`, and again.

    `flags` are those of `vllm serve`, `variables` go into its environment.
    """

    def __init__(
        self,
        python: str,
        weights: Path,
        logs: Path,
        flags: Sequence[str],
        variables: Mapping[str, str],
    ) -> None:
        self.python, self.weights, self.logs = python, weights, logs
        self.flags, self.variables = list(flags), dict(variables)
        self.url = ""
        self.log = logs / "vllm-0.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe = -1
        self._starts = 0

    def alive(self) -> bool:
        """Whether the process runs; it may still be deaf."""
        return self._process is not None and self._process.poll() is None

    @property
    def process(self) -> int:
        """The id of the keeper; 0 while there is none."""
        return self._process.pid if self._process is not None else 0

    async def start(self, seconds: float) -> None:
        """Starts it and waits until it answers. Raises `EngineDown` with the end of its log."""
        await self.stop()
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._starts += 1
        self.logs.mkdir(parents=True, exist_ok=True)
        self.log = self.logs / f"vllm-{self._starts}.log"
        with self.log.open("wb") as log:
            self._process, self._pipe = self._spawn(port, log)
        try:
            await self._wait(seconds)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Ends it and everything that it started; doing so twice does nothing."""
        process, self._process = self._process, None
        if process is None:
            return
        os.close(self._pipe)  # which is how the keeper learns that it is time
        while process.poll() is None:
            await asyncio.sleep(0.02)

    def _spawn(self, port: int, log: IO[bytes]) -> tuple[subprocess.Popen[bytes], int]:
        command = [
            *(self.python, "-m", "vllm.entrypoints.openai.api_server"),
            *("--model", str(self.weights), "--served-model-name", NAME),
            *("--host", "127.0.0.1", "--port", str(port)),
            *self.flags,
        ]
        theirs, ours = os.pipe()
        try:
            process = subprocess.Popen(
                [sys.executable, "-IS", keeper.__file__, str(theirs), *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=(theirs,),
                env={**_inherited(), **_OFFLINE, **self.variables},
            )
        except OSError as problem:
            os.close(ours)
            raise EngineDown(f"vLLM does not start: {problem}") from problem
        finally:
            os.close(theirs)
        return process, ours

    async def _wait(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        async with httpx.AsyncClient(base_url=self.url, timeout=5, trust_env=False) as client:
            while loop.time() < until:
                if not self.alive():
                    raise EngineDown(f"vLLM ended while it started: {self.last_words()}")
                try:
                    if (await client.get("/health")).status_code == 200:
                        return
                except httpx.HTTPError:
                    pass  # not yet
                await asyncio.sleep(0.1)
        raise EngineDown(
            f"vLLM does not answer after {seconds:g} seconds: {self.last_words()}; "
            "engine.start_seconds allows it more"
        )

    def last_words(self) -> str:
        """The last error in its log, and where that is."""
        try:
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            lines = []
        wrong = [found[0] for line in lines if (found := _RAISED.search(line))]
        causes = [line for line in wrong if "See root cause" not in line]
        last = (causes or [line for line in lines if line.strip()] or ["it said nothing"])[-1]
        return f"{last.strip()[:300]} (log: {self.log})"


def _inherited() -> dict[str, str]:
    """Our environment, without what would have the server import our modules or join our crew."""
    return {
        name: value
        for name, value in os.environ.items()
        if name not in _OURS and not name.startswith("TORCHELASTIC_")
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
