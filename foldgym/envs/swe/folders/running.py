"""Play a task folder in our boxes: its image built, its tests run in a fresh box afterwards.

    image = build_image(task)                        # plain docker build
    with start_box(task, image=image) as box:        # /app of the image is the box's folder
        ...                                          # the agent works
        found = verify(task, box.snapshot(), image=image)

Only the working folder of our boxes and /tmp can be written, so the project lies there, and the
paths /app (or the task's own), /tests, /logs and /solution in its texts are turned into ours.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import shlex
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from foldgym.containers import BoxSpec, End, Limits, Sandbox, Snapshot, open_box
from foldgym.containers.sandbox import MB
from foldgym.envs.swe.folders.harbor import read_reward
from foldgym.envs.swe.folders.task import FolderTask, write_files
from foldgym.envs.swe.folders.terminal_bench import terminal_results
from foldgym.errors import DataError, MissingExtra, SandboxError, UserError

LIMITS = Limits(memory=2_000 * MB, disk=500 * MB)
_LONG = 300.0
_KEPT = 20_000


@dataclass(frozen=True, slots=True)
class Verified:
    """What the tests said: `Verified({"reward": 1.0})`; `problem` if they said nothing usable.

    `results` are single tests where the format tells of them. `log` is the end of the output.
    """

    rewards: Mapping[str, float] = field(default_factory=dict[str, float])
    problem: str = ""
    results: Mapping[str, bool] = field(default_factory=dict[str, bool])
    log: str = ""

    @property
    def score(self) -> float:
        """The reward named `reward`, or the mean of all; 0 where there is none."""
        if not self.rewards:
            return 0.0
        return self.rewards.get("reward", sum(self.rewards.values()) / len(self.rewards))


def build_image(task: FolderTask) -> str:
    """The tag of the task's image, built by docker if it is not there. Raises `UserError`.

    The tag is of the environment's content, so that tasks with the same one share it.
    """
    if task.image and "Dockerfile" not in task.environment:
        return task.image
    digest = hashlib.sha256()
    for name, data in sorted(task.environment.items()):
        digest.update(f"{name}\0{len(data)}\0".encode() + data)
    tag = f"foldgym-task:{digest.hexdigest()[:20]}"
    try:
        import docker
        from docker.errors import DockerException
    except ModuleNotFoundError as problem:
        raise MissingExtra("building a task's image", "docker") from problem
    try:
        client: Any = docker.from_env()
        if not client.images.list(name=tag):
            with tempfile.TemporaryDirectory(prefix="foldgym-build-") as folder:
                write_files(Path(folder), task.environment)
                client.images.build(path=folder, tag=tag, rm=True, labels={"foldgym": "task"})
    except DockerException as problem:
        raise UserError(f"task {task.name}: its image cannot be built: {problem}") from None
    return tag


def start_box(
    task: FolderTask,
    *,
    image: str = "",
    files: Snapshot | None = None,
    backend: str = "auto",
    limits: Limits = LIMITS,
) -> Sandbox:
    """A box as the agent finds it: `files`, or what the image holds in the task's folder.

    Raises `SandboxError`, and `UserError` if nothing can make such a box.
    """
    box = open_box(BoxSpec(files=files, image=image, limits=limits), backend)
    if image and files is None:
        source = shlex.quote(f"{task.workdir}/.")
        done = box.exec(
            f"[ ! -d {source} ] || cp -r --preserve=mode,links {source} .", timeout=_LONG
        )
        if not done.ok:
            box.close()
            raise SandboxError(f"{task.workdir} of {image} not copied: {done.text[-300:]!r}")
    return box


def instruction(task: FolderTask, box: Sandbox) -> str:
    """What the agent is told, with the paths of this box."""
    return relocated(task.instruction, _places(task, box))


def solve(task: FolderTask, box: Sandbox) -> str:
    """Run the task's own solution in a box; its output. Raises `DataError` if there is none."""
    if task.solution_script not in task.solution:
        raise DataError(f"task {task.name}: it has no {task.solution_script}")
    places = _places(task, box)
    _put(box, places["/solution"], task.solution, places)
    script = f"{places['/solution']}/{task.solution_script}"
    return box.exec(f"bash {shlex.quote(script)}", timeout=task.agent_seconds).text


