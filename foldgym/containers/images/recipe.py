"""What goes into an image, and the tag that follows from it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any, TypeAlias

from foldgym.errors import UserError

_NAME = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*")
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+")
_PIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:\[[A-Za-z0-9._,-]+\])?==[A-Za-z0-9.!+_-]+")
_FORMAT = 1
"""Raised when the same recipe is built differently, so that old images are not taken for new."""


@dataclass(frozen=True, slots=True)
class Debian:
    """A Debian system made here by debootstrap: `Debian("bookworm")`."""

    suite: str = "bookworm"

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.suite):
            raise UserError(f"{self.suite!r} is no name of a Debian suite, such as bookworm")


Base: TypeAlias = "Recipe | Debian | str"


@dataclass(frozen=True, slots=True)
class Recipe:
    """What goes into an image, in this order; root does it, and nothing of it sees a network.

        Recipe(
            "toolz",
            base=PYTHON_TESTS,  # another recipe, Debian("bookworm"), or "registry/image:tag"
            debian=("gcc",),  # packages by name
            pip=("six==1.17.0",),  # pinned: the same recipe must mean the same image
            files={"/testbed/toolz.py": b"..."},  # those that begin with #! may be executed
            commands=("git -C /testbed init -q",),  # bash, each stopping at its first error
            environment={"TZ": "UTC"},
            user="box",  # whom commands of the finished image run as; "": the base's
        )

    `base` is made first if it is missing. Raises `UserError` for what cannot be built.
    """

    name: str
    base: Base = Debian()
    debian: tuple[str, ...] = ()
    pip: tuple[str, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    commands: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    user: str = ""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise UserError(f"{self.name!r} cannot name an image: use a-z, 0-9, and . _ - between")
        if self.base == "":
            raise UserError(f"recipe {self.name}: base='' is no image; leave it out for Debian")
        for kind, pattern, hint in (
            ("debian", _PACKAGE, "the name of a Debian package"),
            ("pip", _PIN, "pinned, as in pytest==8.4.2"),
        ):
            for text in getattr(self, kind):
                if not pattern.fullmatch(text):
                    raise UserError(f"recipe {self.name}: {kind} {text!r} is not {hint}")
        for path in self.files:
            parts = PurePosixPath(path).parts
            if not path.startswith("/") or ".." in parts or len(parts) < 2 or "\0" in path:
                raise UserError(f"recipe {self.name}: {path!r} is no absolute path of a file")
        for name, value in self.environment.items():
            if not (name.isidentifier() and name.isascii()) or "\0" in value:
                raise UserError(f"recipe {self.name}: {name}={value!r} is no environment variable")

    @property
    def variables(self) -> dict[str, str]:
        """The environment of the image: that of its bases, then its own."""
        below = self.base.variables if isinstance(self.base, Recipe) else {}
        return {**below, **self.environment}

    @property
    def root(self) -> Debian | str:
        """What the lowest recipe stands on."""
        return self.base.root if isinstance(self.base, Recipe) else self.base

    @property
    def runs_as(self) -> str:
        """The user of the image; empty if neither it nor a base says."""
        below = self.base.runs_as if isinstance(self.base, Recipe) else ""
        return self.user or below


def grounded(recipe: Recipe) -> Recipe:
    """The recipe with its Debian packages in the lowest layer, where debootstrap installs them.

    On a registry's image they stay where they are: that image brings its own package sources.
    """
    if isinstance(recipe.base, Recipe):
        base = grounded(recipe.base)
        if recipe.debian and isinstance(recipe.root, Debian):
            return replace(recipe, base=_with(base, recipe.debian), debian=())
        return replace(recipe, base=base)
    return replace(recipe, debian=tuple(sorted(set(recipe.debian))))


def _with(recipe: Recipe, packages: tuple[str, ...]) -> Recipe:
    if isinstance(recipe.base, Recipe):
        return replace(recipe, base=_with(recipe.base, packages))
    return replace(recipe, debian=tuple(sorted({*recipe.debian, *packages})))


def sheet(recipe: Recipe) -> dict[str, Any]:
    """All that goes in, as JSON; of files the SHA-256."""
    base = recipe.base
    if isinstance(base, Recipe):
        below: Any = sheet(base)
    else:
        below = {"debian": base.suite} if isinstance(base, Debian) else {"image": base}
    return {
        "format": _FORMAT,
        "base": below,
        "debian": list(recipe.debian),
        "pip": list(recipe.pip),
        "files": {
            path: hashlib.sha256(data).hexdigest() for path, data in sorted(recipe.files.items())
        },
        "commands": list(recipe.commands),
        "environment": dict(sorted(recipe.environment.items())),
        "user": recipe.user,
    }


def tag(recipe: Recipe) -> str:
    """`foldgym/base:3f09...`: the name, and 16 hex digits of the SHA-256 over all that goes in."""
    text = json.dumps(sheet(grounded(recipe)), sort_keys=True)
    return f"foldgym/{recipe.name}:{hashlib.sha256(text.encode()).hexdigest()[:16]}"
