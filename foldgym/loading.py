"""A user's Python file as a module: run once per process, under the same name in every process."""

from __future__ import annotations

import importlib.util
import sys
import threading
from hashlib import blake2b
from pathlib import Path
from types import ModuleType

from foldgym.errors import DataError

_lock = threading.RLock()  # environments are made in threads: none may see a module half run
_files: dict[str, str] = {}


def load_file(path: str | Path) -> ModuleType:
    """The module of `path/to/file.py`; its own exceptions propagate and leave nothing behind.

    The name holds a digest of the full path, so what the file defines can be pickled. Raises
    `DataError` if there is no such file.
    """
    full = Path(path).expanduser().resolve()
    if not full.is_file():
        raise DataError(f"there is no file {str(path)!r}")
    digest = blake2b(str(full).encode(), digest_size=6).hexdigest()
    name = f"foldgym_file_{full.stem}_{digest}"
    with _lock:
        if name in sys.modules:
            return sys.modules[name]
        found = importlib.util.spec_from_file_location(name, full)
        if found is None or found.loader is None:
            raise DataError(f"{str(path)!r} cannot be loaded as Python")
        module = importlib.util.module_from_spec(found)
        sys.modules[name] = module
        _files[name] = str(full)
        try:
            found.loader.exec_module(module)
        except BaseException:
            del sys.modules[name], _files[name]
            raise
        return module


def file_of(module: str) -> str | None:
    """The file behind a module that `load_file` made."""
    return _files.get(module)
