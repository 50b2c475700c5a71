"""Screens of our own: coloured shapes at drawn places, for trying things out without any data."""

from __future__ import annotations

import io
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from foldgym.envs.grounding.steps import Box, GuiStep
from foldgym.errors import MissingExtra

WIDTH, HEIGHT, CELL = 320, 240, 40
COLOURS = {
    "red": (214, 40, 40),
    "green": (46, 139, 64),
    "blue": (38, 84, 214),
    "yellow": (240, 200, 20),
    "purple": (130, 50, 160),
    "black": (25, 25, 25),
}
SHAPES = ("square", "circle", "triangle")


@dataclass(frozen=True, slots=True)
class Shape:
    """`Shape("red", "circle", (40, 80, 69, 109))`."""

    colour: str
    kind: str
    box: Box

    def __str__(self) -> str:
        left, top, right, bottom = (int(edge) for edge in self.box)
        return f"{self.colour} {self.kind} [{left}, {top}, {right}, {bottom}]"


def draw_step(rng: random.Random, count: int) -> tuple[GuiStep, list[Shape]]:
    """A screen of `count` different shapes, at most 18, and one of them to be clicked."""
    looks = [(colour, kind) for colour in COLOURS for kind in SHAPES]
    cells = [(x, y) for x in range(0, WIDTH, CELL) for y in range(0, HEIGHT, CELL)]
    shapes: list[Shape] = []
    chosen = zip(rng.sample(looks, count), rng.sample(cells, count), strict=True)
    for (colour, kind), (x, y) in chosen:
        side = rng.randint(16, 30)
        left, top = x + rng.randint(2, CELL - side - 2), y + rng.randint(2, CELL - side - 2)
        shapes.append(Shape(colour, kind, (left, top, left + side - 1, top + side - 1)))
    wanted = rng.choice(shapes)
    name = ";".join(map(str, shapes)) + f";{wanted.colour} {wanted.kind}"
    asked = f"Click the {wanted.colour} {wanted.kind}."
    return GuiStep(name, asked, paint(shapes), box=wanted.box, size=(WIDTH, HEIGHT)), shapes


def paint(shapes: Sequence[Shape]) -> bytes:
    """A PNG of the shapes on white. Raises `MissingExtra` without Pillow."""
    image = pillow("Image").new("RGB", (WIDTH, HEIGHT), (255, 255, 255))
    pen = pillow("ImageDraw").Draw(image)
    for shape in shapes:
        left, top, right, bottom = shape.box
        fill = COLOURS[shape.colour]
        if shape.kind == "square":
            pen.rectangle(shape.box, fill=fill)
        elif shape.kind == "circle":
            pen.ellipse(shape.box, fill=fill)
        else:
            pen.polygon([((left + right) / 2, top), (right, bottom), (left, bottom)], fill=fill)
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def pillow(module: str) -> Any:
    """A module of Pillow. Raises `MissingExtra`."""
    from importlib import import_module

    try:
        return import_module(f"PIL.{module}")
    except ModuleNotFoundError as problem:
        raise MissingExtra("foldgym/Grounding-v0", "browser") from problem
