"""Optional packages: imported where they are used, and given text that they can take."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import Any

from foldgym.errors import MissingExtra


def optional(module: str, what: str, extra: str) -> Any:
    """The module. Raises `MissingExtra`, which names the command that installs it."""
    try:
        return import_module(module)
    except ImportError:
        raise MissingExtra(what, extra) from None


def installed(package: str) -> str:
    """Its version."""
    return version(package)


def encodable(text: str) -> str:
    """The text with "?" for lone surrogates, which JSON can carry and UTF-8 cannot."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
