"""`Grounding`: a screen, an instruction, an action that is judged; one of them, or several."""

from __future__ import annotations

import io
import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

from foldgym.envs.base import ToolEnv
from foldgym.envs.games import split_of
from foldgym.envs.grounding.answers import READERS
from foldgym.envs.grounding.drawn import Shape, draw_step, pillow
from foldgym.envs.grounding.formats import read_steps
from foldgym.envs.grounding.steps import NEAR, PLACED, GuiStep, Point, Said, judge
from foldgym.envs.long.splits import drawn
from foldgym.errors import DataError, UnknownName, UserError
from foldgym.rewards.gui import PARTS
from foldgym.tools import call, tool
from foldgym.types import (
    Action,
    Content,
    Image,
    Json,
    Message,
    Observation,
    Step,
    Task,
    Tool,
)

Split = Literal["train", "val", "test", "all"]
Shows = Literal["image", "text", "both"]
Units = Literal["pixels", "unit", "thousand"]
FORMATS = ("tools", *READERS)
SPLITS, SHOWS, UNITS = (
    ("train", "val", "test", "all"),
    ("image", "text", "both"),
    ("pixels", "unit", "thousand"),
)
_MEDIA = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"RIFF": "image/webp"}
_ASKS = {
    "tools": "",
    "point": "\nAnswer with the point to click as (x, y).",
    "ui-r1": "\nThink between <think> and </think>, then answer <answer>[{'action': '...', "
    "'coordinate': [x, y]}]</answer>.",
    "ui-r1-nothink": "\nAnswer <answer>[{'action': '...', 'coordinate': [x, y]}]</answer>.",
}


