"""Logs of real test runs, made on the spot, and the lines that they are made of."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from foldgym.envs.swe.parsers import Status, Statuses

PYTEST_SUITE = """import pytest

def test_good(): print("PASSED nothing")

@pytest.mark.parametrize("word", ["a b", "a c"])
def test_space(word): pass

def test_bad(): assert 1 == 2, "one - two"

@pytest.fixture
def gone(): raise RuntimeError("no fixture")

def test_broken(gone): pass

@pytest.mark.skip(reason="not now")
def test_skipped(): pass

@pytest.mark.xfail(reason="known")
def test_expected(): assert False
"""

UNITTEST_SUITE = """import unittest

class Case(unittest.TestCase):
    def test_good(self): print("said something"); self.assertTrue(1)
    def test_bad(self): self.assertEqual(1, 2)
    def test_broken(self): raise RuntimeError("no")
    @unittest.skip("not now")
    def test_skipped(self): pass
"""

PYTEST = (
    "=========== short test summary info ============\n"
    "PASSED test_it.py::test_good\n"
    "PASSED test_it.py::test_space[a b]\n"
    "PASSED test_it.py::test_space[a c]\n"
    "SKIPPED [1] test_it.py:15: not now\n"
    "XFAIL test_it.py::test_expected - known\n"
    "ERROR test_it.py::test_broken - RuntimeError: no fixture\n"
    "FAILED test_it.py::test_bad - AssertionError: one - two\n"
)

P, X, S, F, E = Status

SAMPLES: dict[str, tuple[str, Statuses]] = {
    "parse_log_gotest": (
        "=== RUN TestA\n--- PASS: TestA (0.00s)\n    --- FAIL: TestA/two words (0.10s)\n"
        "--- SKIP: TestB (0.00s)\nok  \tpkg\t0.1s",
        {"TestA": P, "TestA/two words": F, "TestB": S},
    ),
    "parse_log_cargo": (
        "test a::b ... ok\ntest c ... FAILED\ntest d ... ignored\ntest result: ok. 1 passed",
        {"a::b": P, "c": F},
    ),
    "parse_log_tap": (
        "TAP\nok 1 adds\nnot ok 2 drops it\n# tests 2",
        {"adds": P, "drops it": F},
    ),
    "parse_log_jq": ("PASS: tests/a\nFAIL: tests/b", {"tests/a": P, "tests/b": F}),
    "parse_log_googletest": (
        "[ RUN      ] A.b\n[       OK ] A.b (0 ms)\n[  FAILED  ] A.c (3 ms)\n[  FAILED  ] A.c",
        {"A.b": P, "A.c": F},
    ),
    "parse_log_redis": (
        "[ok]: SET works (3 ms)\n[err]: GET fails in tests/unit/a.tcl\n[skip]: slow\n[ignore]: big",
        {"SET works": P, "GET fails": F, "slow": S, "big": S},
    ),
    "parse_log_micropython_test": (
        "pass  basics/a.py\nFAIL  basics/b.py\nskip  x.py",
        {"basics/a.py": P, "basics/b.py": F, "x.py": S},
    ),
    "parse_log_ant": (
        "    [junit] [PASS] a(T)\n    [junit] [ERR] b(T)",
        {"a(T)": P, "b(T)": F},
    ),
    "parse_log_jest": (
        "  sums\n    ✓ adds (3 ms)\n    ✕ takes away\n    ○ skipped waits\n",
        {"adds": P, "takes away": F, "skipped waits": S},
    ),
    "parse_log_jest_json": (
        "[PASSED] a > b\n[FAILED] a > c\n[OTHER] d",
        {"a > b": P, "a > c": F},
    ),
    "parse_log_vitest": (
        " ✓ a.ts > adds 3ms\n × a.ts > falls\n ↓ a.ts > waits [skipped]\n",
        {"a.ts > adds": P, "a.ts > falls": F, "a.ts > waits": S},
    ),
    "parse_log_minitest": (
        "TestA#test_b. = 0.01 s = .\nTestA#test_c. = 0.01 s = E",
        {"TestA#test_b": P, "TestA#test_c": F},
    ),
    "parse_log_cucumber": (
        "features/a ......\nfeatures/b ...F",
        {"features/a": P, "features/b": F},
    ),
    "parse_log_ruby_unit": (
        "  test: it works:\t.: (0.01)\n  test_falls:\tF\n  test_waits:\tO\n",
        {"it works": P, "test_falls": F, "test_waits": S},
    ),
    "parse_log_rspec_transformed_json": ("A b - passed\nA c - failed", {"A b": P, "A c": F}),
    "parse_log_maven": (
        "+ mvn test -Dtest=A#b -q\n[INFO] BUILD SUCCESS\n+ mvn test -Dtest=A#c\n"
        "[INFO] BUILD FAILURE\n+ mvn test -Dtest=A#d\n",
        {"A#b": P, "A#c": F},
    ),
    "parse_log_gradle_custom": (
        "A > b PASSED\nA > c\nwarning: old\nFAILED\n> Task :test FAILED",
        {"A > b": P, "A > c": F},
    ),
    "parse_log_phpunit": (
        "Sums (Tests\\SumsTest)\n ✔ It adds\n ✘ It falls\n ↩ It waits\n",
        {"Sums > It adds": P, "Sums > It falls": F, "Sums > It waits": S},
    ),
    "parse_log_karma": (
        "noise\nStarting browser\n  Box\n    ✔ opens\n    inner\n      ✖ shuts\nSUMMARY:\n ✔ 1",
        {"Box > opens": P, "Box > inner > shuts": F},
    ),
    "parse_log_doctest": (
        '<doctest><TestCase name="A"><SubCase name="b"><Expression success="true"/></SubCase>'
        '<SubCase name="c"><Expression success="false"/></SubCase></TestCase></doctest>',
        {"A > b": P, "A > c": F},
    ),
    "parse_log_carbon": (
        "PASS src/a.js (3.2s)\nFAIL src/b.js (12 ms)\nPASS src/c.js",
        {"src/a.js": P, "src/b.js (12 ms)": F, "src/c.js": P},
    ),
    "parse_log_grommet": ("FAIL a.js (1.2 s)\nPASS b.js\nPASS a.js", {"a.js": P, "b.js": P}),
    "parse_log_marked": ("1) bold text\nnot 2) this", {"bold text": F}),
    "parse_log_eslint": ("  1) rules\n       no-x:\n     AssertionError: no", {"rules no-x:": F}),
    "parse_log_bpmn_js": (
        "HeadlessChrome 90.0 (Linux 5.4) draws a box FAILED\n",
        {"draws a box ": F},
    ),
    "parse_log_chart_js": ("Chrome 90.0 (Linux) Bar draws FAILED\n", {"Bar draws ": F}),
    "parse_log_openlayers": ("case a/main.js: mismatch 0.1", {"a/main.js": F}),
    "parse_log_highlightjs": (
        "  cpp\n    ✔ markup (5ms)\n    1) falls\n\n  1 passing (2s)\n  1) cpp",
        {"cpp.markup": P, "cpp.falls": F},
    ),
    "parse_log_prismjs": (
        "+ ./node_modules/.bin/mocha tests/run.js --reporter json\n"
        '{"failures": [{"fullTitle": "a b"}], "passes": [{"fullTitle": "a c"}]}\n',
        {"a b": F, "a c": P},
    ),
    "parse_log_calypso": (
        "+ ./node_modules/.bin/jest a\n  sums\n    inner\n      ✓ adds (3ms)\n      ✕ falls\n"
        "Test Suites: 1\n      ✓ late",
        {"sums - inner - adds": P, "sums - inner - falls": F},
    ),
    "parse_log_sympy": (
        "sympy/a.py[3]\ntest_a ok\ntest_b F\ntest_c E\n___ sympy/core/tests/test_a.py:test_b ___\n",
        {"sympy/core/tests/test_a.py:test_b": F, "test_a": P, "test_b": F, "test_c": E},
    ),
    "parse_log_seaborn": (
        "a.py::t PASSED [ 5%]\nFAILED a.py::u - E\nPASSED a.py::v\nSKIPPED a.py::w\n",
        {"a.py::t": P, "a.py::u": F, "a.py::v": P},
    ),
    "parse_log_matplotlib": (
        "PASSED a.py::t[MouseButton.LEFT]\nFAILED a.py::t[MouseButton.RIGHT] - E",
        {"a.py::t[1]": P, "a.py::t[3]": F},
    ),
    "parse_log_pytest_options": (
        "PASSED t[/tmp/x/a]\nPASSED t[//a/b]\nFAILED t[/a/*] - no\nPASSED u",
        {"t[/a]": P, "t[//a/b]": P, "t[/a/*]": F, "u": P},
    ),
    "parse_log_django": (
        "test_a (app.tests.A) ... ok\n"
        "test_b (app.tests.A) ... skipped 'no'\n"
        "test_c (app.tests.A) ... FAIL\n"
        "test_d (app.tests.A) ... ERROR\n"
        "test_e (app.tests.A) ... hello\nok\n"
        "test_f (app.tests.A) ... Internal Server Error: /x/\nok\n"
        "--version is equivalent to version\n"
        "FAIL: test_c (app.tests.A)\n"
        "Ran 6 tests\n",
        {
            "test_a (app.tests.A)": P,
            "test_b (app.tests.A)": S,
            "test_c (app.tests.A)": F,
            "test_d (app.tests.A)": E,
            "test_e (app.tests.A)": P,
            "test_f (app.tests.A)": P,
            "--version is equivalent to version": P,
            "test_c": F,
        },
    ),
}
"""By parser: a log, and what it says."""


def pytest_log(folder: Path, *options: str, suite: str = PYTEST_SUITE) -> str:
    """What `pytest -rA` prints of a suite, in a process of its own."""
    (folder / "test_it.py").write_text(suite)
    command = [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", *options]
    return _output([*command, "test_it.py"], folder)


def unittest_log(folder: Path) -> str:
    """What `python -m unittest -v` prints of a suite, in a process of its own."""
    (folder / "test_case.py").write_text(UNITTEST_SUITE)
    return _output([sys.executable, "-m", "unittest", "-v", "test_case"], folder)


def _output(command: list[str], folder: Path) -> str:
    done = subprocess.run(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return done.stdout
