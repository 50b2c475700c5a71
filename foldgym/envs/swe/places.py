"""A box with a project in it: opened for a task, filled, read back, forked."""

from __future__ import annotations

import json
import shlex
import weakref
from collections.abc import Mapping
from dataclasses import replace
from types import TracebackType
from typing import Self

from foldgym.containers import BoxSpec, Limits, Result, Snapshot, open_box
from foldgym.containers.opening import choose
from foldgym.containers.sandbox import MB
from foldgym.envs.swe.task import SweTask
from foldgym.envs.swe.trees import Entry, Tree, compare, read_tree, remains, write_tree
from foldgym.errors import DataError, SandboxError, UnknownName

LIMITS = Limits(memory=2_000 * MB, disk=500 * MB, file=200 * MB, pids=256)
_LAYER = 4_000 * MB
"""Bytes that a box which works in its image may write: the project with all that was built there,
and once more if an episode is forked."""
_LONG = 300.0
_ENVIRONMENT = {
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONNOUSERSITE": "1",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_PAGER": "cat",
}
_ANY_OWNER = {
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "safe.directory",
    "GIT_CONFIG_VALUE_0": "*",
}
"""An image's files may be anybody's."""
_COMMIT = (
    "command -v git >/dev/null || exit 0; rm -rf .git; "
    "export GIT_AUTHOR_DATE='2020-01-01T00:00:00Z' GIT_COMMITTER_DATE='2020-01-01T00:00:00Z'; "
    "git init -q -b main . && git config user.name box && git config user.email box@box && "
    "git config core.fileMode true && git add -A -f && git commit -q --no-verify -m start"
)


_FIND = """
import importlib.util, json, os, sys
root = os.path.realpath(os.getcwd())
found = []
for name in json.loads(sys.argv[1]):
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        spec = None
    places = [spec.origin or "", *(spec.submodule_search_locations or ())] if spec else []
    places = [os.path.realpath(each) for each in places if each]
    if places and not any(each.startswith(root + os.sep) for each in places):
        found.append(places[0])
print(json.dumps(found))
"""


def image_of(image: str, recipe: str, backend: str) -> str:
    """The image, or what a recipe of `containers/images/` makes where only that is named.

    It is made if it is missing. Raises `UserError` where that cannot be done.
    """
    if image or not recipe:
        return image
    from foldgym.containers.images import RECIPES, build

    if recipe not in RECIPES:
        raise UnknownName("recipe", recipe, RECIPES)
    return build(RECIPES[recipe], choose(backend, BoxSpec()))


class Place:
    """A task's project in a box of its own; `Place(task, backend)` opens it.

    A task with a `workdir` is played there, in the files of its image (docker only). Raises
    `SandboxError` where the box does not come up or is gone.
    """

    def __init__(
        self,
        task: SweTask,
        backend: str = "auto",
        limits: Limits = LIMITS,
        run: str = "",
    ) -> None:
        self.root = task.workdir
        environment = {**_ENVIRONMENT, **task.environment}
        image = image_of(task.image, task.recipe, backend)
        if self.root:
            limits = replace(limits, disk=_LAYER)
            environment |= _ANY_OWNER
        spec = BoxSpec(
            image=image, workdir=self.root, environment=environment, limits=limits, run=run
        )
        self.box = open_box(spec, backend)
        weakref.finalize(self, self.box.close)  # a place in a process is one of few

    def exec(
        self,
        command: str,
        timeout: float,
        *,
        stdin: bytes = b"",
        cap: int = MB,
        environment: Mapping[str, str] | None = None,
    ) -> Result:
        """Run a command in the project's folder."""
        return self.box.exec(
            command, timeout=timeout, stdin=stdin, cap=cap, environment=environment
        )

    def path(self, path: str) -> str:
        """A path as the box takes it: relative ones are below the project's folder."""
        return path if path.startswith("/") or not self.root else f"{self.root}/{path}"

    def snapshot(self) -> Snapshot:
        """The project's folder as it is now."""
        return self.box.snapshot()

    def tree(self) -> Tree:
        """The project's files as they are now."""
        try:
            return read_tree(self.snapshot().archive)
        except DataError as problem:
            raise SandboxError(f"{self.root or 'the box'}: {problem}") from None

    def restore(self, snapshot: Snapshot) -> None:
        """End every process; the project's folder is as it was, and /tmp and the box's own home
        are empty. A home that an image brings stays as it is."""
        self.box.restore(snapshot)
        homes = "" if self.root else '"$HOME"'
        self.box.exec(f"cd / && find /tmp {homes} -mindepth 1 -delete", timeout=_LONG)

    def fill(self, tree: Mapping[str, Entry]) -> None:
        """Make the project's folder hold exactly these files.

        In a folder of an image only what differs is written: owners, times, empty folders and
        what cannot be told by an archive stay as the image has them. Caches and the history go.
        """
        if not self.root:
            self.restore(write_tree(tree))
            return
        self._do(f"find . {remains()} -prune -exec rm -rf {{}} +")
        changes = compare(self.tree(), tree)
        gone = "".join(f"./{each.path}\0" for each in changes)
        self._do("xargs -0r rm -rf --", gone.encode(errors="surrogateescape"))
        fresh = {each.path: each.after for each in changes if each.after is not None}
        self._do("tar --no-same-owner -mxpf -", write_tree(fresh).archive)

    def _do(self, command: str, stdin: bytes = b"") -> None:
        done = self.exec(command, _LONG, stdin=stdin)
        if not done.ok:
            raise SandboxError(f"{self.root} cannot be filled: {done.text[-300:]!r}")

    def commit(self) -> None:
        """Give the project a history of one commit, whatever it had, if the box has git."""
        done = self.exec(_COMMIT, _LONG)
        if not done.ok:
            raise SandboxError(f"git cannot keep the project: {done.text[-300:]!r}")

    def upstream(self, tree: Mapping[str, Entry]) -> list[str]:
        """Where the box has the project's packages besides: the agent could copy the answer."""
        names = sorted(_packages(tree))
        command = f"python3 -I -c {shlex.quote(_FIND)} {shlex.quote(json.dumps(names))}"
        done = self.exec(command, 60.0)
        return json.loads(done.stdout) if done.ok else []

    def close(self) -> None:
        """End the box."""
        self.box.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _packages(tree: Mapping[str, Entry]) -> set[str]:
    """Packages with an `__init__.py` at the top of a project or of its folder `src`."""
    found: set[str] = set()
    for path in tree:
        parts = path.removeprefix("src/").split("/")
        if len(parts) == 2 and parts[1] == "__init__.py" and parts[0].isidentifier():
            found.add(parts[0])
    return found - {"test", "tests", "docs", "examples"}
