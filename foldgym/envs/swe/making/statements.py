"""Faults in statements: something is missing, in the wrong order, or on the wrong branch.

The families are SWE-smith's procedural ones. Its shuffling of methods is left out: the order of
methods changes no behaviour, so no test could fail.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import libcst as cst

from foldgym.envs.swe.making.faults import Edit, Edits, Operator
from foldgym.envs.swe.making.places import Place, is_docstring


def remove_conditional(place: Place, node: cst.CSTNode) -> Iterator[Edits]:
    """An `if` is gone with all its branches."""
    if isinstance(node, cst.If) and place.siblings(node):
        yield place.remove(node)


def remove_else(place: Place, node: cst.CSTNode) -> Iterator[Edits]:
    """The `else` or `elif` of an `if` is gone, and what follows it."""
    if isinstance(node, cst.If) and node.orelse is not None:
        start = place.source.rfind(b"\n", 0, place.span(node.orelse)[0])
        yield (Edit(start, place.span(node.orelse)[1], b""),)


def invert_branches(place: Place, node: cst.CSTNode) -> Iterator[Edits]:
    """The two branches of an `if` with an `else` change places."""
    if (
        isinstance(node, cst.If)
        and isinstance(node.orelse, cst.Else)
        and isinstance(node.body, cst.IndentedBlock)
        and isinstance(node.orelse.body, cst.IndentedBlock)
    ):
        first, second = node.body, node.orelse.body
        yield (*place.put(first, place.text(second)), *place.put(second, place.text(first)))


def remove_loop(place: Place, node: cst.CSTNode) -> Iterator[Edits]:
    """A `for` or `while` is gone."""
    if isinstance(node, cst.For | cst.While) and place.siblings(node):
        yield place.remove(node)


def remove_assignment(place: Place, node: cst.CSTNode) -> Iterator[Edits]:
    """An assignment is gone, alone on its line and inside a function."""
    if (
        isinstance(node, cst.SimpleStatementLine)
        and len(node.body) == 1
        and isinstance(node.body[0], cst.Assign | cst.AugAssign | cst.AnnAssign)
        and place.siblings(node)
        and place.in_function(node)
    ):
        yield place.remove(node)


def remove_call(place: Place, node: cst.CSTNode) -> Iterator[Edits]:
    """A call whose result nobody takes is gone, inside a function."""
    if (
        isinstance(node, cst.SimpleStatementLine)
        and len(node.body) == 1
        and isinstance(node.body[0], cst.Expr)
        and isinstance(node.body[0].value, cst.Call)
        and place.siblings(node)
        and place.in_function(node)
    ):
        yield place.remove(node)


def remove_wrapper(place: Place, node: cst.CSTNode) -> Iterator[Edits]:
    """The body of a `with` or `try` stands bare: no context is entered, nothing is caught."""
    if not isinstance(node, cst.With | cst.Try) or not place.siblings(node):
        return
    block = node.body
    if not isinstance(block, cst.IndentedBlock) or b'"""' in place.text(block):
        return  # what is inside a long string must not lose its indentation
    extra = len(place.indent(block.body[0])) - len(place.indent(node))
    yield place.put(node, _dedent(place.text(block), extra))


def _dedent(text: bytes, width: int) -> bytes:
    """Every line but the first loses up to `width` blanks."""
    first, *rest = text.split(b"\n")
    return b"\n".join(
        [first, *(line[min(width, len(line) - len(line.lstrip(b" \t"))) :] for line in rest)]
    )


def swap_statements(place: Place, node: cst.CSTNode) -> Iterator[Edits]:
    """Two neighbouring statements of a function change places."""
    if not isinstance(node, cst.IndentedBlock) or not place.in_function(node):
        return
    body: Sequence[cst.CSTNode] = node.body
    for first, second in pairwise(body):
        if is_docstring(first) or _ends(second) or _ends(first):
            continue
        if isinstance(first, cst.FunctionDef | cst.ClassDef):
            continue  # its decorators stand outside its span
        if isinstance(second, cst.FunctionDef | cst.ClassDef):
            continue
        yield (*place.put(first, place.text(second)), *place.put(second, place.text(first)))


def _ends(node: cst.CSTNode) -> bool:
    """Whether nothing after it would run."""
    return isinstance(node, cst.SimpleStatementLine) and isinstance(
        node.body[-1], cst.Return | cst.Raise | cst.Break | cst.Continue
    )


def remove_base(place: Place, node: cst.CSTNode) -> Iterator[Edits]:
    """A class loses one of its bases."""
    if not isinstance(node, cst.ClassDef):
        return
    for number, base in enumerate(node.bases):
        if len(node.bases) == 1 and not node.keywords:
            before = place.span(node.name)[1]
            after = place.source.find(b")", place.span(base)[1])
            yield (Edit(before, after + 1, b""),)
        elif number:
            yield (Edit(place.span(node.bases[number - 1])[1], place.span(base)[1], b""),)
        else:
            other = node.bases[1] if len(node.bases) > 1 else node.keywords[0]
            yield (Edit(place.span(base)[0], place.span(other)[0], b""),)


def remove_method(place: Place, node: cst.CSTNode) -> Iterator[Edits]:
    """A class loses a method."""
    if not isinstance(node, cst.FunctionDef):
        return
    block = place.parents.get(node)
    if block is not None and isinstance(place.parents.get(block), cst.ClassDef):
        yield place.remove(node, node.decorators[0] if node.decorators else None)


def empty_body(place: Place, node: cst.CSTNode) -> Iterator[Edits]:
    """A function does nothing; its docstring stays."""
    if not isinstance(node, cst.FunctionDef) or not isinstance(node.body, cst.IndentedBlock):
        return
    body = node.body.body
    kept = 1 if is_docstring(body[0]) else 0
    if len(body) > kept:
        start = place.span(body[kept])[0]
        first = body[kept]
        if isinstance(first, cst.FunctionDef | cst.ClassDef) and first.decorators:
            start = place.span(first.decorators[0])[0]
        yield (Edit(start, place.span(body[-1])[1], b"pass"),)


OPERATORS: dict[str, Operator] = {
    "remove_conditional": remove_conditional,
    "remove_else": remove_else,
    "invert_branches": invert_branches,
    "remove_loop": remove_loop,
    "remove_assignment": remove_assignment,
    "remove_call": remove_call,
    "remove_wrapper": remove_wrapper,
    "swap_statements": swap_statements,
    "remove_base": remove_base,
    "remove_method": remove_method,
    "empty_body": empty_body,
}
