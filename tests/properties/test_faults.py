"""Whatever the source and the operator: faulty code is Python, differs, and can be mended."""

from __future__ import annotations

import ast
import bisect
import csv
import heapq
import inspect
import shlex
import textwrap
from functools import cache
from types import ModuleType

from hypothesis import given, settings
from hypothesis import strategies as st

from foldgym.envs.swe.making.faults import Fault, apply, combine, differs, reverse, sites

SOURCES: tuple[ModuleType, ...] = (bisect, csv, heapq, shlex, textwrap)


@cache
def found(number: int) -> tuple[bytes, list[Fault]]:
    source = inspect.getsource(SOURCES[number]).encode()
    return source, sites("lib/a.py", source)


def test_nearly_every_site_makes_another_program() -> None:
    source, faults = found(SOURCES.index(bisect))
    good = sum(differs(source, apply(source, fault.edits)) for fault in faults)
    assert len(faults) > 50
    assert good == len(faults)


@settings(max_examples=60)
@given(st.integers(0, len(SOURCES) - 1), st.data())
def test_a_fault_is_mended_by_its_reverse_byte_for_byte(number: int, data: st.DataObject) -> None:
    source, faults = found(number)
    fault = data.draw(st.sampled_from(faults))
    bad = apply(source, fault.edits)
    assert bad != source
    assert apply(bad, reverse(source, fault.edits)) == source
    if differs(source, bad):
        assert ast.dump(ast.parse(bad)) != ast.dump(ast.parse(source))


@settings(max_examples=60)
@given(st.integers(0, len(SOURCES) - 1), st.data())
def test_combined_faults_are_mended_too(number: int, data: st.DataObject) -> None:
    source, faults = found(number)
    some = data.draw(st.lists(st.sampled_from(faults), min_size=2, max_size=4))
    try:
        both = combine(some)
    except ValueError:
        return
    bad = apply(source, both.edits)
    assert apply(bad, reverse(source, both.edits)) == source


@settings(max_examples=60)
@given(st.integers(0, len(SOURCES) - 1))
def test_sites_are_the_same_every_time(number: int) -> None:
    source, faults = found(number)
    assert sites("lib/a.py", source) == faults
