"""What each data set calls the image of a task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ImageRule:
    """`ImageRule("me/sweb.{id}:latest", "_1776_")`: `{id}` is the task's, with `__` replaced."""

    template: str
    underscores: str = "__"

    def __call__(self, id: str) -> str:
        """The image's name; lower case, as registries want it."""
        return self.template.replace("{id}", id.replace("__", self.underscores)).lower()


IMAGE_RULES: Mapping[str, ImageRule] = {
    "swe-bench": ImageRule("swebench/sweb.eval.x86_64.{id}:latest", "_1776_"),
    "swe-gym": ImageRule("xingyaoww/sweb.eval.x86_64.{id}:latest", "_s_"),
    "swe-rebench": ImageRule("swerebench/sweb.eval.x86_64.{id}:latest", "_1776_"),
}
"""Where a row names its image itself, that is taken. The first was compared with the swebench
wheel, the others were not seen at work."""
