"""Faults in expressions: operators, constants, conditions and what is returned.

The families are those of mutation testing and of SWE-smith's procedural operation changes.
"""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from foldgym.envs.swe.making.faults import Edit, Edits, Operator
from foldgym.envs.swe.making.places import Place

_COMPARISONS = {
    "<": ("<=", ">"),
    "<=": ("<", ">="),
    ">": (">=", "<"),
    ">=": (">", "<="),
    "==": ("!=",),
    "!=": ("==",),
    "is": ("is not",),
    "is not": ("is",),
    "in": ("not in",),
    "not in": ("in",),
}
_ARITHMETIC = {
    "+": ("-",),
    "-": ("+",),
    "*": ("+",),
    "/": ("*",),
    "//": ("*",),
    "%": ("//",),
    "**": ("*",),
    "<<": (">>",),
    ">>": ("<<",),
    "&": ("|",),
    "|": ("&",),
    "^": ("&",),
}
_TEXT = (cst.SimpleString, cst.FormattedString, cst.ConcatenatedString)


def _token(place: Place, node: cst.CSTNode, new: str) -> Edits:
    """Change the operator sign inside a span that may hold white space around it."""
    start, stop = place.span(node)
    text = place.source[start:stop]
    left = len(text) - len(text.lstrip())
    return (Edit(start + left, start + len(text.rstrip()), new.encode()),)


def _sign(place: Place, node: cst.CSTNode) -> str:
    return " ".join(place.text(node).decode().split())


def swap_comparison(place: Place, node: cst.CSTNode) -> Iterator[Edits]:
    """`a < b` becomes `a <= b`, or `a > b`; the others likewise."""
    if isinstance(node, cst.ComparisonTarget):
        for new in _COMPARISONS.get(_sign(place, node.operator), ()):
            yield _token(place, node.operator, new)


def swap_arithmetic(place: Place, node: cst.CSTNode) -> Iterator[Edits]:
    """`a + b` becomes `a - b`, `x += 1` becomes `x -= 1`; string literals stay as they are."""
    if isinstance(node, cst.BinaryOperation):
        if not isinstance(node.left, _TEXT) and not isinstance(node.right, _TEXT):
            for new in _ARITHMETIC.get(_sign(place, node.operator), ()):
                yield _token(place, node.operator, new)
    elif isinstance(node, cst.AugAssign) and not isinstance(node.value, _TEXT):
        for new in _ARITHMETIC.get(_sign(place, node.operator).removesuffix("="), ()):
            yield _token(place, node.operator, f"{new}=")


def swap_boolean(place: Place, node: cst.CSTNode) -> Iterator[Edits]:
    """`a and b` becomes `a or b`, and the other way round."""
    if isinstance(node, cst.BooleanOperation):
        yield _token(place, node.operator, {"and": "or", "or": "and"}[_sign(place, node.operator)])


def swap_operands(place: Place, node: cst.CSTNode) -> Iterator[Edits]:
    """`a - b` becomes `b - a`, `a < b` becomes `b < a`."""
    if isinstance(node, cst.BinaryOperation):
        left, right, sign = node.left, node.right, node.operator
    elif isinstance(node, cst.Comparison) and len(node.comparisons) == 1:
        left, right, sign = node.left, node.comparisons[0].comparator, node.comparisons[0].operator
    else:
        return
    if _sign(place, sign) in ("*", "&", "|", "^", "==", "!=", "is", "is not") or (
        isinstance(left, _TEXT) or isinstance(right, _TEXT)
    ):
        return
    yield place.put(node, place.whole(right) + place.whole(sign) + place.whole(left))


def break_chain(place: Place, node: cst.CSTNode) -> Iterator[Edits]:
    """`a + b + c` becomes `a + b`; `a and b` becomes `a`, or `b`."""
    if isinstance(node, cst.BinaryOperation) and isinstance(node.left, cst.BinaryOperation):
        yield place.put(node, place.whole(node.left))
    elif isinstance(node, cst.BooleanOperation):
        yield place.put(node, place.whole(node.left))
        yield place.put(node, place.whole(node.right))


def negate_condition(place: Place, node: cst.CSTNode) -> Iterator[Edits]:
    """`if a:` becomes `if not a:`; also of `while` and of `x if a else y`."""
    if not isinstance(node, cst.If | cst.While | cst.IfExp):
        return
    test = node.test
    if isinstance(test, cst.UnaryOperation) and isinstance(test.operator, cst.Not):
        yield place.put(test, place.whole(test.expression))
    elif isinstance(test, cst.Name | cst.Attribute | cst.Call | cst.Subscript):
        yield place.put(test, b"not " + place.text(test))
    else:
        yield place.put(test, b"not (" + place.text(test) + b")")


def change_constant(place: Place, node: cst.CSTNode) -> Iterator[Edits]:
    """`1` becomes `2`, or `0`; `0.5` becomes `1.5`; `True` becomes `False`."""
    if isinstance(node, cst.Integer):
        value = node.evaluated_value
        yield place.put(node, str(value + 1).encode())
        if value > 0:
            yield place.put(node, str(value - 1).encode())
    elif isinstance(node, cst.Float):
        yield place.put(node, repr(node.evaluated_value + 1.0).encode())
    elif isinstance(node, cst.Name) and node.value in ("True", "False"):
        yield place.put(node, b"False" if node.value == "True" else b"True")


def return_none(place: Place, node: cst.CSTNode) -> Iterator[Edits]:
    """`return value` becomes `return None`."""
    value = node.value if isinstance(node, cst.Return) else None
    if value is not None and place.whole(value) != b"None":
        yield place.put(node, b"return None")


def drop_argument(place: Place, node: cst.CSTNode) -> Iterator[Edits]:
    """`f(a, key=b)` becomes `f(a)`: the last keyword argument is forgotten."""
    if not isinstance(node, cst.Call) or len(node.args) < 2 or not place.in_function(node):
        return
    last, before = node.args[-1], node.args[-2]
    if last.keyword is not None:
        yield (Edit(place.span(before)[1], place.span(last)[1], b""),)


OPERATORS: dict[str, Operator] = {
    "swap_comparison": swap_comparison,
    "swap_arithmetic": swap_arithmetic,
    "swap_boolean": swap_boolean,
    "swap_operands": swap_operands,
    "break_chain": break_chain,
    "negate_condition": negate_condition,
    "change_constant": change_constant,
    "return_none": return_none,
    "drop_argument": drop_argument,
}
