"""Images: what a box's programs and files are, written as recipes and made on this machine."""

from foldgym.containers.images.build import BACKENDS, build, find, missing, unavailable
from foldgym.containers.images.builtin import BASE, PYTHON_TESTS, RECIPES
from foldgym.containers.images.listing import Made, made, remove
from foldgym.containers.images.recipe import Debian, Recipe, grounded, sheet, tag

__all__ = [
    "BACKENDS",
    "BASE",
    "PYTHON_TESTS",
    "RECIPES",
    "Debian",
    "Made",
    "Recipe",
    "build",
    "find",
    "grounded",
    "made",
    "missing",
    "remove",
    "sheet",
    "tag",
    "unavailable",
]
