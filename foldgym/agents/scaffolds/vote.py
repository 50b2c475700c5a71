"""GUI-RC as a way to answer: sample several actions, and act at the place most of them agree on."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from foldgym.agents.conversation import answer
from foldgym.agents.stage import Stage
from foldgym.agents.transcript import Transcript
from foldgym.rewards.voting import region_vote
from foldgym.tools import Parsed
from foldgym.types import Message, Stop

_NUMBER = r"-?(?:\d+(?:\.\d*)?|\.\d+)"
_PAIR = re.compile(rf"([(\[]\s*)({_NUMBER})(\s*,\s*)({_NUMBER})(?=\s*[,)\]])")


@dataclass(frozen=True, slots=True)
class Placed:
    """An action at a point, and what it does there, which is all of it but the point."""

    message: Message
    point: tuple[float, float]
    deed: str
    digits: int

    def moved(self, point: tuple[float, float], digits: int) -> Message:
        """The same action at another point, written with so many digits."""
        x, y = (round(value, digits) if digits else round(value) for value in point)
        if self.message.tool_calls:
            (made,) = self.message.tool_calls
            given = {**json.loads(made.arguments), "x": x, "y": y}
            moved = replace(made, arguments=json.dumps(given))
            return replace(self.message, tool_calls=(moved,))
        found = _last_pair(self.message.text)
        assert found is not None
        start, end = found.span()
        text = self.message.text
        pair = f"{found[1]}{x}{found[3]}{y}"
        return replace(self.message, content=text[:start] + pair + text[end:])


class RegionVote:
    """Before every turn `n` actions are sampled on what is shown; the world hears one.

    Those that do the same thing at some place (a tool with `x` and `y`, or a text with a pair of
    numbers in brackets, such as UI-R1's and BrowserGym's) vote by `region_vote` with squares of
    `side`, in the units that the actions are written in, on a screen of `size` if it is given. The
    action nearest to the region's middle is taken there. Where most actions have no place, the
    first of them is taken as it is.

    What was voted is not trained, what was sampled is. Fact `votes`: the share of the `n` that
    agreed, for every turn.
    """

    roles = ("main", "draft")

    def __init__(
        self, n: int = 8, side: float = 50.0, size: tuple[float, float] | None = None
    ) -> None:
        if n < 1 or side <= 0:
            raise ValueError(f"n and side must be at least 1 and above 0, not {n} and {side}")
        if size is not None and (len(size) != 2 or min(size) <= 0):
            raise ValueError(f"size must be a width and a height above 0, not {size}")
        self.n, self.side, self.size = n, side, size

    async def run(self, stage: Stage) -> Stop:
        """Vote, act, hear, until the world or a limit ends it."""
        main = await stage.lineage("main", memory=stage.memory())
        stop = await stage.lead(main)
        votes: list[float] = []
        stage.facts["votes"] = votes  # pyright: ignore[reportArgumentType]
        unreadable = 0
        while stop is None:
            if main.acted >= stage.limits.max_turns:
                return Stop.MAX_TURNS
            if await main.prompt() is None:
                return Stop.MAX_CONTEXT
            said, share = await self._voted(stage, main)
            votes.append(share)
            await main.recall(said.message, said.problem)
            main.acts()
            stop = await answer(stage.env, main, said.message, said.problem)
            unreadable = unreadable + 1 if said.problem else 0
            if stop is None and unreadable >= stage.limits.max_parse_errors:
                stop = Stop.PARSE_ERRORS
            if stop is None and stage.seconds_left <= 0:
                stop = Stop.MAX_SECONDS
        return stop

    async def _voted(self, stage: Stage, main: Transcript) -> tuple[Parsed, float]:
        room = stage.sampling.max_tokens
        voices = [stage.voice(f"draft/{place}") for place in range(self.n)]
        said = await stage.together([main.draft(room, voice) for voice in voices])
        return vote(said, self.side, self.size)


def vote(
    said: Sequence[Parsed], side: float, size: tuple[float, float] | None = None
) -> tuple[Parsed, float]:
    """The action that is taken, and the share of `said` that agreed on it."""
    placed = [placed_of(each) for each in said]
    deeds = Counter(each.deed for each in placed if each is not None)
    elsewhere = sum(each is None for each in placed)
    deed = max(deeds, key=lambda name: deeds[name], default="")
    if elsewhere > deeds[deed]:
        readable = [each for each, place in zip(said, placed, strict=True) if place is None]
        first = next((each for each in readable if not each.problem), readable[0])
        return first, elsewhere / len(said)
    same = [each for each in placed if each is not None and each.deed == deed]
    found = region_vote([each.point for each in same], size, side)
    if found is None:  # all of them are off the screen
        return Parsed(same[0].message), len(same) / len(said)
    x, y = found.point
    nearest = min(same, key=lambda each: (each.point[0] - x) ** 2 + (each.point[1] - y) ** 2)
    digits = max(each.digits for each in same)
    return Parsed(nearest.moved(found.point, digits)), found.votes / len(said)


def placed_of(said: Parsed) -> Placed | None:
    """The place of an action; None if it has none, or cannot be read."""
    if said.problem or len(said.message.tool_calls) > 1:
        return None
    if said.message.tool_calls:
        (made,) = said.message.tool_calls
        try:
            given = json.loads(made.arguments)
        except ValueError:
            return None
        if not isinstance(given, dict) or not {"x", "y"} <= given.keys():
            return None
        x, y = given.pop("x"), given.pop("y")
        if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in (x, y)):
            return None
        deed = f"{made.name} {json.dumps(given, sort_keys=True)}"
        return Placed(
            said.message, (float(x), float(y)), deed, max(_digits(str(x)), _digits(str(y)))
        )
    found = _last_pair(said.message.text)
    if found is None:
        return None
    x, y = found[2], found[4]
    deed = re.sub(r"(?s).*</think>", "", said.message.text[: found.start()]).strip()
    return Placed(said.message, (float(x), float(y)), deed, max(_digits(x), _digits(y)))


def _last_pair(text: str) -> re.Match[str] | None:
    return next(reversed(list(_PAIR.finditer(text))), None)


def _digits(number: str) -> int:
    return len(number.partition(".")[2].rstrip("0"))
