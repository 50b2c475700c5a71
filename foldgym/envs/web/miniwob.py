"""MiniWoB++: the 130 small web tasks of the `miniwob` wheel, seeded, in virtual time.

The page's own protocol decides: its generator makes the problem of a seed, its handlers end the
episode and set the rewards. Time passes only by actions, `step_ms` of the page's clock for each, so
a reward that falls with time is the same on every machine. Source: the pages' `core.js`.
"""

from __future__ import annotations

import functools
import importlib.util
import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from foldgym.containers.browser import Seat, Setting, open_seat
from foldgym.containers.gateway import folder_site
from foldgym.envs.web import views
from foldgym.envs.web.miniwob_experts import EXPERTS
from foldgym.envs.web.miniwob_scene import Scene, in_haste
from foldgym.envs.web.world import WebEnv, script
from foldgym.errors import MissingExtra, UnknownName, UserError
from foldgym.tools import tool
from foldgym.types import Action, Json, Message, Step, Task, Tool

HOST = "miniwob.test"
WINDOW = (332, 214)
"""More than the task, so that what hangs over its edge can be clicked."""
_HIDDEN = "#reward-display, #sync-task-cover, #click-canvas, #query"
_FOREVER = 10**12
"""Milliseconds of the page's clock: no time limit of its own."""
_RELOADED = frozenset(
    [
        "chase-circle",
        "choose-date",
        "choose-date-easy",
        "choose-date-medium",
        "click-pie",
        "click-pie-nodelay",
        "drag-cube",
        "drag-items",
        "drag-items-grid",
        "drag-sort-numbers",
        "email-inbox",
        "email-inbox-delete",
        "email-inbox-forward",
        "email-inbox-forward-nl",
        "email-inbox-forward-nl-turk",
        "email-inbox-important",
        "email-inbox-nl-turk",
        "email-inbox-noscroll",
        "email-inbox-reply",
        "email-inbox-star-reply",
        "form-sequence",
        "hover-shape",
        "moving-items",
        "order-food",
        "simon-says",
        "social-media",
        "stock-market",
        "terminal",
        "use-colorwheel",
        "use-colorwheel-2",
        "use-slider",
        "use-slider-2",
        "use-spinner",
    ]
)
"""Tasks whose pages remember an episode, or keep timers: they are loaded anew for each."""
_BEGIN = """async ([seed, mode, limit, skip]) => {
  const stop = window.jQuery;
  if (stop) { stop("*").stop(true, true); stop.fx.stop(); }
  core.endEpisode(0);
  __clock.reset();
  __foldgym.reset();
  document.activeElement?.blur();
  Math.seedrandom(seed);
  core.setDataMode(mode);
  core.EPISODE_MAX_TIME = limit;
  core.startEpisodeReal();
  for (let wait = 0; WOB_TASK_READY === false && wait < 500; wait += 1) {
    await __foldgym.settle();
    await __clock.advance(10);
  }
  const said = core.getUtterance();
  return { said: typeof said === "string" ? said : said.utterance,
    fields: typeof said === "string" ? {} : said.fields, ...(skip ? __foldgym.observe(skip) : {}) };
}"""
_TICK = """async ([ms, skip]) => {
  await __foldgym.settle();
  await __clock.advance(ms);
  return { done: WOB_DONE_GLOBAL, raw: WOB_RAW_REWARD_GLOBAL, reward: WOB_REWARD_GLOBAL,
    reason: WOB_REWARD_REASON, time: __clock.now(), ...(skip ? __foldgym.observe(skip) : {}) };
}"""
_READ = "(skip) => __foldgym.observe(skip)"
_SPLITS = ("train", "val", "test")
_SEEDS = 2**30
"""Seeds of each split."""
_ELSEWHERE = frozenset(
    [
        "focus",
        "upload",
        "keyboard_insert",
        "goto",
        "go_back",
        "go_forward",
        "new_tab",
        "tab_close",
        "tab_focus",
        "answer",
        "report_infeasible",
    ]
)
"""Tools that one small page has no use for."""
_HINTS = {
    "browsergym": 'Write one call, such as click("12") or fill("7", "text").',
    "ui-r1": "Write <think></think><answer>[{'action': 'click', 'coordinate': [x, y]}]</answer>.",
}


