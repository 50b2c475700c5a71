"""Harbor's and Terminal-Bench's folders: read, written, converted, and run in our boxes."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foldgym.containers import available
from foldgym.containers.images import BASE, find, grounded
from foldgym.containers.sandbox import pack
from foldgym.envs.swe.folders import (
    FolderTask,
    read_folder,
    read_harbor,
    read_reward,
    read_terminal_bench,
    terminal_results,
    write_harbor,
    write_terminal_bench,
)
from foldgym.envs.swe.folders.harbor import harbor_name, toml_text
from foldgym.envs.swe.folders.running import (
    Verified,
    build_image,
    instruction,
    relocated,
    solve,
    start_box,
    verify,
)
from foldgym.envs.swe.folders.task import workdir_of
from foldgym.errors import DataError

HARBOR = {
    "task.toml": """schema_version = "1.4"
[task]
name = "acme/hello"
[agent]
timeout_sec = 30
[verifier]
timeout_sec = 20.0
env = {WORD = "hello"}
[environment]
cpus = 1
""",
    "instruction.md": "Write the word hello to /app/hello.txt.",
    "environment/Dockerfile": "FROM debian\nRUN true\nWORKDIR /app\n",
    "tests/test.sh": """#!/bin/bash
if [ "$(cat /app/hello.txt)" = "$WORD" ]; then echo 1; else echo 0; fi > /logs/verifier/reward.txt
""",
    "solution/solve.sh": "echo hello > /app/hello.txt\n",
}
TERMINAL = {
    "task.yaml": """instruction: |
  Write 3 to /app/n.txt.
