"""Images for tests: the base image, made once per machine, and an engine to ask."""

from __future__ import annotations

from typing import Any

import pytest

from foldgym.containers.images import BASE, PYTHON_TESTS, build, find
from foldgym.containers.images.engine import connect
from foldgym.errors import UserError

MAKE = "foldgym images build base"


def no_docker() -> str:
    """Why tests marked docker cannot run here; empty if they can."""
    try:
        return "" if find(BASE, "docker") else f"the base image is missing: {MAKE}"
    except UserError as problem:
        return str(problem)


@pytest.fixture(scope="session")
def engine() -> Any:
    """A client of the Docker engine; for tests marked docker."""
    return connect()


@pytest.fixture(scope="session")
def base_image() -> str:
    """The tag of the base image; for tests marked docker."""
    return build(BASE, "docker")


@pytest.fixture(scope="session")
def test_image() -> str:
    """The tag of the image with pytest, made in a few seconds if it is missing; marked docker."""
    return build(PYTHON_TESTS, "docker")


@pytest.fixture(scope="session")
def base_tree() -> str:
    """The folder of the base tree, for bubblewrap boxes; skips where it is missing."""
    folder = find(BASE, "bubblewrap")
    if not folder:
        pytest.skip(f"the base tree is missing: {MAKE} --backend bubblewrap")
    return folder
