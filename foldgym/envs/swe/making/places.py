"""Where the nodes of a source file stand, in bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import libcst as cst
from libcst.metadata import ByteSpanPositionProvider, MetadataWrapper

from foldgym.envs.swe.making.faults import Edit
from foldgym.errors import DataError

_GUARDS = (b"__name__", b"TYPE_CHECKING", b"sys.version_info")


@dataclass(frozen=True, slots=True)
class Place:
    """A parsed file. Spans leave out parentheses, decorators, comments and the last newline."""

    path: str
    source: bytes
    module: cst.Module
    spans: dict[cst.CSTNode, tuple[int, int]] = field(repr=False)
    parents: dict[cst.CSTNode, cst.CSTNode] = field(repr=False)

    @classmethod
    def of(cls, path: str, source: bytes) -> Place:
        """Raises `DataError` if the source does not parse."""
        try:
            module = cst.parse_module(source)
        except (cst.ParserSyntaxError, UnicodeDecodeError, RecursionError) as problem:
            said = " ".join(str(problem).split())[:200]
            raise DataError(f"{path} cannot be read as Python: {said}") from None
        if module.encoding.lower().replace("-", "") not in ("utf8", "ascii", "usascii"):
            raise DataError(f"{path} is written in {module.encoding}; only UTF-8 can be changed")
        wrapper = MetadataWrapper(module, unsafe_skip_copy=True)
        found = wrapper.resolve(ByteSpanPositionProvider)
        spans = {node: (span.start, span.start + span.length) for node, span in found.items()}
        parents: dict[cst.CSTNode, cst.CSTNode] = {}
        waiting: list[cst.CSTNode] = [module]
        while waiting:
            node = waiting.pop()
            for child in node.children:
                parents[child] = node
                waiting.append(child)
        return cls(path, source, module, spans, parents)

    def nodes(self) -> list[cst.CSTNode]:
        """Every node that an operator may look at, in the order of the file.

        Left out: the guarded parts of a module that depend on who imports it or on the Python
        version, and annotations, for neither changes what the tests see.
        """
        found: list[cst.CSTNode] = []
        waiting: list[cst.CSTNode] = [self.module]
        while waiting:
            node = waiting.pop()
            if isinstance(node, cst.Annotation):
                continue
            if isinstance(node, cst.If) and any(word in self.text(node.test) for word in _GUARDS):
                continue
            found.append(node)
            waiting.extend(reversed(node.children))
        return found

    def span(self, node: cst.CSTNode) -> tuple[int, int]:
        """Its first byte and the one after its last."""
        return self.spans[node]

    def text(self, node: cst.CSTNode) -> bytes:
        """The bytes of its span."""
        start, stop = self.spans[node]
        return self.source[start:stop]

    def whole(self, node: cst.CSTNode) -> bytes:
        """Its text with its own parentheses."""
        return self.module.code_for_node(node).encode()

    def put(self, node: cst.CSTNode, text: bytes) -> tuple[Edit, ...]:
        """The fault that puts `text` where the node's span was."""
        return (Edit(*self.spans[node], text),)

    def name(self, node: cst.CSTNode) -> str:
        """The functions and classes around it, dotted."""
        names: list[str] = []
        current: cst.CSTNode | None = node
        while current is not None:
            if isinstance(current, cst.FunctionDef | cst.ClassDef):
                names.append(current.name.value)
            current = self.parents.get(current)
        return ".".join(reversed(names))

    def in_function(self, node: cst.CSTNode) -> bool:
        """Whether it runs when something is called, and not already on import."""
        current = self.parents.get(node)
        while current is not None:
            if isinstance(current, cst.FunctionDef | cst.Lambda):
                return True
            current = self.parents.get(current)
        return False

    # ------------------------------------------------------------ statements

    def siblings(self, node: cst.CSTNode) -> Sequence[cst.CSTNode]:
        """The statements of the block that holds this one; empty if it stands in no block."""
        parent = self.parents.get(node)
        return parent.body if isinstance(parent, cst.IndentedBlock) else ()

    def indent(self, node: cst.CSTNode) -> bytes:
        """The white space before a statement that begins a line."""
        start = self.spans[node][0]
        return self.source[self.source.rfind(b"\n", 0, start) + 1 : start]

    def lines(self, node: cst.CSTNode, first: cst.CSTNode | None = None) -> tuple[int, int]:
        """The whole lines of a statement, from `first` (its decorator) if there is one."""
        start, stop = self.spans[first or node][0], self.spans[node][1]
        end = self.source.find(b"\n", stop)
        return self.source.rfind(b"\n", 0, start) + 1, len(self.source) if end < 0 else end + 1

    def remove(self, node: cst.CSTNode, first: cst.CSTNode | None = None) -> tuple[Edit, ...]:
        """The fault that takes a statement away; `pass` stays where a block would be empty."""
        others = [each for each in self.siblings(node) if each is not node]
        if any(not is_docstring(each) for each in others):
            return (Edit(*self.lines(node, first), b""),)
        return (Edit(self.spans[first or node][0], self.spans[node][1], b"pass"),)


def is_docstring(node: cst.CSTNode) -> bool:
    """Whether a statement is nothing but a string."""
    return (
        isinstance(node, cst.SimpleStatementLine)
        and len(node.body) == 1
        and isinstance(node.body[0], cst.Expr)
        and isinstance(node.body[0].value, cst.SimpleString | cst.ConcatenatedString)
    )
