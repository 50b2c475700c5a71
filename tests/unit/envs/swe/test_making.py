"""From a package to tasks: what is valid, what a task hides, and that a kill costs nothing."""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from made_projects import pytest_archive, tally

from foldgym.containers import BoxSpec, Sandbox, available, open_box, pack
from foldgym.envs.swe.making.faults import Fault, apply, patch, sites
from foldgym.envs.swe.making.making import Made, Plan, candidates, fault_id, make, merge
from foldgym.envs.swe.making.report import leaks
from foldgym.envs.swe.making.sources import Project
from foldgym.envs.swe.making.suite import equip, has_pytest
from foldgym.envs.swe.making.validating import VALID, Baseline, baseline, secrets, try_fault
from foldgym.errors import DataError

pytestmark = pytest.mark.skipif(available("process") != "", reason="boxes need Linux and bash")

BACKEND = "process" if available("bubblewrap") else "bubblewrap"
PLAN = Plan(wanted=4, workers=1, backend=BACKEND)
tools = cache(pytest_archive)


@pytest.fixture(scope="module", autouse=True)
def state() -> Iterator[None]:
    with tempfile.TemporaryDirectory(prefix="boxes-") as name, pytest.MonkeyPatch.context() as m:
        Path(name).chmod(0o711)
        m.setenv("FOLDGYM_STATE", name)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Made, Path]:
    out = tmp_path_factory.mktemp("made")
    return make(tally(), PLAN, out, tools), out


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    with open_box(BoxSpec(files=pack(tally().files), untrusted=False), BACKEND) as box:
        if not has_pytest(box):
            equip(box, tools())
        yield box


@pytest.fixture(scope="module")
def base(box: Sandbox) -> Baseline:
    return baseline(box, tally())


def fault(operator: str, text: str, project: Project | None = None) -> Fault:
    """The first fault of an operator whose result holds `text`."""
    source = (project or tally()).files["tally/things.py"]
    return next(
        each
        for each in sites("tally/things.py", source, [operator])
        if text.encode() in apply(source, each.edits)
    )


def test_the_baseline_knows_stable_and_broken_tests(base: Baseline) -> None:
    assert base.stable == {
        "tests/test_runs.py::test_clamp",
        "tests/test_runs.py::test_runs[a b-wanted0]",
        "tests/test_runs.py::test_runs[aab-wanted1]",
        "tests/test_counter.py::TestCounter::test_up",
    }
    assert base.broken == ("tests/test_counter.py::test_broken",)
    assert (base.flaky, base.runs) == ((), 2)


def test_a_fault_that_tests_notice_is_valid(box: Sandbox, base: Baseline) -> None:
    trial = try_fault(box, tally(), base, fault("swap_arithmetic", "found[-1] -= 1"), seed=0)
    assert trial.verdict == VALID
    assert trial.fail_to_pass == ("tests/test_runs.py::test_runs[aab-wanted1]",)
    assert set(trial.pass_to_pass) == base.stable - {"tests/test_runs.py::test_runs[aab-wanted1]"}
    assert "assert runs(word) == wanted" in trial.problem
    assert "+            found[-1] += 1" in trial.patch
    assert box.read("tally/things.py") == tally().files["tally/things.py"]


def test_a_fault_that_no_test_notices_is_refused(box: Sandbox, base: Baseline) -> None:
    found = try_fault(box, tally(), base, fault("swap_comparison", "if value <= low"), seed=0)
    assert found.verdict == "no test notices"


def test_a_fault_that_breaks_nearly_everything_is_refused(box: Sandbox, base: Baseline) -> None:
    found = try_fault(box, tally(), base, fault("empty_body", "def clamp"), 0, share=0.1)
    assert found.verdict == "nearly every test fails"


def test_a_fault_that_never_ends_is_refused(box: Sandbox, base: Baseline) -> None:
    loop = b"def runs(items):\n    while len(items) >= 0:\n        pass\n"
    source = tally().files["tally/things.py"]
    start = source.index(b"def runs")
    endless = sites("tally/things.py", source, ["empty_body"])[0]
    edit = replace(endless.edits[0], start=start, stop=source.index(b"class Counter"), text=loop)
    quick = replace(base, seconds=-4.5)  # the limit is then 2 seconds
    found = try_fault(box, tally(), quick, replace(endless, edits=(edit,)), 0)
    assert found.verdict == "time or memory limit"


def test_a_package_whose_tests_do_not_run_is_refused_with_the_reason(box: Sandbox) -> None:
    with pytest.raises(DataError, match="the tests of tally do not run: code 4"):
        baseline(box, replace(tally(), tests=("missing",)))


