"""Each operator on a few lines, written down by hand; and what choosing and combining promise."""

from __future__ import annotations

import pytest

from foldgym.envs.swe.making.faults import (
    Edit,
    apply,
    choose,
    combine,
    differs,
    operators,
    patch,
    reverse,
    sites,
)
from foldgym.errors import DataError

TABLE: dict[str, tuple[str, list[str]]] = {
    "swap_comparison": ("a = b < c\n", ["a = b <= c\n", "a = b > c\n"]),
    "swap_arithmetic": (
        "a = (b  + c)\nd %= 2\n",
        ["a = (b  - c)\nd %= 2\n", "a = (b  + c)\nd //= 2\n"],
    ),
    "swap_boolean": ("a = b and c\n", ["a = b or c\n"]),
    "swap_operands": ("a = (b + 1) - c * d\n", ["a = c * d - (b + 1)\n", "a = (1 + b) - c * d\n"]),
    "break_chain": (
        "a = b + c + d\ne = f or g\n",
        ["a = b + c\ne = f or g\n", "a = b + c + d\ne = f\n", "a = b + c + d\ne = g\n"],
    ),
    "negate_condition": (
        "if a == 1:\n    b = c if not d else e\n",
        ["if not (a == 1):\n    b = c if not d else e\n", "if a == 1:\n    b = c if d else e\n"],
    ),
    "change_constant": (
        "a = 1\nb = True\nc = 0.5\n",
        [
            "a = 2\nb = True\nc = 0.5\n",
            "a = 0\nb = True\nc = 0.5\n",
            "a = 1\nb = False\nc = 0.5\n",
            "a = 1\nb = True\nc = 1.5\n",
        ],
    ),
    "return_none": (
        "def f(a):\n    return a  # why\n",
        ["def f(a):\n    return None  # why\n"],
    ),
    "drop_argument": (
        "def f(a):\n    g(a, b=(1))\n    g(a)\n",
        ["def f(a):\n    g(a)\n    g(a)\n"],
    ),
    "remove_conditional": (
        "def f(a):\n    if a:\n        return 1\n    elif b:\n        return 2\n    return 3\n",
        ["def f(a):\n    return 3\n"],
    ),
    "remove_else": (
        "if a:\n    b = 1\nelse:\n    b = 2\nc = 3\n",
        ["if a:\n    b = 1\nc = 3\n"],
    ),
    "invert_branches": (
        "if a:\n    b = 1\n    d = 1\nelse:\n    b = 2\nc = 3\n",
        ["if a:\n    b = 2\nelse:\n    b = 1\n    d = 1\nc = 3\n"],
    ),
    "remove_loop": (
        "def f(a):\n    '''Doc.'''\n    for b in a:\n        g(b)\n",
        ["def f(a):\n    '''Doc.'''\n    pass\n"],
    ),
    "remove_assignment": (
        "x = 1\ndef f(a):\n    b = a\n    return b\n",
        ["x = 1\ndef f(a):\n    return b\n"],
    ),
    "remove_call": ("def f(a):\n    g(a)\n    return a\n", ["def f(a):\n    return a\n"]),
    "remove_wrapper": (
        "def f(a):\n    with a:\n        g(1)\n        if a:\n            g(2)\n    return a\n",
        ["def f(a):\n    g(1)\n    if a:\n        g(2)\n    return a\n"],
    ),
    "swap_statements": (
        "def f(a):\n    b = 1  # one\n    g(b)\n    return b\n",
        ["def f(a):\n    g(b)  # one\n    b = 1\n    return b\n"],
    ),
    "remove_base": (
        "class A(B, C):\n    x = 1\nclass D(E):\n    x = 1\n",
        [
            "class A(C):\n    x = 1\nclass D(E):\n    x = 1\n",
            "class A(B):\n    x = 1\nclass D(E):\n    x = 1\n",
            "class A(B, C):\n    x = 1\nclass D:\n    x = 1\n",
        ],
    ),
    "remove_method": (
        "class A:\n    x = 1\n    @p\n    def f(self):\n        return 1\n    y = 2\n",
        ["class A:\n    x = 1\n    y = 2\n"],
    ),
    "empty_body": (
        "def f(a):\n    '''Doc.'''\n    b = a\n    return b\n",
        ["def f(a):\n    '''Doc.'''\n    pass\n"],
    ),
}


