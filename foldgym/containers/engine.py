"""The container engine of this machine: Docker, or Podman through its Docker-compatible socket."""

from __future__ import annotations

import functools
import os
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from foldgym.errors import MissingExtra, SandboxError, UserError

BASE = "foldgym/base"
"""The repository of the images that `foldgym images build` makes."""
_SECONDS = 60.0
"""How long one answer may take; a loaded engine is slow and not dead."""


class Silent(SandboxError):
    """The engine does not answer."""


class Refused(SandboxError):
    """The engine answered, and that it will not; `status` is the HTTP status."""

    def __init__(self, said: str, status: int) -> None:
        super().__init__(said)
        self.status = status


def address() -> str:
    """$DOCKER_HOST, or the first socket of an engine that there is; empty if there is none."""
    if given := os.environ.get("DOCKER_HOST"):
        return given
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    for path in (
        "/var/run/docker.sock",
        f"{runtime}/docker.sock",
        "/run/podman/podman.sock",
        f"{runtime}/podman/podman.sock",
    ):
        if Path(path).exists():
            return f"unix://{path}"
    return ""


def ask(verb: str, *arguments: Any, **options: Any) -> Any:
    """Call a method of `docker.APIClient`.

    Raises `Silent` if nobody answers, `Refused` if the engine will not, `MissingExtra` without the
    SDK, and `UserError` for an engine on another machine, which cannot see our files.
    """
    where = address()
    if not where:
        raise Silent("no container engine: start dockerd, or set DOCKER_HOST to its socket")
    if not where.startswith("unix://"):
        raise UserError(
            f"the engine at DOCKER_HOST={where} is not on this machine: boxes share a folder with "
            "it, so give a unix:// socket"
        )
    try:
        sdk = import_module("docker")
        http = import_module("requests.exceptions")
    except ImportError as problem:
        raise MissingExtra("the docker backend", "docker") from problem
    try:
        return getattr(_client(os.getpid(), where), verb)(*arguments, **options)
    except sdk.errors.APIError as problem:
        said = " ".join(str(problem.explanation or problem).split())
        raise Refused(said, int(problem.status_code or 500)) from problem
    except (sdk.errors.DockerException, http.RequestException, OSError) as problem:
        said = " ".join(str(problem).split())[:200]
        raise Silent(f"the engine at {where} does not answer (is it running?): {said}") from problem


@functools.cache
def _client(process: int, where: str) -> Any:
    """One for each process: connections do not survive a fork."""
    return import_module("docker").APIClient(where, version="auto", timeout=_SECONDS)


def image_of(name: str) -> str:
    """The image to run: `name`, else $FOLDGYM_IMAGE, else the newest base image.

    Raises `UserError` that says how to get it.
    """
    if name := name or os.environ.get("FOLDGYM_IMAGE", ""):
        try:
            ask("inspect_image", name)
        except Refused as problem:
            raise UserError(
                f"the engine has no image {name!r}: docker pull or docker build it ({problem})"
            ) from problem
        return name
    found = [each for each in ask("images", name=BASE) if each.get("RepoTags")]
    if not found:
        raise UserError(f"the engine has no image {BASE}: make one with 'foldgym images build'")
    return max(found, key=lambda each: int(each["Created"]))["RepoTags"][0]


def containers(state: str) -> list[dict[str, str]]:
    """The labels of our containers below this state folder, with the container's id as `""`."""
    found = ask("containers", all=True, filters={"label": f"foldgym.state={state}"})
    return [{**(each.get("Labels") or {}), "": each["Id"]} for each in found]


def remove(container: str, seconds: float = 20.0) -> None:
    """End a container with all in it, and wait until it is gone. One that is gone is fine.

    Raises `Silent`, and `Refused` if it stays.
    """
    until = time.monotonic() + seconds
    while True:
        try:
            return ask("remove_container", container, force=True, v=True)
        except Refused as problem:
            if problem.status == 404:
                return None
            if problem.status != 409 or time.monotonic() > until:  # 409: it is being removed
                raise
        time.sleep(0.005)
