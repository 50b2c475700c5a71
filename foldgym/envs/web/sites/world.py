"""`Sites`: chores on a forum, a tracker, a file manager and a calendar, in a real browser."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from foldgym.containers.browser import Seat, Setting
from foldgym.envs.games import Split, check_split
from foldgym.envs.long.splits import drawn
from foldgym.envs.web.sites.calendar import Calendar
from foldgym.envs.web.sites.chores import CHORES, Chore, Move
from foldgym.envs.web.sites.folders import Folders
from foldgym.envs.web.sites.forum import Forum
from foldgym.envs.web.sites.kit import LocalSite
from foldgym.envs.web.sites.score import IMPOSSIBLE, Answered, score
from foldgym.envs.web.sites.tasks import Target, WebTask, read_tasks
from foldgym.envs.web.sites.tracker import Tracker
from foldgym.envs.web.world import WebEnv
from foldgym.errors import DataError, SandboxError, UnknownName, UserError
from foldgym.tools import call
from foldgym.types import Action, Message, Task

SITES: Mapping[str, type[LocalSite]] = {
    "forum": Forum,
    "tracker": Tracker,
    "files": Folders,
    "calendar": Calendar,
}


class Sites(WebEnv):
    """Do something on one of four sites, then `answer`; an answer that is not needed may be any.

    Every episode has its own seeded databases, and all sites can be reached. Without `tasks` the
    chore is one of `chores` (all, unless named); with it, one of a file of WebArena-style tasks
    whose placeholders are `__FORUM__`, `__TRACKER__`, `__FILES__` and `__CALENDAR__`, over the
    databases of `data_seed`. The score is 1 if the checks of the task hold at the end. What is
    shown and how one acts: see `WebEnv`.
    """

    max_turns = 30
    experts = ("optimal",)
    shared = (*WebEnv.shared, "sites", "file")

    def __init__(
        self,
        tasks: str = "",
        chores: tuple[str, ...] = (),
        data_seed: int = 0,
        split: Split = "train",
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
        check_split(split)
        for name in chores:
            if name not in CHORES:
                raise UnknownName("chore", name, CHORES)
        if tasks and chores:
            raise UserError("chores have no effect with a file of tasks; give one of the two")
        if tasks:
            self.experts = ()
        self.names, self.split, self.data_seed = tuple(chores) or tuple(CHORES), split, data_seed
        self.sites: dict[str, LocalSite] = {name: make() for name, make in SITES.items()}
        self.origin: dict[str, bytes] = {}
        self.file: tuple[WebTask, ...] = ()
        if tasks:
            places = {name.upper(): site.url for name, site in self.sites.items()}
            self.file = tuple(read_tasks(tasks, places).items)

    # ------------------------------------------------------------ the episode

    def place(self) -> Setting:
        """All sites, each on its host; nothing else can be reached."""
        return Setting(sites={site.host: site for site in self.sites.values()})

    def setup(self, rng: random.Random) -> Task:
        """Fill the databases, and choose what is to be done."""
        if self.file:
            self._fill(random.Random(self.data_seed))
            self.chore = Chore(rng.choice(self.file), ())
        else:
            self.chore = drawn(
                self.split, lambda: self._draw(rng), lambda made: made.task.intent, "chores"
            )
        task = self.chore.task
        self.begin(task.start)
        text = task.intent + "\nWhen it is done, or cannot be done, say so."
        return Task(
            f"Sites-{task.id}-{rng.getrandbits(32):08x}",
            (Message("user", self.shown(text)),),
            None,
            {"chore": task.id, "intent": task.intent},
        )

    def _draw(self, rng: random.Random) -> Chore:
        self._fill(rng)
        return CHORES[rng.choice(self.names)](self.sites, rng)

    def _fill(self, rng: random.Random) -> None:
        for site in self.sites.values():
            site.seed(rng)
        self.origin = {name: site.save() for name, site in self.sites.items()}

    def _open(self) -> None:
        """Also after `restore`, which plays what was done once more, from the first databases."""
        for name, saved in self.origin.items():
            self.sites[name].load(saved)
        super()._open()

    # ------------------------------------------------------------ the end

    def answered(self, text: str) -> None:
        """Check the end."""
        self._end(text)

    def gave_up(self, reason: str) -> None:
        """WebArena's answer for what cannot be done is N/A."""
        self._end(IMPOSSIBLE)

    def _end(self, text: str) -> None:
        end = Answered(text, self.view.url, self._read)
        self.finish(score(self.chore.task, end), answer=text, url=self.view.url)

    def _read(self, target: Target) -> str:
        """What a locator finds on a target's page; nothing where it finds nothing or raises."""

        async def work(seat: Seat) -> str:
            page = seat.page
            if target.url != "last":
                await page.goto(target.url, timeout=30_000)
            code = target.locator or "document.documentElement.outerHTML"
            return str(
                await page.evaluate(f"() => {{ const found = {code}; return found ?? ''; }}")
            )

        if target.url != "last" and not self._seated().gateway.reaches(target.url):
            raise DataError(f"a check of task {self.chore.task.id!r} reads {target.url}, no site")
        try:
            return self._seated().run(work, 60.0)
        except SandboxError:
            raise
        except Exception as problem:
            if not type(problem).__module__.startswith("playwright"):
                raise
            return ""

    # ------------------------------------------------------------ the expert

    def expert(self, style: str, rng: random.Random) -> Action:
        """The next move: after as many of the chore's moves as were made last, in their order."""
        if style not in self.experts:
            return super().expert(style, rng)
        moves = self.chore.moves
        made = [
            (verb, str(given.get("text") or given.get("url") or ""))
            for verb, given in self._history
        ]
        for count in range(min(len(moves) - 1, len(made)), -1, -1):
            if made[len(made) - count :] == [_trace(each) for each in moves[:count]]:
                if found := self._found(moves[count]):
                    return found
                break
        return call("goto", url=moves[0][1])

    def _found(self, move: Move) -> Message | None:
        """The call of a move on the page as it is; None if its element is not there."""
        kind, *rest = move
        if kind == "goto":
            return call("goto", url=rest[0])
        if kind == "answer":
            return call("answer", text=rest[0])
        wanted = rest[1] if kind == "click" else rest[0]
        for node in self.view.nodes:
            if not node["ref"]:
                continue
            named = wanted in (node["name"], node.get("text", ""))
            if not named or (kind == "click" and node["role"] != rest[0]):
                continue
            if kind == "fill" and node["role"] not in _FIELDS:
                continue
            if kind == "select" and "options" not in node:
                continue
            given: dict[str, Any] = {"ref": node["ref"]}
            given |= {"text": rest[1]} if kind == "fill" else {}
            given |= {"options": [rest[1]]} if kind == "select" else {}
            return call(kind, **given)
        return None


_FIELDS = frozenset({"textbox", "date", "time"})


def _trace(move: Move) -> tuple[str, str]:
    """How a move stands in the history."""
    return move[0], move[-1] if move[0] in ("goto", "fill") else ""