class Grounding(ToolEnv):
    """Find the place, or the action, that an instruction means on a screen.

    Without `file` the screens are drawn: `shapes` coloured shapes, one to be clicked. With one they
    are the steps of a data set (ScreenSpot, v2, Pro, UI-R1's rows, AndroidControl's shards; see
    `read_steps`), whose pictures lie under `images` (the file's folder unless given); `split` then
    divides its steps by content, and "all" takes every one.

    `shows` is what the prompt holds of a drawn screen: the picture, a listing of shapes and their
    boxes for models that see nothing, or both. `action_format` is tools, or plain text as UI-R1 has
    it (with or without thinking), or a bare point. `units` are those of the answer's coordinates:
    pixels, parts of one, or of a thousand. `near`: see `judge`.

    An episode has `screens` of them, one after another whatever is answered: drawn ones, or steps
    that follow one another in the file. Each pays its share of the score.

    Facts: `action_ok`, `coord_ok`, `argument_ok`, `format_ok`, each 0 or 1, or with several screens
    the share of them; the score is the share in which the first three are 1. Every turn's info has
    its own four.
    """

    experts = ("optimal",)
    shared = ("steps",)

    def __init__(
        self,
        file: str = "",
        images: str = "",
        format: str = "auto",
        level: str = "low",
        shapes: int = 6,
        shows: Shows = "image",
        action_format: str = "tools",
        units: Units = "pixels",
        near: float = NEAR,
        split: Split = "train",
        screens: int = 1,
        *,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(render_mode=render_mode)
        for what, value, known in (
            ("split", split, SPLITS),
            ("what a screen shows", shows, SHOWS),
            ("action format", action_format, FORMATS),
            ("units", units, UNITS),
        ):
            if value not in known:
                raise UnknownName(what, value, known)
        if not 1 <= shapes <= 18:
            raise UserError(f"shapes={shapes}: a drawn screen has 1 to 18")
        if screens < 1:
            raise UserError(f"screens={screens}: an episode has at least one")
        if not file and (images or format != "auto" or split == "all"):
            raise UserError("images, format and split='all' have no effect without a file")
        if file and shows != "image":
            raise UserError(f"shows={shows!r}: only drawn screens have a listing")
        self.shapes, self.shows, self.split = shapes, shows, split
        self.action_format, self.units, self.near = action_format, units, near
        self.screens = self.max_turns = screens
        self.folder = Path(images) if images else Path(file).parent
        self.steps: tuple[GuiStep, ...] = ()
        if file:
            found = read_steps(file, format, level=level).items
            self.steps = tuple(
                each for each in found if split == "all" or split_of("gui", each.id) == split
            )
            if not self.steps:
                raise UserError(f"none of the {len(found)} steps of {file} belongs to {split!r}")
            if screens > len(self.steps):
                raise UserError(f"screens={screens}: {file} has {len(self.steps)} of {split!r}")
            self._picture(self.steps[0])  # now, and not in the middle of a run

    # ------------------------------------------------------------ the episode

    def setup(self, rng: random.Random) -> Task:
        """Draw screens, or take steps of the file."""
        if self.steps:
            first = rng.randrange(len(self.steps) - self.screens + 1)
            asked = [(step, []) for step in self.steps[first : first + self.screens]]
        else:
            asked = [self._drawn(rng) for _ in range(self.screens)]
        self._left = asked[1:]
        self._said: list[dict[str, float]] = []
        self._right = 0
        content = self._ask(*asked[0])
        metadata = {"action": self.gui.action, **self.gui.metadata}
        name = f"Grounding-{self.gui.id}"
        return Task(name, (Message("user", content),), self._gold(), metadata)

    def _drawn(self, rng: random.Random) -> tuple[GuiStep, list[Shape]]:
        return drawn(
            self.split, lambda: draw_step(rng, self.shapes), lambda made: made[0].id, "screens"
        )

    def _ask(self, step: GuiStep, listing: list[Shape]) -> Content:
        """What a screen shows, and what is wanted there."""
        self.gui = step
        picture = self._picture(step)
        width, height = step.size
        if width <= 0 and self.units != "pixels":
            width, height = pillow("Image").open(io.BytesIO(picture.data)).size
        self.size = (width, height)
        self.scale: Point = {
            "pixels": (1.0, 1.0),
            "unit": (float(width), float(height)),
            "thousand": (width / 1000, height / 1000),
        }[self.units]
        text = step.instruction + _ASKS[self.action_format]
        if self.shows != "image":
            text = "\n".join(["The screen shows:", *map(str, listing), text])
        return text if self.shows == "text" else (picture, text)

    def _picture(self, step: GuiStep) -> Image:
        data = step.picture
        if isinstance(data, str):
            path = self.folder / data
            try:
                data = path.read_bytes()
            except OSError as problem:
                raise DataError(
                    f"no picture for step {step.id!r}: {path}: {problem.strerror}; name the "
                    "pictures' folder with images=..."
                ) from None
        kind = next((media for magic, media in _MEDIA.items() if data.startswith(magic)), "")
        if not kind:
            raise DataError(f"the picture of step {step.id!r} is no PNG, JPEG or WebP")
        return Image(data, kind)

    def _gold(self) -> Json:
        step = self.gui
        return {"action": step.action, "box": step.box, "point": step.point, "text": step.argument}

    def _answered(self, said: Said) -> str:
        if len(self._said) == self.turn:
            return "error: one action for each screen"
        verdict = judge(self.gui, said, self.scale, self.near)
        parts = (verdict.action, verdict.coord, verdict.argument, verdict.format)
        self._said.append(dict(zip(PARTS, map(float, parts), strict=True)))
        self._right += verdict.right
        self.reward(verdict.right / self.screens)
        if self._left:
            return ""
        answer: Json = {"action": said.action, "point": said.point, "text": said.argument}
        facts: dict[str, Any] = {
            name: sum(each[name] for each in self._said) / self.screens for name in PARTS
        }
        self.finish(self.grade(), reward=0.0, answer=answer, **facts)
        return "Done."

    def grade(self) -> float:
        """The share of screens that were answered rightly, so far."""
        return self._right / self.screens

    def step(self, action: Action) -> Step:
        """Judge one message; the next screen comes with the reply."""
        step = super().step(action)
        if len(self._said) < self.turn:  # nothing that could be read
            self._said.append(dict.fromkeys(PARTS, 0.0))
        info = {**step.info, **cast("Mapping[str, Json]", self._said[-1])}
        if not self._left:
            return step._replace(info=info)
        *others, last = step.observation
        content = self._ask(*self._left.pop(0))
        if last.text:  # what was wrong with the message
            said = last.text
            content = f"{said}\n{content}" if isinstance(content, str) else (said, *content)
        self._shown = (*others, replace(last, content=content))
        return step._replace(observation=cast("Observation", self._shown), info=info)

    # ------------------------------------------------------------ the answers

    @property
    def tools(self) -> tuple[Tool, ...]:
        """The actions, unless the answer is plain text."""
        return super().tools if self.action_format == "tools" else ()

    def respond(self, message: Message) -> str:
        """Read plain text in the format that was asked for."""
        if self.action_format == "tools":
            return self._answered(Said())
        thought = f"<think>{message.thinking}</think>" if message.thinking else ""
        return self._answered(READERS[self.action_format](thought + message.text))

    @tool
    def click(self, x: float, y: float) -> str:
        """Click at a point."""
        return self._answered(Said("click", (x, y), formed=True))

    @tool
    def long_press(self, x: float, y: float) -> str:
        """Press at a point for long."""
        return self._answered(Said("long_press", (x, y), formed=True))

    @tool
    def scroll(self, direction: Literal["up", "down", "left", "right"]) -> str:
        """Scroll the screen."""
        return self._answered(Said("scroll", argument=direction, formed=True))

    @tool
    def input_text(self, text: str) -> str:
        """Type a text into the field that has the focus."""
        return self._answered(Said("input_text", argument=text, formed=True))

    @tool
    def open_app(self, app_name: str) -> str:
        """Open an app."""
        return self._answered(Said("open_app", argument=app_name, formed=True))

    @tool
    def navigate_back(self) -> str:
        """Go back."""
        return self._answered(Said("navigate_back", formed=True))

    @tool
    def navigate_home(self) -> str:
        """Go to the home screen."""
        return self._answered(Said("navigate_home", formed=True))

    @tool
    def wait(self) -> str:
        """Wait for the screen to change."""
        return self._answered(Said("wait", formed=True))

    # ------------------------------------------------------------ the expert

    def expert(self, style: str, rng: random.Random) -> Action:
        """The gold action: the middle of the box, or the point."""
        if style not in self.experts:
            return super().expert(style, rng)
        step = self.gui
        x, y = self._place()
        if self.action_format == "point":
            return f"({x:g}, {y:g})"
        if self.action_format.startswith("ui-r1"):
            thought = "<think>It is there.</think> " if self.action_format == "ui-r1" else ""
            extra = f", 'text': '{step.argument}'" if step.argument else ""
            place = f"'action': '{step.action}', 'coordinate': [{x:g}, {y:g}]{extra}"
            return Message("assistant", f"{thought}<answer>[{{{place}}}]</answer>")
        if step.action in PLACED:
            return call(step.action, x=x, y=y)
        named = {"scroll": "direction", "input_text": "text", "open_app": "app_name"}
        key = named.get(step.action)
        return call(step.action, **({key: step.argument} if key else {}))

    def _place(self) -> Point:
        box, point = self.gui.box, self.gui.point or (0.0, 0.0)
        if box is not None:
            point = ((box[0] + box[2]) // 2, (box[1] + box[3]) // 2)
        # half a pixel more: what is cut to whole pixels after scaling must not fall short of it
        half = 0.0 if self.units == "pixels" else 0.5
        return ((point[0] + half) / self.scale[0], (point[1] + half) / self.scale[1])