def test_every_operator_is_in_the_table() -> None:
    assert set(TABLE) == set(operators())


@pytest.mark.parametrize("name", TABLE)
def test_an_operator_makes_exactly_these_changes(name: str) -> None:
    before, after = TABLE[name]
    found = sites("a.py", before.encode(), [name])
    assert [apply(before.encode(), fault.edits).decode() for fault in found] == after
    assert all(differs(before.encode(), each.encode()) for each in after)


def test_a_fault_knows_its_line_and_the_names_around_it() -> None:
    source = b"class A:\n    def f(self):\n        return 1\n"
    [fault] = sites("pkg/a.py", source, ["return_none"])
    assert (fault.path, fault.name, fault.line) == ("pkg/a.py", "A.f", 3)


def test_guards_and_annotations_are_left_alone() -> None:
    source = b"if __name__ == '__main__':\n    main(1)\ndef f(a: L[1]) -> T[2]:\n    return a\n"
    assert sites("a.py", source, ["change_constant", "negate_condition"]) == []


def test_unreadable_sources_and_operators_are_refused() -> None:
    with pytest.raises(DataError, match=r"bad\.py cannot be read as Python"):
        sites("bad.py", b"def (:\n")
    with pytest.raises(DataError, match="iso-8859-1"):
        sites("old.py", b"# -*- coding: iso-8859-1 -*-\nx = 1\n")
    with pytest.raises(DataError, match="no operator 'swap'"):
        sites("a.py", b"x = 1\n", ["swap"])


def test_edits_apply_together_and_are_undone() -> None:
    edits = (Edit(4, 5, b"22"), Edit(0, 1, b""))
    changed = apply(b"a = 1\n", edits)
    assert changed == b" = 22\n"
    assert apply(changed, reverse(b"a = 1\n", edits)) == b"a = 1\n"
    with pytest.raises(ValueError, match="overlaps"):
        apply(b"a = 1\n", (Edit(0, 3, b""), Edit(2, 4, b"")))


def test_operators_take_turns_and_the_seed_decides() -> None:
    source = b"a = 1\nb = 2\nc = 3\nd = 4\ne = f < g\n"
    found = sites("a.py", source)
    assert [fault.operator for fault in choose(found, 0)[:3]].count("change_constant") == 1
    assert choose(found, 0) == choose(found, 0)
    assert choose(found, 0) != choose(found, 1)
    assert sorted(map(repr, choose(found, 3))) == sorted(map(repr, found))


def test_faults_of_one_file_are_combined_unless_they_overlap() -> None:
    source = b"a = 1\nb = c < d\n"
    one, _ = sites("a.py", source, ["change_constant"])
    two, three = sites("a.py", source, ["swap_comparison"])
    both = combine([one, two])
    assert apply(source, both.edits) == b"a = 2\nb = c <= d\n"
    assert both.operator == "change_constant+swap_comparison"
    with pytest.raises(ValueError, match="overlap"):
        combine([two, three])
    other = sites("b.py", source, ["swap_comparison"])[0]
    with pytest.raises(ValueError, match="2 files"):
        combine([one, other])


def test_a_patch_is_gits() -> None:
    assert patch("p/a.py", b"a = 1\n", b"a = 1\n") == ""
    assert patch("p/a.py", b"a\x0cb\nc", b"a\x0cb\nd") == (
        "diff --git a/p/a.py b/p/a.py\n--- a/p/a.py\n+++ b/p/a.py\n@@ -1,2 +1,2 @@\n a\x0cb\n-c\n"
        "\\ No newline at end of file\n+d\n\\ No newline at end of file\n"
    )
