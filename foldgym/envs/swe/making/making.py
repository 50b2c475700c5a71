"""Tasks from a package: its faults in order, tried in parallel boxes, with a journal."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from time import monotonic

from foldgym.containers import BoxSpec, Limits, Sandbox, open_box, pack
from foldgym.envs.swe.making.faults import Fault, apply, choose, combine, sites
from foldgym.envs.swe.making.journal import Journal, slim
from foldgym.envs.swe.making.sources import Project
from foldgym.envs.swe.making.suite import equip, has_pytest, test_command
from foldgym.envs.swe.making.validating import (
    VALID,
    Baseline,
    Trial,
    baseline,
    interrupted,
    patch_of,
    tally,
    try_fault,
)
from foldgym.envs.swe.places import image_of
from foldgym.envs.swe.task import SweTask
from foldgym.errors import DataError, SandboxError
from foldgym.seeding import derive_seed

_CONFIGURATION = ("pytest.ini", "tox.ini", "setup.cfg", "pyproject.toml")
_ENVIRONMENT = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0", "TZ": "UTC"}


@dataclass(frozen=True, slots=True)
class Plan:
    """`Plan(wanted=50, seed=0)`: how many tasks of each package, and how they are made.

    `faults` are combined in one file for each task (1: single faults). `share` is the largest part
    of the tests that may fail. `attempts` bounds the faults tried for one package (0: no bound).
    `image`, `recipe` and `backend` say where tests run; tasks carry `image` and `recipe` on.
    """

    wanted: int = 50
    seed: int = 0
    workers: int = 2
    faults: int = 1
    share: float = 0.5
    attempts: int = 0
    runs: int = 2
    backend: str = "auto"
    image: str = ""
    recipe: str = ""
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Made:
    """What came of one package."""

    project: Project
    sites: int
    base: Baseline
    trials: tuple[Trial, ...] = field(repr=False)
    tasks: tuple[SweTask, ...] = field(repr=False)
    seconds: float = 0.0

    @property
    def verdicts(self) -> dict[str, int]:
        """How many faults came to which verdict."""
        return tally(self.trials)


def candidates(project: Project, plan: Plan) -> tuple[int, list[Fault]]:
    """The number of sites in a package, and its faults in the order in which they are tried.

    Files that are no readable Python are passed over. Two faults that leave the same bytes count
    once. Raises `DataError` if there are no sites.
    """
    found: list[Fault] = []
    for path in project.code:
        try:
            found += sites(path, project.files[path], plan.names)
        except DataError:
            continue
    if not found:
        raise DataError(f"{project.name} has no place for a fault in {len(project.code)} modules")
    ordered = choose(found, plan.seed, project.name)
    if plan.faults > 1:
        ordered = list(_combined(ordered, plan.faults))
    return len(found), ordered


def _combined(faults: Sequence[Fault], size: int) -> Iterator[Fault]:
    """Each fault with those after it in its file that it can be combined with; each serves once."""
    waiting: dict[str, list[Fault]] = {}
    for fault in faults:
        pile = waiting.setdefault(fault.path, [])
        try:
            combine([*pile, fault])
        except ValueError:
            continue
        pile.append(fault)
        if len(pile) == size:
            yield combine(pile)
            waiting[fault.path] = []


def fault_id(project: Project, fault: Fault) -> str:
    """`toolz-1.2.0__1f3a9c02`: tells package and change, and nothing of what the change is."""
    bad = apply(project.files[fault.path], fault.edits)
    digest = blake2b(fault.path.encode() + b"\0" + bad, digest_size=4).hexdigest()
    return f"{project.name}-{project.version}__{digest}"


class Bench:
    """Boxes that hold a project and can run its tests, one for each thread."""

    def __init__(self, project: Project, plan: Plan, tools: Callable[[], bytes]) -> None:
        self.project, self.plan, self.tools = project, plan, tools
        self.own = threading.local()
        self.lock = threading.Lock()
        self.boxes: list[Sandbox] = []

    def box(self) -> Sandbox:
        """This thread's box, opened when it is first asked for."""
        box: Sandbox | None = getattr(self.own, "box", None)
        if box is None:
            limits = Limits(memory=2_000_000_000, seconds=12 * 3600.0)
            image = image_of(self.plan.image, self.plan.recipe, self.plan.backend)
            files = pack(self.project.files)
            spec = BoxSpec(files=files, image=image, limits=limits, run="swe-make")
            box = self.own.box = open_box(spec, self.plan.backend)
            with self.lock:
                self.boxes.append(box)
            if not has_pytest(box):
                equip(box, self.tools())
        return box

    def drop(self) -> None:
        """Close this thread's box, so that the next one is fresh."""
        box: Sandbox | None = getattr(self.own, "box", None)
        self.own.box = None
        if box is not None:
            box.close()

    def close(self) -> None:
        """Close all boxes."""
        for box in self.boxes:
            box.close()


