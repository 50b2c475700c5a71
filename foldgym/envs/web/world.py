"""`WebEnv`, the way to write a world in a browser: pages are shown, actions are done.

A world says where it takes place and how an episode begins:

    class Hello(WebEnv):
        def place(self):
            return Setting(sites={"hello.test": site})

        def setup(self, rng):
            self.begin("http://hello.test/")
            return "Say hello."

        def judge(self):
            if "Thank you" in self.view.title:
                self.finish(1.0)
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, cast

from foldgym.containers.browser import Seat, Setting, open_seat
from foldgym.envs.base import ToolEnv
from foldgym.envs.web import hands, views
from foldgym.envs.web.formats import FORMATS
from foldgym.errors import FoldgymError, UnknownName, UserError
from foldgym.tools import tool
from foldgym.types import Action, Content, Image, Json, Message, Observation, Step, Tool

Button = Literal["left", "middle", "right"]
_BY_REF = frozenset(
    {"click", "dblclick", "fill", "select", "press", "hover", "focus", "drag", "upload"}
)
_BY_POINT = frozenset(
    {"mouse_click", "mouse_dblclick", "mouse_move", "mouse_down", "mouse_up", "mouse_drag"}
)


@functools.cache
def script(name: str) -> str:
    """A script that documents are given, `page` or `clock`."""
    return files("foldgym.envs.web").joinpath(f"{name}.js").read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Looks:
    """What a player is shown after every action.

    `text` is "tree" (roles and names), "dom" (tags and attributes) or "none"; `image` is "none",
    "raw" or "marks" (numbers drawn on what can be clicked). `changes` shows of the text only what
    is new since the last time. `most` caps the text, in characters. `addresses` shows the title and
    url of the page.
    """

    text: str = "tree"
    image: str = "none"
    changes: bool = False
    most: int = 20_000
    addresses: bool = True

    def __post_init__(self) -> None:
        if self.text not in (*views.RENDERERS, "none"):
            raise UnknownName("text of a page", self.text, (*views.RENDERERS, "none"))
        if self.image not in ("none", "raw", "marks"):
            raise UnknownName("image of a page", self.image, ("none", "raw", "marks"))
        if self.most < 100:
            raise UserError(f"most={self.most} characters of a page: give at least 100")


class WebEnv(ToolEnv):
    """A world in a browser. Its tools click, type and navigate; `view` is the page as last seen.

    `actions` is "tools", "browsergym" (Python calls in the text of a message) or "ui-r1" (an
    `<answer>` with coordinates); `act_by` keeps the tools that name elements ("ref"), points of the
    window ("point"), or both. `uploads` is the folder whose files may be uploaded.
    """

    shared = ("seat",)
    area: tuple[int, int] | None = None
    """Width and height of what pictures show, from the upper left corner; None: the window."""
    seat: Seat | None = None
    view: views.View

    def __init__(
        self,
        *,
        text: str = "tree",
        image: str = "none",
        changes: bool = False,
        most: int = 20_000,
        actions: str = "tools",
        act_by: str = "both",
        uploads: str = "",
        render_mode: str | None = None,
    ) -> None:
        super().__init__(render_mode=render_mode)
        if actions not in ("tools", *FORMATS):
            raise UnknownName("format of actions", actions, ("tools", *FORMATS))
        if act_by not in ("ref", "point", "both"):
            raise UnknownName("way to act", act_by, ("ref", "point", "both"))
        self.looks = Looks(text, image, changes, most)
        self.actions, self.act_by, self.uploads = actions, act_by, uploads
        self._lines: list[str] = []
        self._history: list[tuple[str, dict[str, Json]]] = []

    # ------------------------------------------------------------ what an author writes

    def place(self) -> Setting:
        """What this episode's browser context shows and may reach."""
        raise NotImplementedError(f"{type(self).__name__} needs place(self) -> Setting")

    def judge(self) -> None:
        """Look at `self.view` after every action; `finish` when the task is over."""

    def answered(self, text: str) -> None:
        """The player gave an answer; the default ends the episode with `grade()`."""
        self.said = text
        self.finish(self.grade(), answer=text)

    def gave_up(self, reason: str) -> None:
        """The player says that the task cannot be done; the default ends the episode with 0."""
        self.finish(0.0, infeasible=reason)

    async def look(self, seat: Seat) -> views.View:
        """Read the page in front, in the browser's thread."""
        if problem := await hands.settle(seat):
            raise UserError(problem)
        found = await seat.page.evaluate("() => __foldgym.observe()")
        titles = tuple([await page.title() or page.url for page in seat.pages])
        dialogs, seat.dialogs = tuple(seat.dialogs), []
        return views.View(
            found["url"],
            found["title"],
            tuple(found["nodes"]),
            tuple(found["scroll"]),
            titles,
            seat.pages.index(seat.page),
            dialogs,
        )

    # ------------------------------------------------------------ what an author calls

    def begin(self, url: str) -> None:
        """Open the episode's context, with a first page; the one of an episode before is closed."""
        self._leave()
        place = self.place()
        self.seat = open_seat(replace(place, scripts=(script("page"), *place.scripts)))
        self._history, self._lines = [], []
        self.start = url
        self._open()

    def act(self, verb: str, **given: Any) -> str:
        """Do one of `hands.VERBS`, look at the page, and judge; what went wrong is returned."""
        self._history.append((verb, given))
        problem = self._do(verb, given)
        self.judge()
        return problem

    def _do(self, verb: str, given: Mapping[str, Any]) -> str:
        async def work(seat: Seat) -> tuple[str, views.View]:
            try:
                problem = await hands.VERBS[verb](seat, **given)
            except FoldgymError:
                raise
            except Exception as trouble:
                if seat.gone.done() or not type(trouble).__module__.startswith("playwright"):
                    raise
                problem = "error: " + str(trouble).splitlines()[0].partition(": ")[2]
            try:
                return problem, await self.look(seat)
            except UserError as trouble:
                return str(trouble), self.view

        problem, self.view = self._seated().run(work, 60.0)
        return problem

    def _open(self) -> None:
        async def work(seat: Seat) -> views.View:
            await seat.page.goto(self.start, timeout=30_000)
            return await self.look(seat)

        self.view = self._seated().run(work, 60.0)

    def _seated(self) -> Seat:
        if self.seat is None:
            raise UserError(f"{type(self).__name__} has no page: call begin() in setup()")
        return self.seat

    def _leave(self) -> None:
        seat, self.seat = self.seat, None
        if seat is not None:
            seat.close()

    def screenshot(self, marks: bool = False) -> bytes:
        """The window as a PNG, with or without marks."""
        area = self.area

        async def work(seat: Seat) -> bytes:
            shot = seat.page.screenshot
            if area is None:
                return await shot(animations="disabled", caret="hide")
            clip: Any = {"x": 0, "y": 0, "width": area[0], "height": area[1]}
            return await shot(animations="disabled", caret="hide", clip=clip)

        picture = self._seated().run(work)
        return views.marked(picture, self.view.nodes) if marks else picture

    def page_text(self) -> str:
        """The page as text, as the player is shown it now."""
        looks = self.looks
        lines = views.header(self.view, looks.addresses)
        if looks.text != "none":
            page = views.RENDERERS[looks.text](self.view.nodes)
            new = views.changes(self._lines, page) if looks.changes and self._lines else page
            lines += new or ["nothing changed"]
            self._lines = page
        text = "\n".join(lines)
        if len(text) > looks.most:
            text = text[: looks.most] + f"\n({len(text) - looks.most} characters more)"
        return text

    def shown(self, before: str = "") -> Content:
        """The page for a message, after the text `before`."""
        text = "\n".join(filter(None, (before, self.page_text())))
        if self.looks.image == "none":
            return text
        return (text, Image(self.screenshot(self.looks.image == "marks")))

    # ------------------------------------------------------------ the environment's side

    @property
    def tools(self) -> tuple[Tool, ...]:
        """Those of the chosen kind; none where actions are text."""
        return self._known() if self.actions == "tools" else ()

    def _known(self) -> tuple[Tool, ...]:
        left_out = {"ref": _BY_POINT, "point": _BY_REF, "both": frozenset[str]()}[self.act_by]
        return tuple(each for each in super().tools if each.name not in left_out)

    def respond(self, message: Message) -> str:
        """Play actions that are written as text."""
        if self.actions == "tools":
            return super().respond(message)
        try:
            calls = FORMATS[self.actions](message.text)
        except ValueError as problem:
            return f"error: {problem}"
        by_name = {each.name: each for each in self._known()}
        replies = [self._reply(each, by_name) for each in calls if self._playing_on()]
        return "\n".join(filter(None, replies))

    def _playing_on(self) -> bool:
        return self._play is not None and not self._play.over

    def step(self, action: Action) -> Step:
        """Play one message; the page comes with the last reply."""
        step = super().step(action)
        if step.terminated or step.truncated or not step.observation:
            return step
        *others, last = step.observation
        self._shown = (*others, replace(last, content=self.shown(last.text)))
        return step._replace(observation=cast("Observation", self._shown))

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Begin again and do what was done: a browser has no memory to copy."""
        super().restore(snapshot)
        self._open()
        for verb, given in self._history:
            self._do(verb, given)

    def close(self) -> None:
        """Give the context back."""
        self._leave()

    # ------------------------------------------------------------ tools, by element

    @tool
    def click(self, ref: int, button: Button = "left", modifiers: list[str] | None = None) -> str:
        """Click an element.

        Args:
            ref: number of the element
            button: of the mouse
            modifiers: keys to hold, such as Control
        """
        return self.act("click", ref=ref, button=button, modifiers=tuple(modifiers or ()))

    @tool
    def dblclick(
        self, ref: int, button: Button = "left", modifiers: list[str] | None = None
    ) -> str:
        """Click an element twice."""
        given = tuple(modifiers or ())
        return self.act("click", ref=ref, button=button, modifiers=given, count=2)

    @tool
    def fill(self, ref: int, text: str) -> str:
        """Put a text into a field, in place of what it holds."""
        return self.act("fill", ref=ref, text=text)

    @tool
    def select(self, ref: int, options: list[str]) -> str:
        """Choose options of a list, by label or value."""
        return self.act("select", ref=ref, options=tuple(options))

    @tool
    def press(self, key: str, ref: int = 0) -> str:
        """Press a key, such as Enter or Control+a.

        Args:
            key: name of the key, or several joined by +
            ref: element to press it on; where the focus is if left out
        """
        return self.act("press", key=key, ref=ref)

    @tool
    def hover(self, ref: int) -> str:
        """Bring the mouse over an element."""
        return self.act("hover", ref=ref)

    @tool
    def focus(self, ref: int) -> str:
        """Bring the keyboard to an element."""
        return self.act("focus", ref=ref)

    @tool
    def drag(self, ref: int, to: int) -> str:
        """Drag an element onto another."""
        return self.act("drag", ref=ref, to=to)

    @tool
    def scroll(self, dy: int, dx: int = 0, ref: int = 0) -> str:
        """Scroll the page, or an element, by pixels."""
        return self.act("scroll", dx=dx, dy=dy, ref=ref)

    @tool
    def upload(self, ref: int, file: str) -> str:
        """Give a file to a file field."""
        root = Path(self.uploads).resolve()
        path = (root / file).resolve()
        if not self.uploads or not path.is_relative_to(root) or not path.is_file():
            return f"error: there is no file {file!r} to upload"
        return self.act("upload", ref=ref, path=str(path))

    # ------------------------------------------------------------ tools, by coordinate

    @tool
    def mouse_click(self, x: float, y: float, button: Button = "left") -> str:
        """Click at a point, in pixels from the window's upper left corner."""
        return self.act("click_at", x=x, y=y, button=button)

    @tool
    def mouse_dblclick(self, x: float, y: float, button: Button = "left") -> str:
        """Click twice at a point."""
        return self.act("click_at", x=x, y=y, button=button, count=2)

    @tool
    def mouse_move(self, x: float, y: float) -> str:
        """Bring the mouse to a point."""
        return self.act("move", x=x, y=y)

    @tool
    def mouse_down(self, x: float, y: float, button: Button = "left") -> str:
        """Press the mouse at a point, and hold it."""
        return self.act("down", x=x, y=y, button=button)

    @tool
    def mouse_up(self, x: float, y: float, button: Button = "left") -> str:
        """Let the mouse go at a point."""
        return self.act("up", x=x, y=y, button=button)

    @tool
    def mouse_drag(self, x: float, y: float, to_x: float, to_y: float) -> str:
        """Drag from one point to another."""
        return self.act("drag_at", x=x, y=y, to_x=to_x, to_y=to_y)

    @tool
    def keyboard_press(self, key: str) -> str:
        """Press a key where the focus is."""
        return self.act("press", key=key)

    @tool
    def keyboard_type(self, text: str) -> str:
        """Type a text key by key where the focus is."""
        return self.act("type_text", text=text)

    @tool
    def keyboard_insert(self, text: str) -> str:
        """Put a text where the focus is."""
        return self.act("insert_text", text=text)

    # ------------------------------------------------------------ tools, for the whole window

    @tool
    def goto(self, url: str) -> str:
        """Open an address."""
        return self.act("goto", url=url)

    @tool
    def go_back(self) -> str:
        """Go back to the page before."""
        return self.act("back")

    @tool
    def go_forward(self) -> str:
        """Go forward again."""
        return self.act("forward")

    @tool
    def new_tab(self, url: str = "") -> str:
        """Open a tab."""
        return self.act("new_tab", url=url)

    @tool
    def tab_close(self) -> str:
        """Close the tab in front."""
        return self.act("close_tab")

    @tool
    def tab_focus(self, index: int) -> str:
        """Bring a tab to the front, counted from 0."""
        return self.act("focus_tab", index=index)

    @tool
    def noop(self, ms: int = 0) -> str:
        """Do nothing, and look again."""
        return self.act("nothing")

    @tool
    def answer(self, text: str) -> str:
        """Give the answer to the task, which ends it."""
        self.answered(text)
        return ""

    @tool
    def report_infeasible(self, reason: str) -> str:
        """Say that the task cannot be done, which ends it."""
        self.gave_up(reason)
        return ""
