"""SWE-bench's readings of logs, on logs made here and on lines written by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from swe_logs import PYTEST, SAMPLES, pytest_log, unittest_log  # pyright: ignore[reportMissingImports]

from foldgym.envs.swe.logs import LOG_PARSERS, log_parser, parser_name
from foldgym.envs.swe.parsers import Status, parser
from foldgym.errors import UnknownName

P, X, S, F, E = Status


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_every_format_is_read(name: str):
    log, expected = SAMPLES[name]
    assert LOG_PARSERS[name](log) == expected


def test_no_parser_is_without_a_sample():
    covered = {*SAMPLES, "parse_log_pytest", "parse_log_pytest_v2"}
    read = [LOG_PARSERS[name] for name in covered]
    assert [name for name, parser in LOG_PARSERS.items() if parser not in read] == []


def test_the_first_word_is_the_name_for_pytest():
    assert log_parser("parse_log_pytest")(PYTEST) == {
        "test_it.py::test_good": P,
        "test_it.py::test_space[a": P,  # two tests with blanks in their ids have become one
        "test_it.py::test_bad": F,
        "test_it.py::test_broken": E,
        "test_it.py::test_expected": X,
    }


def test_the_whole_id_is_the_name_for_pytest_v2():
    assert log_parser("parse_log_pytest_v2")(PYTEST) == {
        "test_it.py::test_good": P,
        "test_it.py::test_space[a b]": P,
        "test_it.py::test_space[a c]": P,
        "test_it.py::test_bad": F,
        "test_it.py::test_broken - RuntimeError: no fixture": E,
        "test_it.py::test_expected - known": X,
    }


def test_a_line_that_only_begins_like_a_status_is_no_test():
    assert log_parser("parse_log_pytest")("ERROR: file not found: a\nPASSEDx y") == {}


def test_pytest_itself_is_read(tmp_path: Path):
    found = log_parser("parse_log_pytest_v2")(pytest_log(tmp_path))
    assert {name.split(" - ")[0]: status for name, status in found.items()} == {
        "test_it.py::test_good": P,
        "test_it.py::test_space[a b]": P,
        "test_it.py::test_space[a c]": P,
        "test_it.py::test_bad": F,
        "test_it.py::test_broken": E,
        "test_it.py::test_expected": X,
        "nothing": P,  # a test printed it: why a grade also needs the exit code
    }


def test_unittest_itself_is_read(tmp_path: Path):
    found = log_parser("parse_log_django")(unittest_log(tmp_path))
    short = {name.split(" ")[0]: status for name, status in found.items()}
    assert short == {"test_bad": F, "test_broken": E, "test_good": P, "test_skipped": S}


def test_names_that_mean_another_parser():
    assert parser_name("parse_log_jekyll", "jekyll__jekyll-9141") == "parse_log_minitest"
    assert parser_name("parse_log_jekyll", "jekyll__jekyll-8761") == "parse_log_cucumber"
    assert parser_name("parse_log_immutable_js", "a__b-2005") == "parse_log_jest_json"
    assert parser_name("parse_log_pytest", "a__b-9141") == "parse_log_pytest"


def test_the_graders_lookup_finds_them_and_names_the_nearest():
    assert parser("parse_log_gotest") is LOG_PARSERS["parse_log_gotest"]
    with pytest.raises(UnknownName, match="parse_log_cargo"):
        parser("parse_log_carg")


def test_broken_reports_say_nothing():
    assert LOG_PARSERS["parse_log_doctest"]("<doctest><a></doctest>") == {}
    cut = "./node_modules/.bin/mocha tests/run.js --reporter json\n{'passes': ["
    assert LOG_PARSERS["parse_log_prismjs"](cut) == {}
