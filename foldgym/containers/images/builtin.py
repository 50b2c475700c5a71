"""The recipes that come with foldgym."""

from __future__ import annotations

from foldgym.containers.images.recipe import Recipe

BASE = Recipe(
    "base",
    debian=("ca-certificates", "git", "patch", "procps", "python3", "python3-pip", "python3-venv"),
    commands=(
        "useradd --create-home --shell /bin/bash box && install -d -o box -g box /work",
        "ln -s python3 /usr/bin/python",
        "git config --system user.name box && git config --system user.email box@localhost "
        "&& git config --system safe.directory '*' && git config --system init.defaultBranch main",
    ),
    environment={"LANG": "C.UTF-8", "TZ": "UTC", "PYTHONHASHSEED": "0"},
    user="box",
)
"""Debian with Python, bash, git and patch, and a user who is not root."""

PYTHON_TESTS = Recipe("python-tests", base=BASE, pip=("pytest==8.4.2",))
"""`BASE` with pytest."""

RECIPES = {recipe.name: recipe for recipe in (BASE, PYTHON_TESTS)}
