"""Three small seeded text games: the tutorial, and the test bed of everything else."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass
from typing import Literal

from foldgym.envs.base import ToolEnv
from foldgym.errors import UnknownName, UserError
from foldgym.seeding import derive_seed
from foldgym.tools import call, tool
from foldgym.types import Action, Evidence

Split = Literal["train", "val", "test"]
SPLITS = ("train", "val", "test")


def split_of(*content: int | str) -> str:
    """The split to which a piece of content belongs, for ever: 8 of 10 train, 1 val, 1 test.

    Splits are made of content and not of seeds, so no question of one is ever asked in another.
    """
    place = derive_seed("split", *content) % 10
    return "train" if place < 8 else SPLITS[place - 7]


def check_split(split: str) -> None:
    """Raises `UnknownName` unless there is such a split."""
    if split not in SPLITS:
        raise UnknownName("split", split, SPLITS)


class GuessNumber(ToolEnv):
    """A secret number from `low` to `high`; guesses are answered by higher or lower."""

    max_turns = 12
    experts = ("optimal", "hasty")

    def __init__(
        self,
        low: int = 1,
        high: int = 100,
        split: Split = "train",
        *,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(render_mode=render_mode)
        check_split(split)
        self.low, self.high, self.split = low, high, split
        self.secrets = [n for n in range(low, high + 1) if split_of("guess", n) == split]
        if not self.secrets:
            raise UserError(f"no number from {low} to {high} belongs to split {split!r}")

    def setup(self, rng: random.Random) -> str:
        """Choose the secret among the split's numbers."""
        self.secret = rng.choice(self.secrets)
        self.least, self.most = self.low, self.high  # what a perfect player knows by now
        return f"Guess my number from {self.low} to {self.high} with the tool guess."

    @tool
    def guess(self, number: int) -> str:
        """Guess the secret number.

        Args:
            number: your guess
        """
        if number == self.secret:
            self.finish(1.0)
            return "correct"
        if number < self.secret:
            self.least = max(self.least, number + 1)
            return "higher"
        self.most = min(self.most, number - 1)
        return "lower"

    def expert(self, style: str, rng: random.Random) -> Action:
        """Bisection; the hasty player guesses anywhere that is still possible."""
        if style == "hasty":
            return call("guess", number=rng.randint(self.least, self.most))
        if style != "optimal":
            return super().expert(style, rng)
        return call("guess", number=(self.least + self.most) // 2)


_ROOMS = (
    *("hall", "attic", "cellar", "kitchen", "library", "garden", "tower", "chapel"),
    *("stable", "pantry", "gallery", "study", "cloister", "armoury", "nursery", "dairy"),
)
_COLOURS = ("red", "blue", "green", "brass", "silver", "black", "white", "golden")


class KeyDoor(ToolEnv):
    """A tree of rooms; in one lies the key, in another stands the door that hides the treasure.

    A wrong key lies about as well. The agent sees only the room it is in.
    """

    max_turns = 30
    experts = ("optimal", "hasty")

    def __init__(
        self, rooms: int = 5, split: Split = "train", *, render_mode: str | None = None
    ) -> None:
        super().__init__(render_mode=render_mode)
        check_split(split)
        if not 3 <= rooms <= len(_ROOMS):
            raise UserError(f"rooms must be from 3 to {len(_ROOMS)}, not {rooms}")
        self.rooms, self.split = rooms, split

    def setup(self, rng: random.Random) -> str:
        """Draw houses until one belongs to the split."""
        while True:
            names = rng.sample(_ROOMS, self.rooms)
            links = [(names[rng.randrange(i)], names[i]) for i in range(1, self.rooms)]
            colour, other = rng.sample(_COLOURS, 2)
            spots = rng.sample(names[1:], 2)
            wrong = rng.choice(names[1:])
            text = " ".join([*sum(links, ()), colour, other, *spots, wrong])
            if split_of("house", text) == self.split:
                break
        self.exits: dict[str, list[str]] = {name: [] for name in names}
        for left, right in links:
            self.exits[left].append(right)
            self.exits[right].append(left)
        self.colour, self.door = colour, spots[1]
        self.items: dict[str, list[str]] = {name: [] for name in names}
        self.items[spots[0]].append(f"{colour} key")
        self.items[wrong].append(f"{other} key")
        self.here, self.held = names[0], list[str]()
        self.first = {name: self._describe(name) for name in names}
        return (
            f"Find the {colour} key, then open the {colour} door to the treasure.\n"
            f"{self._describe(self.here)}"
        )

    def _describe(self, room: str) -> str:
        things = [f"a {item}" for item in self.items[room]]
        if room == self.door:
            things.append(f"the {self.colour} door")
        seen = f" You see {' and '.join(things)}." if things else ""
        return f"You are in the {room}.{seen} Exits: {', '.join(self.exits[room])}."

    @tool
    def look(self) -> str:
        """Describe the room you are in."""
        return self._describe(self.here)

    @tool
    def move(self, room: str) -> str:
        """Go to a neighbouring room.

        Args:
            room: one of the exits
        """
        room = room.strip().lower()
        if room not in self.exits[self.here]:
            return f"error: no way to {room[:40]!r}. Exits: {', '.join(self.exits[self.here])}."
        self.here = room
        return self._describe(room)

    @tool
    def take(self, item: str) -> str:
        """Take something that lies in the room.

        Args:
            item: what to take, such as "red key"
        """
        item = item.strip().lower()
        if item not in self.items[self.here]:
            return f"error: there is no {item[:40]!r} here."
        self.items[self.here].remove(item)
        self.held.append(item)
        return f"You take the {item}."

    @tool(name="open")
    def open_door(self) -> str:
        """Open the door in the room you are in."""
        if self.here != self.door:
            return "error: there is no door here."
        if f"{self.colour} key" not in self.held:
            return f"The door is locked; you need the {self.colour} key."
        self.finish(1.0)
        return "The door opens. You have found the treasure."

    def evidence(self) -> list[Evidence]:
        """Every room as it was at first; where the key and the door are matters."""
        key = f"{self.colour} key"
        found: list[Evidence] = []
        for room, text in self.first.items():
            question, answer = f"Which exits has the {room}?", ", ".join(self.exits[room])
            if room == self.door:
                question, answer = f"Where is the {self.colour} door?", room
            elif f"a {key}" in text:
                question, answer = f"Where did the {key} lie at first?", room
            found.append(Evidence(text, question, answer))
        return found

    def expert(self, style: str, rng: random.Random) -> Action:
        """The shortest way; the hasty player wanders off at two turns in five."""
        if style not in self.experts:
            return super().expert(style, rng)
        if style == "hasty" and rng.random() < 0.4:
            return call("move", room=rng.choice(self.exits[self.here]))
        key = f"{self.colour} key"
        if key in self.items[self.here]:
            return call("take", item=key)
        if key in self.held and self.here == self.door:
            return call("open")
        place = next((room for room, items in self.items.items() if key in items), self.door)
        return call("move", room=self._towards(place))

    def _towards(self, goal: str) -> str:
        """The exit on the only way to a room (breadth first from the goal)."""
        queue, seen = deque([goal]), {goal}
        while queue:
            room = queue.popleft()
            if self.here in self.exits[room]:
                return room
            queue.extend(each for each in self.exits[room] if each not in seen)
            seen.update(self.exits[room])
        raise AssertionError("the rooms of a house are connected")


@dataclass(frozen=True, slots=True)
class _Node:
    """An expression: a number, or two expressions and what joins them."""

    text: str
    value: int
    parts: tuple[_Node, _Node] | None = None
    verb: str = ""


_SIGNS = {"add": "+", "subtract": "-", "multiply": "*"}
_LIMIT = 10**12


def _apply(verb: str, a: int, b: int) -> int:
    return a + b if verb == "add" else a - b if verb == "subtract" else a * b


class Arithmetic(ToolEnv):
    """An expression with brackets, and a calculator that does one step at a time."""

    max_turns = 10
    experts = ("optimal", "hasty")

    def __init__(
        self, steps: int = 3, split: Split = "train", *, render_mode: str | None = None
    ) -> None:
        super().__init__(render_mode=render_mode)
        check_split(split)
        if not 1 <= steps <= 8:
            raise UserError(f"steps must be from 1 to 8, not {steps}")
        self.steps, self.split = steps, split

    def setup(self, rng: random.Random) -> str:
        """Draw expressions until one belongs to the split."""
        while True:
            self.root = self._draw(rng, self.steps)
            if split_of("sum", self.root.text) == self.split:
                break
        self.known: dict[tuple[str, int, int], int] = {}
        return f"What is {self.root.text.removeprefix('(').removesuffix(')')} ?"

    def _draw(self, rng: random.Random, steps: int) -> _Node:
        if steps == 0:
            number = rng.randint(2, 20)
            return _Node(str(number), number)
        left = rng.randrange(steps)
        a, b = self._draw(rng, left), self._draw(rng, steps - 1 - left)
        verb = rng.choice(tuple(_SIGNS))
        return _Node(
            f"({a.text} {_SIGNS[verb]} {b.text})", _apply(verb, a.value, b.value), (a, b), verb
        )

    @tool
    def add(self, a: int, b: int) -> str:
        """The sum a + b."""
        return self._work("add", a, b)

    @tool
    def subtract(self, a: int, b: int) -> str:
        """The difference a - b."""
        return self._work("subtract", a, b)

    @tool
    def multiply(self, a: int, b: int) -> str:
        """The product a * b."""
        return self._work("multiply", a, b)

    def _work(self, verb: str, a: int, b: int) -> str:
        if max(abs(a), abs(b)) > _LIMIT:
            return f"error: {verb} takes numbers up to {_LIMIT}."
        self.known[verb, a, b] = _apply(verb, a, b)
        return str(self.known[verb, a, b])

    @tool
    def answer(self, value: int) -> str:
        """Give the final answer.

        Args:
            value: the value of the whole expression
        """
        self.finish(1.0 if value == self.root.value else 0.0)
        return "Thank you."

    def expert(self, style: str, rng: random.Random) -> Action:
        """One step after the other; the hasty player may answer with the last result so far."""
        if style not in self.experts:
            return super().expert(style, rng)
        if style == "hasty" and self.known and rng.random() < 0.5:
            return call("answer", value=list(self.known.values())[-1])
        todo = self._next(self.root)
        if todo is None or todo.parts is None:
            return call("answer", value=self.root.value)
        return call(todo.verb, a=todo.parts[0].value, b=todo.parts[1].value)

    def _next(self, node: _Node) -> _Node | None:
        """The first step, innermost first, that has not been worked out."""
        if node.parts is None:
            return None
        for part in node.parts:
            if todo := self._next(part):
                return todo
        done = (node.verb, node.parts[0].value, node.parts[1].value) in self.known
        return None if done else node
