"""The world `Swe`: a project with a fault in a sandbox, tools to repair it, a grade at the end."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

from foldgym.containers import Snapshot
from foldgym.envs.base import ToolEnv
from foldgym.envs.games import Split, check_split, split_of
from foldgym.envs.swe import replies
from foldgym.envs.swe.editor import EditError, Editor
from foldgym.envs.swe.expert import STYLES, plan
from foldgym.envs.swe.grading import grade
from foldgym.envs.swe.miniatures import miniatures
from foldgym.envs.swe.patches import write_patch
from foldgym.envs.swe.places import LIMITS, Place
from foldgym.envs.swe.task import SweTask, load_tasks
from foldgym.envs.swe.trees import Change, Tree, base_tree, compare, with_bug
from foldgym.envs.swe.verdict import Grade, Reason, Verdict
from foldgym.errors import UnknownName, UserError
from foldgym.tools import tool
from foldgym.types import Json, Message, Task, Tool

Tools = Literal["editor", "bash"]
PATCH_CAP = 100_000
"""Characters of a patch that are measured."""
_UNREADABLE = 3
_EDITOR = """The project in the current folder has a fault. Repair it.

{problem}

Every command runs in a new shell in that folder, without a network. Tests that you are not shown
decide; what you change in tests, or in the settings of the test runner, is set aside. Call submit
when the project is repaired."""
_BASH = """The project in the current folder has a fault. Repair it.

{problem}

