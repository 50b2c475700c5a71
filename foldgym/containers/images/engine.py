"""Images of a Docker engine: imported from a tree, or a base furnished and committed."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foldgym.containers.engine import address
from foldgym.containers.images.furnish import Tell, furnish
from foldgym.containers.images.recipe import Recipe, grounded, sheet, tag
from foldgym.errors import MissingExtra, UserError

LABEL = "foldgym.image"
"""On every image we make: its recipe, as JSON."""
BUILDING = "foldgym.building"
"""On the container in which an image is made, and on a tree just imported: the tag to be."""


def connect() -> Any:
    """A client of the engine that answers. Raises `MissingExtra` or `UserError`."""
    try:
        import docker
        from docker.errors import DockerException
    except ImportError:
        raise MissingExtra("building Docker images", "docker") from None
    try:
        where = {**os.environ, "DOCKER_HOST": address()}
        client = docker.from_env(timeout=600, environment=where)
        client.ping()
    except (DockerException, OSError) as problem:
        raise UserError(
            f"no Docker engine answers: {' '.join(str(problem).split())[-200:]} (apt-get install "
            "docker.io, start it, and join the group docker; DOCKER_HOST names another engine)"
        ) from None
    return client


def have(client: Any, name: str) -> bool:
    """Whether the engine has an image of this name."""
    from docker.errors import ImageNotFound

    try:
        client.images.get(name)
    except ImageNotFound:
        return False
    return True


def load(recipe: Recipe, root: Path, client: Any) -> None:
    """Make a tree the recipe's image: nothing is tagged unless all of it went in."""
    clear(client, tag(recipe))
    words = ["tar", "--numeric-owner", "--one-file-system", "-C", str(root), "-cf", "-"]
    with subprocess.Popen([*words, "--exclude=./dev/*", "."], stdout=subprocess.PIPE) as process:
        told = client.api.import_image_from_stream(
            process.stdout, changes=[f"LABEL {BUILDING}={tag(recipe)}"]
        )
    if process.returncode:
        clear(client, tag(recipe))
        raise UserError(f"tar could not read {root} (code {process.returncode})")
    container = client.containers.create(
        json.loads(told.splitlines()[-1])["status"],
        command=["/bin/bash"],
        labels={BUILDING: tag(recipe)},
    )
    try:
        _commit(recipe, container, recipe.runs_as, client)
    finally:
        container.remove(force=True)


def _commit(recipe: Recipe, container: Any, user: str, client: Any) -> None:
    """Tag a container's files; given as JSON, no value is read as Dockerfile syntax."""
    name, _, version = tag(recipe).partition(":")
    client.api.commit(
        container.id,
        repository=name,
        tag=version,
        conf={
            "Env": [f"{key}={value}" for key, value in recipe.variables.items()],
            "User": user,
            "Entrypoint": [],
            "Cmd": ["/bin/bash"],
            "WorkingDir": "/",
            "Labels": {LABEL: json.dumps(sheet(grounded(recipe)), sort_keys=True)},
        },
    )


def save(name: str, root: Path, client: Any) -> None:
    """Make an image of the engine a tree."""
    container = client.containers.create(name, command=["true"], labels={BUILDING: name})
    try:
        with subprocess.Popen(["tar", "-C", str(root), "-xf", "-"], stdin=subprocess.PIPE) as tar:
            if tar.stdin is not None:
                for chunk in container.export():
                    tar.stdin.write(chunk)
        if tar.returncode:
            raise UserError(f"tar could not unpack {name} (code {tar.returncode})")
    finally:
        container.remove(force=True)


def fetch(name: str, client: Any) -> None:
    """A registry's image, if the engine has it not yet. Raises `UserError`."""
    from docker.errors import DockerException

    if have(client, name):
        return
    try:
        client.images.pull(*(name.rsplit(":", 1) if ":" in name.rsplit("/", 1)[-1] else (name,)))
    except DockerException as problem:
        raise UserError(
            f"{name} is not on this engine and could not be pulled: "
            f"{' '.join(str(problem).split())[-300:]} (leave --from out to make one here)"
        ) from None


def layer(recipe: Recipe, base: str, client: Any, tell: Tell) -> None:
    """Furnish a container of `base` and commit it: nothing is tagged unless all went well."""
    from docker.errors import DockerException

    clear(client, tag(recipe))
    try:
        container = client.containers.create(
            base,
            entrypoint=["sleep"],
            command=["infinity"],
            user="0:0",
            working_dir="/",
            init=True,
            network_mode="bridge" if recipe.debian else "none",
            tmpfs={"/tmp": "mode=1777,exec"},
            labels={BUILDING: tag(recipe)},
        )
        try:
            container.start()
            furnish(recipe, _Container(container, client), tell)
            user = recipe.runs_as or client.images.get(base).attrs["Config"]["User"]
            _commit(recipe, container, user, client)
        finally:
            container.remove(force=True)
    except DockerException as problem:
        said = " ".join(str(problem).split())[-400:]
        raise UserError(f"image {recipe.name}: the engine failed: {said}") from None


def clear(client: Any, name: str) -> None:
    """Remove what a killed build of `name` has left: containers, and an image without a tag."""
    label = f"{BUILDING}={name}"
    for each in client.containers.list(all=True, filters={"label": label}):
        each.remove(force=True)
    client.images.prune(filters={"dangling": True, "label": label})


class _Container:
    """A running container that is being furnished."""

    def __init__(self, container: Any, client: Any) -> None:
        self.container, self.api = container, client.api
        self.online = True

    def run(
        self, command: str, variables: Mapping[str, str], stdin: bytes = b"", online: bool = False
    ) -> tuple[int, str]:
        """See `Workshop.run`. What is given as input lies in a file of its own meanwhile."""
        if not online and self.online:
            self._unplug()
        if stdin:
            self._put(stdin)
            command = f"{{ {command}\n}} < /foldgym-input; rm -f /foldgym-input"
        done = self.container.exec_run(
            ["/bin/bash", "-euc", command], user="0:0", environment=dict(variables), workdir="/"
        )
        return done.exit_code, done.output.decode(errors="replace")

    def _unplug(self) -> None:
        self.container.reload()
        for name in self.container.attrs["NetworkSettings"]["Networks"]:
            if name != "none":
                self.api.disconnect_container_from_network(self.container.id, name, force=True)
        self.online = False

    def _put(self, data: bytes) -> None:
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as archive:
            entry = tarfile.TarInfo("foldgym-input")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
        self.container.put_archive("/", stream.getvalue())