def test_flaky_tests_are_dropped(box: Sandbox) -> None:
    flaky = b"import os\n\ndef test_once():\n    os.mkdir('seen')\n\ndef test_ok():\n    pass\n"
    box.write("flaky/test_flaky.py", flaky)
    try:
        found = baseline(box, replace(tally(), tests=("flaky",)))
    finally:
        box.exec("rm -rf flaky seen")
    assert found.flaky == ("flaky/test_flaky.py::test_once",)
    assert found.stable == {"flaky/test_flaky.py::test_ok"}


def test_tasks_are_made_and_say_nothing_of_the_fault(made: tuple[Made, Path]) -> None:
    tasks = made[0].tasks
    assert len(tasks) == 4
    for task in tasks:
        path, good = task.metadata["path"], tally().files[task.metadata["path"]]
        found = next(each for each in made[0].trials if patch_of(each.fault) == task.bug)
        hidden = secrets(found.fault, good, apply(good, found.fault.edits))
        assert path in hidden
        assert "things.py" in hidden
        assert not leaks(task.problem_statement, hidden)
        assert task.metadata["operator"] not in task.problem_statement + task.id
        assert task.fail_to_pass
        assert set(task.fail_to_pass).isdisjoint(task.pass_to_pass)


def patch_of(each: Fault) -> str:
    good = tally().files[each.path]
    return patch(each.path, good, apply(good, each.edits))


def test_the_agents_tree_lacks_hidden_tests_and_grading_brings_all(
    made: tuple[Made, Path],
) -> None:
    for task in made[0].tasks:
        with tarfile.open(task.archive) as archive:
            names = set(archive.getnames())
        failing = {test.partition("::")[0] for test in task.fail_to_pass}
        assert failing
        assert names == set(tally().files) - failing
        assert set(task.tests) == {each for each in tally().files if each.startswith("tests/")}


def test_workers_and_interruptions_change_nothing(made: tuple[Made, Path], tmp_path: Path) -> None:
    first, out = made
    name = "tally-1.5.journal.jsonl"
    lines = (out / name).read_bytes().splitlines(keepends=True)
    (tmp_path / name).write_bytes(b"".join(lines[:3]) + lines[3][:20])  # killed while writing
    again = make(tally(), replace(PLAN, workers=2), tmp_path, tools)
    assert [replace(task, archive="") for task in again.tasks] == [
        replace(task, archive="") for task in first.tasks
    ]
    rows = [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]
    assert [row["id"] for row in rows[1:3]] == [json.loads(line)["id"] for line in lines[1:3]]
    assert len({row["id"] for row in rows[1:]}) == len(rows) - 1
    untouched = (tmp_path / name).stat().st_size
    third = make(tally(), PLAN, tmp_path, lambda: b"")  # nothing is left to try: no box is opened
    assert third.tasks == again.tasks
    assert (tmp_path / name).stat().st_size == untouched


def test_a_journal_of_another_tree_is_refused(made: tuple[Made, Path], tmp_path: Path) -> None:
    name = "tally-1.5.journal.jsonl"
    (tmp_path / name).write_bytes((made[1] / name).read_bytes())
    other = tally(tally__extra_dot_py=b"x = 1\n")
    with pytest.raises(DataError, match="of another tree of tally"):
        make(other, PLAN, tmp_path, tools)


def test_combined_faults_share_a_file_and_are_distinct() -> None:
    _, single = candidates(tally(), PLAN)
    _, double = candidates(tally(), replace(PLAN, faults=2))
    assert all(each.operator.count("+") == 1 for each in double)
    assert 0 < len(double) <= len(single) // 2
    names = [fault_id(tally(), each) for each in double]
    assert len(set(names)) == len(names)


def test_a_second_package_joins_and_a_new_run_of_the_first_replaces(
    made: tuple[Made, Path],
) -> None:
    one, two, *_ = made[0].tasks
    other = replace(one, id="other-1__0", repo="other/other")
    assert merge([one, other], {"tally/tally": [two]}) == sorted(
        [other, two], key=lambda task: task.id
    )


def test_the_archive_is_the_same_bytes_every_time(made: tuple[Made, Path], tmp_path: Path) -> None:
    (tmp_path / "tally-1.5.journal.jsonl").write_bytes(
        (made[1] / "tally-1.5.journal.jsonl").read_bytes()
    )
    again = make(tally(), PLAN, tmp_path, tools)
    for one, two in zip(made[0].tasks, again.tasks, strict=True):
        assert Path(one.archive).read_bytes() == Path(two.archive).read_bytes()
        assert Path(one.archive).name == Path(two.archive).name
        with tarfile.open(fileobj=io.BytesIO(Path(one.archive).read_bytes())) as archive:
            assert {each.mtime for each in archive} == {0}