def verify(
    task: FolderTask,
    work: Snapshot,
    *,
    image: str = "",
    backend: str = "auto",
    limits: Limits = LIMITS,
) -> Verified:
    """Run the tests on what the agent left in its folder, in a fresh box, and read the reward.

    Nothing of the agent's box is there but that folder, so that no process of it lives and no
    reward lies ready; the tests come in last. Raises `SandboxError` if the box dies.
    """
    with start_box(task, image=image, files=work, backend=backend, limits=limits) as box:
        places = _places(task, box)
        logs = f"{places['/logs']}/verifier"
        _put(box, places["/tests"], task.tests, places)
        made = box.exec(f"rm -rf {shlex.quote(logs)} && mkdir -p {shlex.quote(logs)}")
        if not made.ok:
            raise SandboxError(f"{logs} cannot be made: {made.text[-300:]!r}")
        variables = {name: relocated(value, places) for name, value in task.variables.items()}
        script = f"{places['/tests']}/{task.test_script}"
        done = box.exec(
            f"bash {shlex.quote(script)} 2>&1",
            timeout=task.test_seconds,
            environment=variables,
            cap=20 * MB,
        )
        log = done.text[-_KEPT:]
        if done.end is not End.EXITED:
            return Verified(problem=f"the tests: {done.end.value}", log=log)
        if task.kind == "terminal-bench":
            results = terminal_results(done.text)
            if not results:
                return Verified(problem="there is no summary of pytest in the log", log=log)
            return Verified({"reward": float(all(results.values()))}, "", results, log)
        try:
            rewards = read_reward(
                _text(box, f"{logs}/reward.txt"), _text(box, f"{logs}/reward.json")
            )
        except DataError as problem:
            return Verified(problem=str(problem), log=log)
        return Verified(rewards, log=log)


def relocated(text: str, places: Mapping[str, str]) -> str:
    """A text with paths below these folders as paths below others.

    >>> relocated("cat /app/a.txt > /logs/x; ls /application", {"/app": "/work", "/logs": "/tmp/l"})
    'cat /work/a.txt > /tmp/l/x; ls /application'
    """
    words = "|".join(sorted(map(re.escape, places), key=len, reverse=True))
    pattern = rf"(?<![\w./~$}}-])({words})(?![\w.-])"
    return re.sub(pattern, lambda match: places[match[1]], text)


def _places(task: FolderTask, box: Sandbox) -> dict[str, str]:
    """The folders that a task's texts name, and where they are in this box."""
    done = box.exec('printf "%s\\n%s" "$PWD" "$HOME"')
    work, _, home = done.stdout.decode().partition("\n")
    if not done.ok or not home:
        raise SandboxError(f"a box does not tell its folders: {done.text[-300:]!r}")
    if task.workdir == "/":
        raise DataError(f"task {task.name}: its folder is /, which no box can write")
    own = {name: f"{home}/verifier{name}" for name in ("/tests", "/logs", "/solution", "/oracle")}
    return {**own, task.workdir: work}


def _put(box: Sandbox, folder: str, files: Mapping[str, bytes], places: Mapping[str, str]) -> None:
    for name, data in files.items():
        with contextlib.suppress(UnicodeDecodeError):  # what is no text stays as it is
            data = relocated(data.decode("utf-8"), places).encode()
        box.write(str(PurePosixPath(folder) / name), data)


def _text(box: Sandbox, path: str) -> str | None:
    try:
        return box.read(path, cap=100_000).decode(errors="replace")
    except FileNotFoundError:
        return None
    except OSError as problem:
        raise DataError(f"{path}: {problem.strerror or problem}") from None
