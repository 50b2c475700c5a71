"""A program that prints what the standard library documents, for a fresh interpreter to run.

It imports nothing of foldgym and is started with `python -I -S`, because packages that are already
imported patch the library (a well-known one adds methods to `logging.Logger`), and because
importing four hundred modules should not change the process that asks.

A symbol is a public class, exception, function or method, found in the module that defines it, or
that publishes it in `__all__` when the defining module is private.
"""

from __future__ import annotations

import importlib
import inspect
import io
import json
import pkgutil
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from types import ModuleType
from typing import Any

DENIED = frozenset(
    (
        # windows and consoles
        *("idlelib", "tkinter", "turtle", "turtledemo", "curses", "readline", "rlcompleter"),
        # importing them prints, opens a browser or changes the process
        *("antigravity", "this", "site", "test"),
        # bound to one platform; `posix` and `nt` are documented as `os`
        *("msilib", "msvcrt", "nt", "posix", "winreg", "winsound", "ossaudiodev", "nis"),
        *("crypt", "spwd", "asyncio.windows_events", "asyncio.windows_utils", "dbm.gnu"),
        *("dbm.ndbm", "ctypes.macholib", "ctypes.wintypes", "multiprocessing.popen_fork"),
        *("multiprocessing.popen_forkserver", "multiprocessing.popen_spawn_posix"),
        "multiprocessing.popen_spawn_win32",
        # deprecated and gone from later versions
        *("asynchat", "asyncore", "distutils", "imp", "lib2to3", "smtpd"),
        # programs, tables and generated code
        *("ensurepip", "venv", "pydoc_data", "encodings", "opcode", "sre_compile"),
        *("sre_constants", "sre_parse", "symbol", "token", "xml.etree.cElementTree"),
    )
)


Row = tuple[str, str, tuple[str, ...], str, tuple[str, ...], tuple[str, ...], str]
"""Name, kind, homes, owner, bases, parameters and summary of one symbol, as in `Symbol`."""


def introspect() -> list[Row]:
    """Every documented symbol, in no order that means anything."""
    modules: dict[str, ModuleType] = {}
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        for name in sorted(sys.stdlib_module_names):
            modules.update(_import_tree(name))
        members: dict[tuple[str, str], Any] = {}
        homes: dict[tuple[str, str], list[str]] = {}
        for module_name, module in modules.items():
            for name, member in sorted(vars(module).items()):
                if _owns(module_name, module, name, member, modules):
                    key = (str(member.__module__), name)
                    members[key] = member
                    homes.setdefault(key, []).append(module_name)
        return [
            row
            for key, member in members.items()
            for row in _describe(key[1], member, tuple(homes[key]))
        ]


def _import_tree(name: str) -> Iterator[tuple[str, ModuleType]]:
    last = name.rpartition(".")[2]
    if name in DENIED or last in ("test", "tests") or last.startswith("_"):
        return
    try:
        module = importlib.import_module(name)
    except ImportError:  # an optional part of the library that this build lacks
        return
    yield name, module
    for _, child, _ in pkgutil.iter_modules(getattr(module, "__path__", ())):
        yield from _import_tree(f"{name}.{child}")


def _owns(
    module_name: str, module: ModuleType, name: str, member: Any, modules: dict[str, ModuleType]
) -> bool:
    """Whether the member is defined here, or defined privately and published here by `__all__`."""
    if name.startswith("_") or not (inspect.isclass(member) or inspect.isroutine(member)):
        return False
    if getattr(member, "__name__", None) != name:
        return False
    defined_in = getattr(member, "__module__", None)
    if defined_in in modules:
        return defined_in == module_name
    return isinstance(defined_in, str) and name in getattr(module, "__all__", ())


def _describe(name: str, member: Any, homes: tuple[str, ...]) -> Iterator[Row]:
    """The member itself and, if it is a class, the methods that its own body defines."""
    summary = summarise(member.__doc__, name)
    if not inspect.isclass(member):
        yield name, "function", homes, "", (), _parameters(member), summary
        return
    kind = "exception" if issubclass(member, BaseException) else "class"
    bases = tuple(base.__name__ for base in member.__bases__ if base is not object)
    yield name, kind, homes, "", bases, _parameters(member), summary
    for own, value in sorted(vars(member).items()):
        method = getattr(value, "__func__", value)  # unwraps class and static methods
        if not own.startswith("_") and inspect.isroutine(method):
            summary = summarise(method.__doc__, own)
            yield own, "method", homes, name, (), _parameters(method), summary


def _parameters(member: Any) -> tuple[str, ...]:
    try:
        signature = inspect.signature(member)
    except (TypeError, ValueError):  # implemented in C without a text signature
        return ()
    given = (name.strip("_") for name in signature.parameters)
    return tuple(name for name in given if name not in ("self", "cls", "args", "kwargs", ""))


def summarise(doc: str | None, name: str, limit: int = 60) -> str:
    """The first line of prose in a docstring, cut between words to at most `limit` characters.

    Signature lines, which C functions put first, are passed over. Empty without a docstring.
    """
    for line in (doc or "").splitlines():
        text = " ".join(re.sub(r"[^\x20-\x7e]|[`*<>|]", " ", line).split())
        if any(map(str.isalpha, text)) and not re.match(rf"(\w+\.)*{re.escape(name)} ?\(", text):
            words = text.rstrip(".").split()
            while len(" ".join(words)) > limit:
                words.pop()
            return " ".join(words)
    return ""


if __name__ == "__main__":
    rows = introspect()
    sys.stdout.write(json.dumps(rows))