difficulty: easy
tags: [files]
max_test_timeout_sec: 20
""",
    "Dockerfile": "FROM debian\nWORKDIR /app\nCOPY seed.txt .\n",
    "seed.txt": "3\n",
    "docker-compose.yaml": "services:\n  client:\n    build: .\n",
    "run-tests.sh": (
        "#!/bin/bash\necho '=== short test summary info ==='\n"
        'if diff -q $TEST_DIR/want.txt /app/n.txt; then echo "PASSED t.py::test_n"; '
        'else echo "FAILED t.py::test_n - no"; fi\n'
    ),
    "tests/want.txt": "3\n",
    "solution.sh": "cp seed.txt /app/n.txt\n",
}
boxes = pytest.mark.skipif(bool(available("bubblewrap")), reason="needs bubblewrap")


def laid(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def everything(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def test_harbor_is_read(tmp_path: Path):
    task = read_folder(laid(tmp_path, HARBOR))
    assert (task.name, task.kind, task.workdir) == ("acme/hello", "harbor", "/app")
    assert (task.agent_seconds, task.test_seconds) == (30.0, 20.0)
    assert task.variables == {"WORD": "hello"}
    assert not task.separate
    assert list(task.solution) == ["solve.sh"]


def test_harbor_comes_back_as_it_was(tmp_path: Path):
    task = read_harbor(laid(tmp_path / "a", HARBOR))
    again = write_harbor(task, tmp_path / "b")
    assert read_harbor(again) == task
    before, after = everything(tmp_path / "a"), everything(again)
    del before["task.toml"], after["task.toml"]  # the same table, laid out anew
    assert before == after


def test_terminal_bench_comes_back_as_it_was(tmp_path: Path):
    task = read_folder(laid(tmp_path / "a", TERMINAL))
    assert (task.kind, task.workdir) == ("terminal-bench", "/app")
    assert task.instruction == "Write 3 to /app/n.txt.\n"
    assert (task.agent_seconds, task.test_seconds) == (360.0, 20.0)
    again = write_terminal_bench(task, tmp_path / "c" / "a")
    assert read_terminal_bench(again) == task


def test_harbor_becomes_terminal_bench(tmp_path: Path):
    task = read_harbor(laid(tmp_path / "a", HARBOR))
    other = read_folder(write_terminal_bench(task, tmp_path / "hello"))
    assert other.instruction == task.instruction
    assert other.tests["run-tests.sh"] == task.tests["test.sh"]
    assert other.solution["solution.sh"] == task.solution["solve.sh"]


def test_a_full_folder_is_not_written(tmp_path: Path):
    task = read_harbor(laid(tmp_path, HARBOR))
    with pytest.raises(DataError, match="is not empty: nothing was written"):
        write_harbor(task, tmp_path)


@boxes
@pytest.mark.parametrize("files", [HARBOR, TERMINAL])
def test_tasks_run_here(tmp_path: Path, files: dict[str, str]):
    task = read_folder(laid(tmp_path, files))
    seed = pack({"seed.txt": b"3\n"})
    with start_box(task, files=seed, backend="bubblewrap") as box:
        assert "/work/" in instruction(task, box)
        nothing = verify(task, box.snapshot(), backend="bubblewrap")
        assert (nothing.score, nothing.problem) == (0.0, "")
        solve(task, box)
        assert verify(task, box.snapshot(), backend="bubblewrap").score == 1.0


@boxes
def test_a_reward_that_the_agent_wrote_does_not_count(tmp_path: Path):
    silent = {**HARBOR, "tests/test.sh": "true\n"}  # tests that write no reward at all
    task = read_harbor(laid(tmp_path, silent))
    forged = "mkdir -p ~/verifier/logs/verifier logs/verifier /tmp/logs/verifier; echo 1 | tee "
    forged += (
        "~/verifier/logs/verifier/reward.txt logs/verifier/reward.txt /tmp/logs/verifier/reward.txt"
    )
    late = "(while true; do echo 1 > ~/verifier/logs/verifier/reward.txt; sleep 0.05; done) &"
    with start_box(task, files=pack({}), backend="bubblewrap") as box:
        box.exec(forged)
        box.exec(late)
        found = verify(task, box.snapshot(), backend="bubblewrap")
    assert found.score == 0.0
    assert found.problem == "there is neither reward.json nor reward.txt"


@boxes
def test_tests_that_do_not_end_say_nothing(tmp_path: Path):
    slow = {**HARBOR, "tests/test.sh": "echo 1 > /logs/verifier/reward.txt; sleep 60\n"}
    slow["task.toml"] = HARBOR["task.toml"].replace("20.0", "0.5")
    found = verify(read_harbor(laid(tmp_path, slow)), pack({}), backend="bubblewrap")
    assert found.score == 0.0
    assert "outlived its time" in found.problem


def test_rewards():
    assert read_reward("0.5\n", None) == {"reward": 0.5}
    assert read_reward("1", '{"a": 1, "b": 0}') == {"a": 1.0, "b": 0.0}
    assert Verified({"a": 1.0, "b": 0.0}).score == 0.5
    assert Verified({"reward": 1.0, "b": 0.0}).score == 1.0
    for text, table in [
        (None, None),
        ("", None),
        ("nan", None),
        ("inf", None),
        ("1", "[1]"),
        ("1", '{"a": NaN}'),
        ("1", '{"a": true}'),
        ("1", '{"a": "1"}'),
        ("1", "{"),
    ]:
        with pytest.raises(DataError):
            read_reward(text, table)


def test_terminal_benchs_summary():
    log = (
        "PASSED before::x\n==== short test summary info ====\nPASSED tests/t.py::test_a\n"
        "FAILED tests/t.py::test_b - Boom - 1\nSKIPPED tests/t.py::test_c\nXPASS t.py::test_d\n"
        "ERROR: t.py::test_e\nother line\n"
    )
    assert terminal_results(log) == {
        "test_a": True,
        "test_b - Boom": False,
        "test_c": True,
        "test_d": False,
        "test_e": False,
    }
    assert terminal_results("PASSED t.py::x") == {}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"task.toml": "a ="}, "is no TOML"),
        ({"task.toml": "verifier = 3"}, "verifier is 3, not a table"),
        ({"task.toml": "[agent]\ntimeout_sec = 'x'"}, "timeout_sec is 'x'"),
        ({"task.toml": "[[steps]]\nname = 'a'"}, "tasks of several steps"),
        ({"task.toml": "[environment]\nos = 'windows'"}, "os is 'windows'"),
        ({"environment/Dockerfile": None, "environment/docker-compose.yaml": "x"}, "no Dockerfile"),
        ({"instruction.md": None}, "cannot read"),
        ({"tests/test.sh": None}, "its tests have no test.sh"),
    ],
)
def test_what_is_no_harbor_task(tmp_path: Path, change: dict[str, str | None], told: str):
    files = {name: text for name, text in {**HARBOR, **change}.items() if text is not None}
    with pytest.raises(DataError, match=told):
        read_folder(laid(tmp_path, files))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"task.yaml": "a: [b"}, "is no YAML"),
        ({"task.yaml": "difficulty: easy"}, "no instruction"),
        ({"task.yaml": "instruction: x\nparser_name: swelancer"}, "'swelancer'"),
        (
            {"task.yaml": "instruction: x\nmax_test_timeout_sec: no"},
            "max_test_timeout_sec is False",
        ),
        ({"docker-compose.yaml": "services: {client: 1, db: 1}"}, "client, db"),
        ({"Dockerfile": None}, "has no Dockerfile"),
        ({"run-tests.sh": None}, "has no run-tests.sh"),
    ],
)
def test_what_is_no_terminal_bench_task(tmp_path: Path, change: dict[str, str | None], told: str):
    files = {name: text for name, text in {**TERMINAL, **change}.items() if text is not None}
    with pytest.raises(DataError, match=told):
        read_folder(laid(tmp_path, files))


def test_neither(tmp_path: Path):
    with pytest.raises(DataError, match=r"neither task.toml \(Harbor\) nor task.yaml"):
        read_folder(tmp_path)


def test_links_and_paths_out_of_the_folder_are_refused(tmp_path: Path):
    laid(tmp_path, HARBOR)
    (tmp_path / "tests" / "link").symlink_to("/etc/passwd")
    with pytest.raises(DataError, match="is a link"):
        read_folder(tmp_path)
    with pytest.raises(DataError, match="leaves the task's folder"):
        FolderTask("a/b", "x", tests={"test.sh": b"", "../x": b""})


def test_older_descriptions(tmp_path: Path):
    text = "descriptions:\n- key: base\n  description: Do it.\n"
    task = read_folder(laid(tmp_path, {**TERMINAL, "task.yaml": text}))
    assert task.instruction == "Do it."


def test_working_folders():
    assert workdir_of("FROM a\nWORKDIR /app\nRUN x\nworkdir src", "/root") == "/app/src"
    assert workdir_of("FROM a", "/root") == "/root"


def test_paths_are_turned_into_ours():
    places = {"/app": "/work", "/app/src": "/deep", "/tests": "/t"}
    text = "cd /app/src/x; cat '/app' /tests/a my/app /apple $D/app /app.txt"
    assert relocated(text, places) == "cd /deep/x; cat '/work' /t/a my/app /apple $D/app /app.txt"


def test_names_for_harbor():
    assert harbor_name("a/b.c") == "a/b.c"
    assert harbor_name("boltons-26.2.0__0a") == "foldgym/boltons-26-2-0__0a"
    assert harbor_name("..") == "foldgym/task"


SCALARS = st.one_of(
    st.booleans(),
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=("Cs",))),
)
VALUES = st.recursive(
    SCALARS,
    lambda v: (
        st.lists(v, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=("Cs",))), v, max_size=3)
    ),
)


@given(st.dictionaries(st.text(st.characters(exclude_categories=("Cs",))), VALUES, max_size=4))
def test_toml_is_read_back(table: dict[str, object]):
    assert tomllib.loads(toml_text(table)) == table


@pytest.mark.docker
def test_an_image_is_built_and_its_folder_is_the_boxs(tmp_path: Path):
    if problem := available("docker"):
        pytest.skip(f"needs docker boxes: {problem}")
    base = find(grounded(BASE))
    if not base:
        pytest.skip("needs the base image: foldgym images build base")
    dockerfile = f"FROM {base}\nWORKDIR /app\nCOPY seed.txt /app/\n"
    files = {
        **HARBOR,
        "environment/Dockerfile": dockerfile,
        "environment/seed.txt": f"hello {tmp_path}\n",  # an image of this test's own
        "tests/test.sh": "cut -d' ' -f1 /app/seed.txt | tr -d '\\n' > /tmp/w; "
        'if [ "$(cat /tmp/w)" = "$WORD" ]; then echo 1; else echo 0; fi'
        " > /logs/verifier/reward.txt\n",
    }
    task = read_folder(laid(tmp_path, files))
    image = build_image(task)
    try:
        assert build_image(task) == image  # it is there already
        with start_box(task, image=image, backend="docker") as box:
            assert box.read("seed.txt").startswith(b"hello ")
            good = verify(task, box.snapshot(), image=image, backend="docker")
            box.write("seed.txt", b"bye\n")
            bad = verify(task, box.snapshot(), image=image, backend="docker")
        assert (good.score, bad.score, bad.problem) == (1.0, 0.0, "")
    finally:
        import docker

        docker.from_env().images.remove(image, force=True)
