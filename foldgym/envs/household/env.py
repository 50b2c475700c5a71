"""Household: ALFWorld's rules, commands and feedback, in generated houses or in its own games."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, cast, get_args

from foldgym.envs.base import ToolEnv
from foldgym.envs.games import Split, check_split
from foldgym.envs.household import experts
from foldgym.envs.household.games import Game, find_games, read_game
from foldgym.envs.household.goals import subgoals
from foldgym.envs.household.houses import errands, furnish
from foldgym.envs.household.pddl import Atom
from foldgym.envs.household.rules import Act, after, true_in
from foldgym.envs.household.tasks import KINDS, sentence
from foldgym.envs.household.texts import (
    DIALECTS,
    NOTHING,
    admissible,
    command,
    feedback,
    opening,
    shown,
)
from foldgym.envs.household.world import build
from foldgym.errors import UnknownName, UserError
from foldgym.tools import call, tool
from foldgym.types import Action, Json, Message, Observation, Step

Listing = Literal["off", "info", "shown"]
_RECEPTACLES, _THINGS = 14, 18


class Household(ToolEnv):
    """Find things in a room, treat them, and put them where they belong, by typed commands.

    Without `games`, every seed draws a house of about this many `receptacles` and `things`, and one
    of the `tasks`; a kind of task with its object and target belongs to one split. `games` is a
    `.tw-pddl` file of ALFWorld, a `.pddl` problem of ALFRED, or a folder of games: then a seed
    draws one of them, or `reset(options={"game": 3})` names the fourth.

    A command is the text of a message, or the argument of the tool `act`. Reaching the goal pays 1
    and ends the episode; after `limit` commands it is truncated. `dialect` is `move` (ALFWorld from
    0.4) or `put` (before); a game file has its own. `admissible` commands are in the info, also
    shown after each observation, or off. `shuffle` draws the numbers of things anew each time.
    """

    experts = ("optimal", "searching", "hasty")
    option_names = ("game",)

    def __init__(
        self,
        games: str = "",
        tasks: Sequence[str] = tuple(KINDS),
        receptacles: int = _RECEPTACLES,
        things: int = _THINGS,
        limit: int = 50,
        dialect: Literal["", "move", "put"] = "",
        admissible: Listing = "info",
        shuffle: bool = False,
        split: Split = "train",
        *,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(render_mode=render_mode)
        check_split(split)
        for each in tasks:
            if each not in KINDS:
                raise UnknownName("task", each, KINDS)
        if dialect and dialect not in DIALECTS:
            raise UnknownName("dialect", dialect, DIALECTS)
        if admissible not in get_args(Listing):
            raise UnknownName("value of admissible", admissible, get_args(Listing))
        if limit < 1:
            raise UserError(f"limit must be at least 1, not {limit}")
        self.limit = self.max_turns = limit
        self.listing, self.dialect, self.shuffle = admissible, dialect, shuffle
        self.games: tuple[Path, ...] = ()
        if games:
            if (tuple(tasks), receptacles, things) != (tuple(KINDS), _RECEPTACLES, _THINGS):
                raise UserError("tasks, receptacles and things have no effect on given games")
            self.games = find_games(Path(games).expanduser(), split)
            return
        if not 8 <= receptacles <= 40 or not 2 <= things <= 80:
            raise UserError(
                f"receptacles must be 8 to 40 and things 2 to 80, not {receptacles} and {things}"
            )
        self.receptacles, self.things = receptacles, things
        self.errands = {kind: some for kind, some in errands(tasks, split).items() if some}
        if not self.errands:
            raise UserError("there must be at least one kind of task")

    def setup(self, rng: random.Random) -> str:
        """Draw a game or a house; the opening is what ALFWorld says."""
        self.game = self._given(rng) if self.games else self._drawn(rng)
        if self.dialect:
            self.game = replace(self.game, dialect=DIALECTS[self.dialect])
        self.state = self.game.world.start
        self.steps = self.idle = 0
        self.seen: frozenset[str] = frozenset()
        self.commands = self._commands()
        self.first = self.furthest = self.progress = self._reached()
        return opening(self.game.world, self.game.task) + self._listed()

    def _given(self, rng: random.Random) -> Game:
        """The game that was asked for, or one that ALFWorld's planner could solve."""
        index, number = self.options.get("game"), len(self.games)
        for each in rng.sample(range(number), number) if index is None else [index]:
            if not isinstance(each, int) or not 0 <= each < number:
                raise UserError(f"game must be from 0 to {number - 1}, not {each!r}")
            game = read_game(self.games[each], rng) if self.shuffle else _read(self.games[each])
            if game.solvable or index is not None:
                return game
        raise UserError("none of the games can be solved, as they say themselves")

    def _drawn(self, rng: random.Random) -> Game:
        if "game" in self.options:
            raise UserError("the option game chooses among given games; there are none")
        errand = rng.choice(self.errands[rng.choice(list(self.errands))])
        problem = furnish(errand, self.receptacles, self.things, rng)
        task = sentence(errand.kind, errand.thing, errand.target, rng.randrange(2))
        world = build(problem, rng if self.shuffle else None)
        return Game(problem.name, world, DIALECTS["move"], task)

    def _commands(self) -> dict[str, Act]:
        return admissible(self.game.dialect, self.game.world, self.state)

    def _listed(self) -> str:
        if self.listing != "shown":
            return ""
        return f"\n\nAdmissible commands: {', '.join(self.commands)}"

    @tool
    def act(self, command: str) -> str:
        """Do something in the house. Commands (R a receptacle, O an object, such as mug 1):
        look; inventory; go to R; open R; close R; take O from R; move O to R (put O in/on R, in the
        old dialect); examine R or O; use O; clean, heat or cool O with R; slice O with O; help.

        Args:
            command: one command
        """
        self.steps += 1
        world, done = self.game.world, self.commands.get(command.strip())
        said = NOTHING
        before = self.state
        if done is None:
            self.idle += 1
        else:
            self.state = after(world, before, done)
            said = feedback(self.game.dialect, world, self.state, done)
            if receptacle := shown(world, self.state, done):
                self.seen |= {receptacle}
        if self.state is not before:
            self.commands = self._commands()
            self.progress = self._reached()
            self.furthest = max(self.furthest, self.progress)
        if done is not None and self.progress == 1.0:
            self.finish(1.0)
        elif self.steps >= self.limit:
            self.finish(0.0, truncated=True)
        return said + self._listed()

    def respond(self, message: Message) -> str:
        """Plain text is a command."""
        return cast("str", self.act(message.text))

    def _reached(self) -> float:
        """The share of the goal's steps that are done, 1 exactly where the goal is reached.

        Taking a thing is a step of placing it.
        """
        world, state = self.game.world, self.state

        def steps(atom: Atom) -> tuple[int, int]:
            holds = true_in(world, state, atom)
            if atom[0] != "inreceptacle":
                return int(holds), 1
            return (2 if holds else int(state.held == atom[1])), 2

        done, of = subgoals(world.goal, steps)
        return done / of if of else 1.0

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Json] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """As for every `ToolEnv`; the info also has what the steps' has."""
        observation, info = super().reset(seed=seed, options=options)
        return observation, {**info, **self._info()}

    def step(self, action: Action) -> Step:
        """As for every `ToolEnv`; the info also has `won` and the `admissible` commands."""
        step = super().step(action)
        return step._replace(info={**step.info, **self._info()})

    def _info(self) -> dict[str, Json]:
        info: dict[str, Json] = {"won": self.progress == 1.0}
        return info if self.listing == "off" else {**info, "admissible": list(self.commands)}

    def measure(self) -> dict[str, Json]:
        """Also `won`, `path` (the share of the goal's steps that play has reached), `steps`
        (commands), those that were `idle`, and the name of the `game`.
        """
        facts = super().measure()
        if self._play is None:
            return facts
        left = 1.0 - self.first
        path = (self.furthest - self.first) / left if left else 1.0
        counts: dict[str, Json] = {"path": path, "steps": self.steps, "idle": self.idle}
        return {**facts, "won": facts["success"], **counts, "game": self.game.name}

    def expert(self, style: str, rng: random.Random) -> Action:
        """The optimal player knows where everything is; the searching one only what it has seen.

        The hasty one knows as little, and does anything at all at every other turn.
        """
        if style not in self.experts:
            return super().expert(style, rng)
        if style == "hasty" and rng.random() < 1 / 2:
            return call("act", command=rng.choice(list(self.commands)))
        world = self.game.world
        seen = None if style == "optimal" else self.seen
        acts = experts.plan(world, self.state, seen)
        chosen = acts[0] if acts else None
        if chosen is None and seen is not None:
            chosen = experts.search(world, self.state, seen)
        said = command(self.game.dialect, world, chosen or Act("look"))
        return call("act", command=said)


@lru_cache(maxsize=64)
def _read(path: Path) -> Game:
    """A game as it is in the file; what is made of a file never changes."""
    return read_game(path)