def make(
    project: Project,
    plan: Plan,
    out: Path,
    tools: Callable[[], bytes],
    advance: Callable[..., None] = lambda *_: None,
) -> Made:
    """Make up to `plan.wanted` tasks of a package below `out`; what a journal there tells of is
    not tried again.

    The first faults in the seeded order that prove valid become tasks, so neither the number of
    workers nor an interruption changes them. `advance(1, note)` is called for each new task.
    Raises `DataError` if the package's tests do not run.
    """
    began = monotonic()
    count, faults = candidates(project, plan)
    bench = Bench(project, plan, tools)
    with Journal(out / f"{project.name}-{project.version}.journal.jsonl", project) as journal:
        try:
            base = journal.baseline or baseline(bench.box(), project, plan.runs)
            journal.keep_baseline(base)
            if base.log:
                _keep(out / "logs" / f"{project.name}-{project.version}.base.log", base.log)
            trials = _try_all(project, plan, base, faults, bench, journal, out, advance)
        finally:
            bench.close()
    valid = [(name, trial) for name, trial in trials if trial.verdict == VALID][: plan.wanted]
    tasks = tuple(to_task(name, trial, project, base, plan, out) for name, trial in valid)
    return Made(project, count, base, tuple(t for _, t in trials), tasks, monotonic() - began)


def _try_all(
    project: Project,
    plan: Plan,
    base: Baseline,
    faults: Sequence[Fault],
    bench: Bench,
    journal: Journal,
    out: Path,
    advance: Callable[..., None],
) -> list[tuple[str, Trial]]:
    """Trials in the order of the faults, as many as it takes; a few are always under way."""

    def attempt(name: str, fault: Fault) -> Trial:
        seed = derive_seed(plan.seed, name)
        try:
            return try_fault(bench.box(), project, base, fault, seed, plan.share)
        except SandboxError as problem:
            bench.drop()
            return interrupted(problem, fault)

    done: list[tuple[str, Trial]] = []
    under_way: list[tuple[str, Fault, Future[Trial] | None]] = []
    order = iter(_distinct(project, faults, plan.attempts))
    valid = 0
    with ThreadPoolExecutor(plan.workers, thread_name_prefix="swe make") as threads:
        while valid < plan.wanted:
            while len(under_way) < 2 * plan.workers:
                name, fault = next(order, ("", None))
                if fault is None:
                    break
                known = name in journal.trials
                future = None if known else threads.submit(attempt, name, fault)
                under_way.append((name, fault, future))
            if not under_way:
                break
            name, fault, future = under_way.pop(0)
            if future is None:
                trial = journal.trial(name, fault, base)
            else:
                trial = future.result()
                if trial.log:
                    _keep(out / "logs" / name / "mutated.log", trial.log)
                journal.keep(name, trial, base)
            done.append((name, slim(trial)))
            if trial.verdict == VALID:
                valid += 1
                advance(1, f"{project.name}: {valid} of {len(done)} tried")
        for name, _, future in under_way:  # begun already: the next run need not do it again
            if future is not None and not future.cancel():
                trial = future.result()
                if trial.log:
                    _keep(out / "logs" / name / "mutated.log", trial.log)
                journal.keep(name, trial, base)
    return done


def _distinct(
    project: Project, faults: Sequence[Fault], attempts: int
) -> Iterator[tuple[str, Fault]]:
    seen: set[str] = set()
    for fault in faults:
        name = fault_id(project, fault)
        if name not in seen:
            seen.add(name)
            yield name, fault
        if attempts and len(seen) >= attempts:
            return


def to_task(
    name: str, trial: Trial, project: Project, base: Baseline, plan: Plan, out: Path
) -> SweTask:
    """The task of a valid trial; the agent's tree is written below `out`.

    Files that hold a FAIL_TO_PASS test are not in the agent's tree. All files of the tests, and
    the settings of pytest, come back when it is graded.
    """
    fault = trial.fault
    hidden = {test.partition("::")[0] for test in trial.fail_to_pass}
    tree = {path: data for path, data in project.files.items() if path not in hidden}
    archive = out / "archives" / f"{project.address}-{_digest(sorted(hidden))}.tar.gz"
    if not archive.exists():
        archive.parent.mkdir(parents=True, exist_ok=True)
        half = archive.with_suffix(".half")
        half.write_bytes(gzip.compress(pack(tree).archive, mtime=0))
        half.replace(archive)
    good = project.files[fault.path]
    return SweTask(
        name,
        f"{project.name}/{project.name}",
        trial.problem,
        image=plan.image,
        recipe=plan.recipe,
        archive=str(archive),
        bug=patch_of(fault, good),
        base_commit=project.version,
        test_command=test_command(project.tests),
        tests={
            path: data
            for path, data in project.files.items()
            if project.is_test(path) or path in _CONFIGURATION
        },
        fail_to_pass=trial.fail_to_pass,
        pass_to_pass=trial.pass_to_pass,
        log_parser="pytest_v2",
        gold_patch=trial.patch,
        environment=_ENVIRONMENT,
        timeout=max(300.0, 30 * base.seconds),  # a busy machine must not decide
        metadata={
            "source": "made",
            "package": project.name,
            "version": project.version,
            "operator": fault.operator,
            "path": fault.path,
            "line": fault.line,
            "name": fault.name,
            "hidden": sorted(hidden),
            "seed": plan.seed,
        },
    )


def _digest(words: Sequence[str]) -> str:
    return blake2b("\0".join(words).encode(), digest_size=6).hexdigest()


def _keep(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as problem:
        raise DataError(f"cannot write {path}: {problem.strerror}") from None


def merge(old: Sequence[SweTask], made: Mapping[str, Sequence[SweTask]]) -> list[SweTask]:
    """The tasks of a file with those of some packages (by `repo`) replaced, in the order of ids."""
    kept = [task for task in old if task.repo not in made]
    fresh = [task for tasks in made.values() for task in tasks]
    return sorted([*kept, *fresh], key=lambda task: task.id)