Give one bash command at a time. Every command runs in a new shell in that folder, without a
network, so that directories and variables do not carry over. Tests that you are not shown decide;
what you change in tests, or in the settings of the test runner, is set aside. When the project is
repaired, submit it by a command whose output begins with the line {marker}:
echo {marker} && git add -A && git diff --cached"""


class Swe(ToolEnv):
    """Repair a project; hidden tests decide, in another box.

    Args:
        tasks: a JSON-lines file of `SweTask`s; without one, miniature projects of our own
        split: the tasks of this split, as their source says, or else by their project
        tools: "editor" (bash, view, create, str_replace, insert, undo, submit), or "bash" alone,
            as mini-swe-agent works
        backend: of the sandbox; "auto" takes the first that isolates
        command_timeout: seconds that one command may take
        output_cap: characters of a reply; of what is longer, the beginning and the end are shown
        max_steps: turns after which an episode is cut short
        grade_unsubmitted: grade what stands when an episode ends without a submission
        check: run what passes once more with tests that must fail (see docs/swe.md)
        git: give the project a history of one commit
    """

    experts = STYLES
    option_names = ("instance",)
    shared = ("_place", "_base", "_pool")

    def __init__(
        self,
        tasks: str = "",
        split: Split = "train",
        tools: Tools = "editor",
        backend: str = "auto",
        command_timeout: float = 60.0,
        output_cap: int = 10_000,
        max_steps: int = 60,
        grade_unsubmitted: bool = False,
        check: bool = True,
        git: bool = True,
        *,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(render_mode=render_mode)
        check_split(split)
        if tools not in get_args(Tools):
            raise UnknownName("tools", tools, get_args(Tools))
        for name, value, least in (
            ("command_timeout", command_timeout, 0.1),
            ("output_cap", output_cap, 100),
            ("max_steps", max_steps, 1),
        ):
            if value < least:
                raise UserError(f"{name} must be at least {least}, not {value}")
        self.mode: Tools = tools
        self.backend, self.command_timeout = backend, float(command_timeout)
        self.output_cap, self.max_turns = output_cap, max_steps
        self.grade_unsubmitted, self.check, self.git = grade_unsubmitted, check, git
        every = _tasks(tasks)
        self._pool = tuple(each for each in every if (each.split or split_of(each.repo)) == split)
        if not self._pool:
            raise UserError(f"none of {len(every)} tasks belongs to split {split!r}")
        self._place: Place | None = None

    # ------------------------------------------------------------ the episode

    def setup(self, rng: random.Random) -> Task:
        """Draw a task, or take the one named by `reset(options={"instance": ID})`."""
        wanted = self.options.get("instance")
        if wanted is None:
            return self._begin(rng.choice(self._pool))
        return self._begin(self._named(str(wanted)))

    def setup_task(self, task: Task, rng: random.Random) -> None:
        """Play a task of this world, by its id."""
        self._begin(self._named(task.id))

    def _named(self, name: str) -> SweTask:
        for each in self._pool:
            if each.id == name:
                return each
        raise UnknownName("instance", name, [each.id for each in self._pool])

    def _begin(self, task: SweTask) -> Task:
        self.close()
        self.swe = task
        self._editor = Editor()
        self._verdict: Verdict | None = None
        self._changes: tuple[Change, ...] | None = ()
        self._commands = self._unreadable = 0
        self._plan: list[Message] = []
        self._planned = self._asked = 0
        self._base: Tree = base_tree(task) or {}
        self._open()
        text = (_EDITOR if self.mode == "editor" else _BASH).format(
            problem=task.problem_statement.strip(), marker=replies.MARKER
        )
        held: dict[str, Json] = {"repo": task.repo, "fail_to_pass": len(task.fail_to_pass)}
        return Task(task.id, (Message("user", text),), task.gold_patch, held)

    def _open(self) -> Place:
        """A box with the project as it is given, and nothing that tells of its past or future."""
        task = self.swe
        self._place = place = Place(task, self.backend, LIMITS)
        if not self._base:
            self._base = with_bug(place.tree(), task)
        place.fill(self._base)
        if (task.archive or task.image) and (found := _upstream(task, place, self._base)):
            raise UserError(
                f"task {task.id}: the box has the project at {found} too, where an agent could "
                "copy it from; remove it from the image"
            )
        if self.git:
            place.commit()
        return place

    @property
    def place(self) -> Place:
        """The box of the running episode."""
        return self._place or self._open()

    @property
    def tools(self) -> tuple[Tool, ...]:
        """All, or `bash` alone."""
        every = super().tools
        return every if self.mode == "editor" else tuple(t for t in every if t.name == "bash")

    @tool
    def bash(self, command: str) -> str:
        """Run a bash command in the project's folder, in a new shell.

        Args:
            command: what to run
        """
        problem = _unusable(command)
        if problem:
            return f"error: {problem}"
        self._touch()
        timeout = self.command_timeout
        result = self.place.exec(f"exec 2>&1; {command}", timeout)
        if self.mode == "editor":
            return replies.as_text(result, timeout, self.output_cap)
        if replies.submits(result):
            self._submit()
        return replies.as_json(result, timeout, self.output_cap)

    @tool
    def view(self, path: str, start: int = 1, end: int = 0) -> str:
        """Show a file with line numbers, or what is in a folder.

        Args:
            path: a file or folder
            start: first line to show
            end: last line to show; 0 for the last of all
        """
        return self._edit(lambda: self._editor.view(self.place, path, start, end))

    @tool
    def create(self, path: str, text: str) -> str:
        """Write a new file.

        Args:
            path: where
            text: all of it
        """
        self._touch()
        return self._edit(lambda: self._editor.create(self.place, path, text))

    @tool
    def str_replace(self, path: str, old: str, new: str) -> str:
        """Replace a text that is in a file exactly once.

        Args:
            path: the file
            old: the text as it is there, with its spaces and line ends
            new: the text in its place
        """
        self._touch()
        return self._edit(lambda: self._editor.replace(self.place, path, old, new))

    @tool
    def insert(self, path: str, line: int, text: str) -> str:
        """Insert lines after a line of a file.

        Args:
            path: the file
            line: the line after which to insert; 0 for the beginning
            text: the lines
        """
        self._touch()
        return self._edit(lambda: self._editor.insert(self.place, path, line, text))

    @tool
    def undo(self, path: str) -> str:
        """Take back the last edit of a file.

        Args:
            path: the file
        """
        self._touch()
        return self._edit(lambda: self._editor.undo(self.place, path))

    @tool
    def submit(self) -> str:
        """Hand in the project as it is now, which ends the episode."""
        self._submit()
        return "submitted"

    def respond(self, message: Message) -> str:
        """In bash-only mode a message may hold its command in one fenced block."""
        if self.mode == "editor":
            return super().respond(message)
        command = replies.fenced(message.text)
        if command is not None:
            self._unreadable = 0
            return str(self.bash(command))
        self._unreadable += 1
        if self._unreadable >= _UNREADABLE:
            self.finish(0.0, truncated=True, format_errors=True)
        return "error: give exactly one command, by the tool bash or in one ```bash block"

    # ------------------------------------------------------------ grading

    def _submit(self) -> None:
        verdict = self._graded()
        self.finish(verdict.score)
        self._verdict = verdict
        self.close()

    def _graded(self) -> Verdict:
        return grade(self.swe, self._changed(), backend=self.backend, check=self.check)

    def _changed(self) -> tuple[Change, ...]:
        """What is different from the base, by our own comparison."""
        if self._changes is None:
            self._changes = compare(self._base, self.place.tree())
        return self._changes

    def _touch(self) -> None:
        self._commands += 1
        self._unreadable = 0
        self._changes = None

    def grade(self) -> float:
        """0, unless what was not submitted is graded too."""
        if not self.grade_unsubmitted:
            return 0.0
        if self._verdict is None:
            self._verdict = self._graded()
        return self._verdict.score

    def measure(self) -> dict[str, Json]:
        """Adds `submitted`, `modified`, `resolved`, `partial`, the `grade` and its `reason`, the
        `share` of FAIL_TO_PASS that passes, the `patch`, what was `set_aside`, and `commands`.
        """
        facts = super().measure()
        if self._play is None:
            return facts
        patch = write_patch(self._changed())
        verdict = self._verdict or Verdict(Grade.UNRESOLVED, detail="not submitted")
        fixed = len(verdict.fail_to_pass.success)
        return facts | {
            "submitted": self._play.score is not None and not self._play.truncated,
            "modified": bool(self._changes),
            "resolved": verdict.resolved,
            "partial": verdict.grade is Grade.PARTIAL,
            "grade": verdict.grade.value,
            "reason": verdict.reason.value,
            "detail": verdict.detail[:1000],
            "tampering": verdict.reason is Reason.TAMPERING,
            "share": fixed / max(1, len(self.swe.fail_to_pass)),
            "set_aside": list(verdict.set_aside[:100]),
            "patch": patch[:PATCH_CAP].encode(errors="replace").decode(),
            "patch_whole": len(patch) <= PATCH_CAP,
            "commands": self._commands,
        }

    def expert(self, style: str, rng: random.Random) -> Message:
        """The next move of a plan that ends in the gold patch; see `foldgym.envs.swe.expert`.

        Where another player moved meanwhile, a new plan goes on from what is there.
        """
        if style not in self.experts:
            raise UnknownName("expert", style, self.experts, f"Asked of {type(self).__name__}.")
        stale = self.turn not in (self._asked, self._asked + 1)
        if not self._plan or stale or self.turn - self._planned >= len(self._plan):
            style = "direct" if self._plan else style
            self._plan = plan(self.swe, self.place.tree(), self.mode, style, rng, self._base)
            self._planned = self.turn
        self._asked = self.turn
        return self._plan[self.turn - self._planned]

    # ------------------------------------------------------------ forks and the end

    def snapshot(self) -> dict[str, Any]:
        """Also the project's folder, but no process and no file elsewhere in the box."""
        files = self.place.snapshot() if self._play and not self._play.over else None
        return {**super().snapshot(), "files": files}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Go back to a snapshot of this world, or of one made alike."""
        state = dict(snapshot)
        files: Snapshot | None = state.pop("files")
        before = getattr(self, "swe", None)
        super().restore(state)
        if files is None:
            return
        if self._place is None or before != self.swe:
            self.close()
            self._base = base_tree(self.swe) or {}
            self._open()
        self.place.restore(files)

    def close(self) -> None:
        """End the box."""
        place: Place | None = getattr(self, "_place", None)
        self._place = None
        if place is not None:
            place.close()

    def _edit(self, act: Any) -> str:
        try:
            return replies.shorten(act(), self.output_cap)
        except (EditError, UnicodeEncodeError) as problem:
            return f"error: {problem}"


@lru_cache(maxsize=4)
def _read(path: str, changed: int) -> tuple[SweTask, ...]:
    return load_tasks(path)


def _tasks(path: str) -> Sequence[SweTask]:
    if not path:
        return miniatures()
    source = Path(path).expanduser()
    try:
        return _read(str(source), source.stat().st_mtime_ns)
    except OSError as problem:
        raise UserError(f"cannot read the tasks of {source}: {problem.strerror}") from None


def _unusable(command: str) -> str:
    try:
        command.encode("utf-8")
    except UnicodeEncodeError:
        return "the command is no text in UTF-8"
    return "a command cannot hold a zero byte" if "\0" in command else ""


_searched: dict[tuple[str, str], str] = {}


def _upstream(task: SweTask, place: Place, tree: Tree) -> str:
    """Where the box has the project besides; looked for once per image and project."""
    key = (task.image, task.repo)
    if key not in _searched:
        _searched[key] = ", ".join(place.upstream(tree))
    return _searched[key]
