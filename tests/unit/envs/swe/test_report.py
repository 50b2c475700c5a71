"""The user's report: made from the failing tests, and silent about the fault."""

from __future__ import annotations

from foldgym.envs.swe.making.report import example, failures, leaks, statement

LOG = """\
FF                                                                       [100%]
=================================== FAILURES ===================================
__________________________________ test_runs ___________________________________
tests/test_runs.py:9: in test_runs
    assert check([1, 1]) == [2]
tests/test_runs.py:4: in check
    return runs(items)
tally/things.py:18: in runs
    if item != last:
E   assert [1, 1] == [2]
E     At index 0 diff: 1 != 2
----------------------------- Captured stdout call -----------------------------
E   printed by the test
____________________________ TestCounter.test_limit ____________________________
tests/test_runs.py:15: in test_limit
    Counter(limit=-1)
tally/things.py:30: in __init__
    raise ValueError(limit)
E   ValueError: -1 at 0x7f00deadbeef
=========================== short test summary info ============================
FAILED tests/test_runs.py::test_runs - assert [1, 1] == [2]
FAILED tests/test_runs.py::TestCounter::test_limit - ValueError: -1
"""
SOURCE = b'''from tally import runs


def check(items):
    return runs(items)

def test_runs():
    """Neighbours are counted together."""
    assert check([1, 1]) == [2]
    assert check([]) == []

class TestCounter:
    def test_limit(self):
        with raises(ValueError):
            Counter(limit=-1)
'''
FILES = {"tests/test_runs.py": SOURCE}


def test_a_failure_is_where_the_test_failed_and_what_was_said() -> None:
    one, two = failures(LOG)
    assert (one.test, one.path, one.line) == ("test_runs", "tests/test_runs.py", 9)
    assert one.said == ("assert [1, 1] == [2]", "  At index 0 diff: 1 != 2")
    assert (two.test, two.line) == ("TestCounter.test_limit", 15)


def test_the_example_is_the_test_up_to_the_line_that_failed() -> None:
    assert example(SOURCE, 9) == "assert check([1, 1]) == [2]"
    assert example(SOURCE, 15) == "with raises(ValueError):\n    Counter(limit=-1)"
    assert example(SOURCE, 1) == ""
    assert example(b"def (", 1) == ""


def test_a_report_tells_calls_results_and_expectations() -> None:
    text = statement("tally", "1.5", LOG, FILES, [], seed=0)
    assert "tally 1.5" in text
    assert "```python\nassert check([1, 1]) == [2]\n```" in text
    assert "```\nassert [1, 1] == [2]\n  At index 0 diff: 1 != 2\n```" in text
    assert "ValueError: -1 at 0x...\n" in text
    assert "printed" not in text
    assert "Neighbours" not in text
    assert statement("tally", "1.5", LOG, FILES, [], seed=0) == text
    assert len({statement("tally", "1.5", LOG, FILES, [], seed=n) for n in range(20)}) > 5


def test_only_the_tests_that_count_are_told_of() -> None:
    wanted = ["tests/test_runs.py::TestCounter::test_limit"]
    text = statement("tally", "1.5", LOG, FILES, [], 0, wanted)
    assert "Counter(limit=-1)" in text
    assert "check(" not in text


def test_an_example_that_would_give_the_fault_away_is_not_used() -> None:
    text = statement("tally", "1.5", LOG, FILES, ["things.py", "Counter(limit=-1)"], seed=0)
    assert "check([1, 1])" in text
    assert "Counter" not in text
    assert statement("tally", "1.5", LOG, FILES, ["check([1, 1])", "Counter(limit=-1)"], 0) == ""


def test_short_lines_give_something_away_only_as_whole_lines() -> None:
    assert leaks("a\n  else:\nb", ["else:"])
    assert not leaks("say else: x", ["else:"])
    assert leaks("in things.py", ["things.py"])