@functools.cache
def pages() -> Path:
    """The folder of the wheel's pages. Raises `MissingExtra` without it."""
    found = importlib.util.find_spec("miniwob")
    if found is None or not found.submodule_search_locations:
        raise MissingExtra("MiniWoB++", "browser")
    return Path(found.submodule_search_locations[0]) / "html"


@functools.cache
def tasks() -> tuple[str, ...]:
    """The names of all tasks, in order."""
    return tuple(sorted(each.stem for each in (pages() / "miniwob").glob("*.html")))


@functools.cache
def _place() -> Setting:
    scripts = (script("page"), script("clock"))
    return Setting({HOST: folder_site(pages())}, (), WINDOW, scripts, "miniwob")


class MiniWoB(WebEnv):
    """Tasks of MiniWoB++: `task` is one such as "click-button", several with commas, or "all".

    `reward` is "raw" (the page's -1 to 1) or "time" (the page's reward, which falls with its clock
    over `limit_ms`); the score is the raw reward, at least 0, and success is a raw reward above 0.
    `step_ms` is what every action costs of the page's clock; after `limit_ms` of it the page ends
    the episode (0: never). `split` keeps the pages' seeds apart; "train" and "test" are also their
    data modes. `reload` loads the page anew for every episode, instead of only where it
    must be. `reset(options={"page_seed": 7})` names the page's own seed.
    """

    option_names = ("page_seed",)
    area = (160, 210)  # beside it the page keeps count of former episodes

    def __init__(
        self,
        task: str = "click-button",
        split: str = "train",
        reward: str = "raw",
        step_ms: int = 500,
        limit_ms: int = 10_000,
        max_turns: int = 20,
        reload: bool = False,
        *,
        text: str = "tree",
        image: str = "none",
        changes: bool = False,
        most: int = 20_000,
        actions: str = "tools",
        act_by: str = "both",
        render_mode: str | None = None,
    ) -> None:
        super().__init__(
            text=text,
            image=image,
            changes=changes,
            most=most,
            actions=actions,
            act_by=act_by,
            render_mode=render_mode,
        )
        given = task.split(",")
        self.names = tasks() if task == "all" else tuple([each.strip() for each in given])
        for name in self.names:
            if name not in tasks():
                raise UnknownName("task of MiniWoB++", name, tasks())
        if split not in _SPLITS:
            raise UnknownName("split", split, _SPLITS)
        if reward not in ("raw", "time"):
            raise UnknownName("reward of MiniWoB++", reward, ("raw", "time"))
        if step_ms < 0 or limit_ms < 0 or max_turns < 1:
            raise UserError(
                f"step_ms={step_ms}, limit_ms={limit_ms}, max_turns={max_turns}: "
                "give 0 or more, and at least one turn"
            )
        self.split, self.pays, self.reload = split, reward, reload
        self.step_ms, self.limit_ms, self.max_turns = step_ms, limit_ms, max_turns
        self.looks = replace(self.looks, addresses=False)
        self.experts = ("optimal", "hasty") if set(self.names) <= EXPERTS.keys() else ()

    # ------------------------------------------------------------ an episode

    def setup(self, rng: random.Random) -> Task:
        """Draw a task and a seed of its page, and begin it there."""
        self.name = self.names[rng.randrange(len(self.names)) if len(self.names) > 1 else 0]
        drawn = _SPLITS.index(self.split) * _SEEDS + rng.randrange(_SEEDS)
        self.page_seed = self.options.get("page_seed", drawn)
        if not isinstance(self.page_seed, int) or isinstance(self.page_seed, bool):
            raise UserError(f"page_seed must be a whole number, not {self.page_seed!r}")
        self._history, self._lines, self._waits = [], [], 0
        self._made: list[Message] = []
        self._open()
        hint = "" if self.actions == "tools" else f"\n{_HINTS[self.actions]}"
        prompt = (Message("user", self.shown(self.utterance + hint)),)
        facts = {"task": self.name, "page_seed": self.page_seed, "fields": self.fields}
        return Task(f"{self.name}-{self.page_seed}", prompt, None, facts)

    def _open(self) -> None:
        fresh = self.reload or self.name in _RELOADED
        if self.seat is not None and self.seat.gone.done():
            self._leave()
        if self.seat is None:
            self.seat = open_seat(_place(), self.name)
        limit = self.limit_ms or _FOREVER
        given = [self.page_seed, "test" if self.split == "test" else "train", limit, self._skip]

        async def work(seat: Seat) -> Any:
            if fresh or seat.note != self.name:
                seat.note = ""
                url = f"http://{HOST}/miniwob/{self.name}.html"
                await seat.page.goto(url, timeout=30_000)
                seat.note = self.name
            await seat.mouse(WINDOW[0] - 1, WINDOW[1] - 1, "mouseMoved", "mouseReleased")
            seat.dialogs.clear()
            return await seat.page.evaluate(_BEGIN, given)

        found = self.seat.run(work, 60.0)
        self.utterance: str = found["said"]
        self.fields: dict[str, Json] = found["fields"]
        self.view = _view(found)

    @property
    def _skip(self) -> str | None:
        """What the player is not shown; None where nothing is read."""
        return _HIDDEN if self.looks.text != "none" or self.looks.image == "marks" else None

    async def look(self, seat: Seat) -> views.View:
        """Let the clock run on, and read the page with its verdict."""
        waits, self._waits = self._waits, 0
        found = await seat.page.evaluate(_TICK, [self.step_ms + waits, self._skip])
        dialogs, seat.dialogs = tuple(seat.dialogs), []
        return replace(_view(found), dialogs=dialogs)

    def judge(self) -> None:
        """The page says whether the episode is over, and what it was worth."""
        state = self.view.state
        if state is None or not state["done"] or not self._playing_on():
            return
        raw, timed = float(state["raw"]), float(state["reward"])
        self.finish(
            max(raw, 0.0),
            reward=raw if self.pays == "raw" else timed,
            success=raw > 0,
            raw_reward=raw,
            time_reward=timed,
            reason=state["reason"] or "",
            page_ms=state["time"],
        )

    def _known(self) -> tuple[Tool, ...]:
        return tuple(each for each in super()._known() if each.name not in _ELSEWHERE)

    @tool
    def noop(self, ms: int = 0) -> str:
        """Wait, and look again.

        Args:
            ms: milliseconds of the page's clock, beside those that every action costs
        """
        self._waits = min(max(ms, 0), 60_000)
        return self.act("nothing")

    # ------------------------------------------------------------ the expert

    def scene(self) -> Scene:
        """What the scripted player sees: the question, the elements, its own actions."""
        nodes = self.view.nodes
        if self._skip is None:
            found = self._seated().run(lambda seat: seat.page.evaluate(_READ, _HIDDEN))
            nodes = tuple(found["nodes"])
        return Scene(self.utterance, nodes, tuple(self._made))

    def step(self, action: Action) -> Step:
        """Play one message, and remember it for the scripted player."""
        if isinstance(action, Message) and len(action.tool_calls) == 1:
            self._made.append(action)
        return super().step(action)

    def expert(self, style: str, rng: random.Random) -> Action:
        """What the task's scripted player does, who sees the elements as a player does.

        The hasty one takes the right tool, and more often than not the first element that is like
        the right one.
        """
        if style not in self.experts:
            return super().expert(style, rng)
        scene = self.scene()
        message = EXPERTS[self.name](scene)
        return in_haste(scene, message, rng) if style == "hasty" else message


def _view(found: Mapping[str, Any]) -> views.View:
    state = {key: found[key] for key in ("done", "raw", "reward", "reason", "time") if key in found}
    return views.View(
        found.get("url", ""),
        found.get("title", ""),
        tuple(found.get("nodes", ())),
        tuple(found.get("scroll", (0, 0, 0, 0))),
        state=state or None,
    )
