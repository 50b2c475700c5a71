"""TextWorld's games, played through the `textworld` that the user has installed.

env = foldgym.make("foldgym.envs.textworld:TextWorldGame", games="games/")
"""

from __future__ import annotations

import importlib
import random
import re
import sys
import threading
import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from foldgym.envs.base import ToolEnv
from foldgym.envs.household.names import called
from foldgym.errors import DataError, MissingExtra, UserError
from foldgym.tools import call, tool
from foldgym.types import Action, Json, Message, Observation, Step

_GAME = re.compile(r"\.(z[1-8]|json|tw-pddl|ulx)$")
_INFOS = ("admissible_commands", "won", "lost", "score", "max_score")
_UNTYPED = re.compile(r"[^ -\[\]-~]")
_lock = threading.Lock()


def find_games(where: str | Path) -> tuple[Path, ...]:
    """The games under a path, in the order of their paths: a file itself, or all of a folder.

    A `.json` beside a game of the same name only describes it. Raises `DataError` if there is none.
    """
    where = Path(where).expanduser()
    found = [where] if where.is_file() else sorted(where.rglob("*"))
    games = [each for each in found if _GAME.search(each.name) and each.is_file()]
    stems = {each.with_suffix("") for each in games if each.suffix != ".json"}
    games = [each for each in games if each.suffix != ".json" or each.with_suffix("") not in stems]
    if not games:
        raise DataError(f"there is no .z8, .json or .tw-pddl game in {str(where)!r}")
    return tuple(games)


def typed(command: str) -> str:
    """What can be typed of a command: one line of at most 200 characters of ASCII.

    No backslashes: the Z-machine's interpreter takes what follows one for an order to itself.
    """
    return _UNTYPED.sub("", command.strip().split("\n")[0])[:200]


class TextWorldGame(ToolEnv):
    """A game of TextWorld: `games` is a file (.z1 to .z8, .json, .tw-pddl) or a folder of them.

    A seed draws a game and seeds it; `reset(options={"game": 3})` names the fourth. A command is
    the text of a message, or the argument of the tool `act`. A step pays by how much the game's
    score has grown; the episode is a success if the game says that it is won, and it is truncated
    after `limit` commands. `expert` asks TextWorld for a winning command at every step, where the
    game knows one; in `.tw-pddl` games that takes its planner seconds.

    Things in `.tw-pddl` games are called as ALFWorld calls them. One environment plays one game at
    a time; TextWorld is not made for threads, so loading and stepping wait for each other.
    """

    option_names = ("game",)
    shared = ("inner",)

    def __init__(
        self,
        games: str,
        limit: int = 50,
        expert: bool = False,
        *,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(render_mode=render_mode)
        if limit < 1:
            raise UserError(f"limit must be at least 1, not {limit}")
        try:
            self.module: Any = importlib.import_module("textworld")
        except ImportError:
            raise MissingExtra("playing TextWorld games", "textworld") from None
        self.games = find_games(games)
        self.limit = self.max_turns = limit
        self.peeks = expert
        if expert:
            self.experts = ("optimal",)
        self.inner: Any = None

    def setup(self, rng: random.Random) -> str:
        """Draw a game, load it, and say what it begins with."""
        index = self.options.get("game", rng.randrange(len(self.games)))
        if not isinstance(index, int) or not 0 <= index < len(self.games):
            raise UserError(f"game must be from 0 to {len(self.games) - 1}, not {index!r}")
        self.close()
        self.path = self.games[index]
        with _alone():
            self.inner = self._loaded(self.path)
            self.inner.seed(rng.getrandbits(31))
            self.state: Mapping[str, Any] = self.inner.reset()
        self.total = float(self.state.get("score") or 0)
        self.steps = 0
        return self._said()

    def _loaded(self, path: Path) -> Any:
        infos = [*_INFOS, *(["policy_commands"] if self.peeks else [])]
        wanted = self.module.EnvInfos(**dict.fromkeys(infos, True))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of games that Jericho knows less about
                env = self.module.start(str(path), wanted)
        except NotImplementedError as problem:
            raise UserError(f"{path}: {problem}") from None
        except ImportError:
            raise MissingExtra("playing .tw-pddl games", "textworld") from None
        if path.suffix == ".tw-pddl":
            things = env._entity_infos.values()  # as ALFWorld's own wrapper does
            names = called([each.id for each in things])
            for each in things:
                each.name = names[each.id]
        return env

    def _said(self) -> str:
        return str(self.state.get("feedback") or "")

    @tool
    def act(self, command: str) -> str:
        """Do something in the game.

        Args:
            command: what to do, such as "look" or "take the key"
        """
        with _alone():
            self.state, score, done = self.inner.step(typed(command))
        self.steps += 1
        gained = float(score or 0) - self.total
        self.total += gained
        if done:
            self.finish(self.total, reward=gained, success=self._won())
        else:
            self.reward(gained)
            if self.steps >= self.limit:
                self.finish(self.total, reward=0.0, truncated=True, success=self._won())
        return self._said()

    def _won(self) -> bool:
        return bool(self.state.get("won"))

    def respond(self, message: Message) -> str:
        """Plain text is a command."""
        return cast("str", self.act(message.text))

    def grade(self) -> float:
        """The score so far."""
        return self.total

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Json] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """As for every `ToolEnv`; the info also has what the steps' has."""
        observation, info = super().reset(seed=seed, options=options)
        return observation, {**info, **self._info()}

    def step(self, action: Action) -> Step:
        """As for every `ToolEnv`; the info also has `won`, `lost` and the `admissible` commands."""
        step = super().step(action)
        return step._replace(info={**step.info, **self._info()})

    def _info(self) -> dict[str, Json]:
        return {
            "won": self._won(),
            "lost": bool(self.state.get("lost")),
            "admissible": list(self.state.get("admissible_commands") or ()),
        }

    def measure(self) -> dict[str, Json]:
        """Also `won`, the number of `steps` (commands), the `max_score` and the `game`'s file."""
        facts = super().measure()
        if self._play is None:
            return facts
        most = self.state.get("max_score")
        facts |= {"success": self._won(), "won": self._won(), "steps": self.steps}
        return {**facts, "max_score": most, "game": self.path.name}

    def expert(self, style: str, rng: random.Random) -> Action:
        """The first command of the way to win that TextWorld knows."""
        if style not in self.experts:
            return super().expert(style, rng)
        policy = self.state.get("policy_commands")
        if not policy:
            raise UserError(f"{self.path}: TextWorld knows no way to win from here")
        return call("act", command=policy[0])

    def snapshot(self) -> dict[str, Any]:
        """Not possible: the game keeps its own state."""
        raise UserError("a TextWorld game cannot be forked")

    def close(self) -> None:
        """Close the game."""
        if self.inner is not None:
            self.inner.close()
        self.inner = None


@contextmanager
def _alone() -> Generator[None]:
    """TextWorld's PDDL engine captures standard output and overwrites the command line."""
    with _lock:
        words = sys.argv
        try:
            yield
        finally:
            sys.argv = words
