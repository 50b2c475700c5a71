"""Larger tool sets: plausible tools that do nothing here, listed or only to be found by search."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field, replace
from typing import Any

from foldgym.envs.index import Document, Index
from foldgym.envs.transforms.base import Inner, Knob, Play, Transform, reply
from foldgym.envs.transforms.gold import as_message
from foldgym.envs.transforms.wording import NOUNS, VERBS
from foldgym.errors import UserError
from foldgym.seeding import generator
from foldgym.tools import call_tool, unknown_tool, usage
from foldgym.types import Action, Json, Message, Step, Task, Tool, ToolCall

FIND, USE = "find_tools", "use_tool"
_NOTHING = '{"status": "ok", "results": []}'
_PARAMETERS: dict[str, Json] = {
    "name": {"type": "string"},
    "identifier": {"type": "string"},
    "date": {"type": "string"},
    "limit": {"type": "integer"},
    "owner": {"type": "string"},
    "verbose": {"type": "boolean"},
}


@dataclass(slots=True)
class Crowd(Play):
    """The decoys of an episode, and where the world's tools stand among them."""

    decoys: tuple[Tool, ...] = ()
    places: dict[str, int] = field(default_factory=dict[str, int])
    called: int = 0
    searches: int = 0


class Toolset(Transform[Crowd]):
    """`n` more tools, drawn anew for every task, which never bear the name of one of the world's.

    A call of one costs a turn and finds nothing. With `hidden` no tool is listed but `find_tools`,
    which shows the `shown` best matches of a query, and `use_tool`, which calls one.
    """

    knob = Knob("n", (0, 10, 100, 1000), 0, 4000, "there is more to choose from")
    play_type = Crowd

    def __init__(self, env: Inner, n: int = 50, hidden: bool = False, shown: int = 5) -> None:
        super().__init__(env, n=n, hidden=hidden, shown=shown)
        if hidden and self.off:
            raise UserError("hidden has no effect with n = 0; give n at least 1")
        if not 1 <= shown <= 100:
            raise UserError(f"shown must be from 1 to 100, not {shown}")
        self.n, self.hidden, self.shown = n, hidden, shown

    def longer(self, turns: int) -> int:
        """Hidden tools must be found first."""
        return 2 * turns if self.hidden else turns

    def begin(self, now: Crowd) -> Task:
        """The task of the world, and other tools than last time."""
        self.env.reset(seed=now.seed, options=dict(now.options))
        tools: tuple[Tool, ...] = self._inner("tools")
        rng = generator(now.seed, "toolset")
        taken = {each.name for each in tools}
        now.decoys = decoys(self.n, taken, rng)
        now.places = {each.name: rng.randint(0, self.n) for each in tools}
        return self._inner("task")

    def offered(self, tools: tuple[Tool, ...]) -> tuple[Tool, ...]:
        """All of them mixed, or the two that lead to them."""
        if not self.hidden:
            return self._catalogue(tools)
        return (
            Tool(
                FIND,
                "Find tools by what they do; shows how to call them.",
                _schema({"query": {"type": "string"}}),
            ),
            Tool(
                USE,
                "Call a tool that find_tools showed.",
                _schema({"name": {"type": "string"}, "arguments": {"type": "object"}}),
            ),
        )

    def catalogue(self) -> tuple[Tool, ...]:
        """Every tool of the episode, decoys included, also where they are hidden."""
        return self._catalogue(self._inner("tools"))

    def _catalogue(self, tools: tuple[Tool, ...]) -> tuple[Tool, ...]:
        mixed = list(self.now.decoys if self.now else ())
        places = self.now.places if self.now else {}
        for each in sorted(tools, key=lambda tool: -places.get(tool.name, 0)):
            mixed.insert(places.get(each.name, 0), each)
        return tuple(mixed)

    def respond(self, now: Crowd, message: Message) -> Step:
        """Calls of the world's tools go inside, all others are answered here."""
        calls, own = list(message.tool_calls), dict[int, str]()
        idle = {each.name: each for each in now.decoys}
        listed = {each.name: each for each in self.tools}
        failed = 0
        for place, each in enumerate(calls):
            if self.hidden:
                each = calls[place] = self._unwrapped(now, each, listed, own, place)
            if place not in own and each.name in idle:
                own[place] = call_tool(idle[each.name], each.arguments)
                now.called += 1
            failed += own.get(place, "").startswith("error:")
        now.errors += failed
        step = self.within(replace(message, tool_calls=tuple(calls)), own)
        observation = step.observation
        if self.hidden:  # replies bear the names of the calls as they were made
            made = iter(message.tool_calls)
            observation = tuple(
                reply(next(made), each.text) if each.role == "tool" else each
                for each in observation
            )
        errors = int(step.info.get("errors", 0)) + failed
        return step._replace(observation=observation, info={**step.info, "errors": errors})

    def _unwrapped(
        self, now: Crowd, call: ToolCall, listed: dict[str, Tool], own: dict[int, str], place: int
    ) -> ToolCall:
        """The call inside `use_tool`; what is answered here enters `own`."""
        found: dict[str, Any] = {}

        def keep(**arguments: Json) -> str:
            found.update(arguments)
            return "kept"

        if call.name not in listed:
            own[place] = unknown_tool(call.name, self.tools)
            return call
        said = call_tool(replace(listed[call.name], run=keep), call.arguments)
        if not found:
            own[place] = said
        elif call.name == FIND:
            own[place] = self._search(now, found["query"])
        else:
            names = {each.name for each in self.catalogue()}
            if found["name"] in names:
                return ToolCall(found["name"], json.dumps(found["arguments"]), call.id)
            own[place] = f"error: there is no tool {found['name'][:64]!r}; find one with {FIND}"
        return call

    def _search(self, now: Crowd, query: str) -> str:
        now.searches += 1
        every = {each.name: each for each in self.catalogue()}
        index = Index(
            [
                Document(name, f"{name} {name.replace('_', ' ')} {each.description.lower()}")
                for name, each in every.items()
            ]
        )
        best = index.search(query.lower(), self.shown)
        lines = (
            f"{usage(every[each.subject])} - {every[each.subject].description}" for each in best
        )
        return "\n".join(lines) or "no tool matches; use other words"

    def expert(self, style: str, rng: random.Random) -> Action:
        """The world's expert; hidden tools are called through `use_tool`."""
        action = super().expert(style, rng)
        if self.off or not self.hidden:
            return action
        message = as_message(self.env, action)
        calls = tuple(
            replace(
                each,
                name=USE,
                arguments=json.dumps({"name": each.name, "arguments": json.loads(each.arguments)}),
            )
            for each in message.tool_calls
        )
        return replace(message, tool_calls=calls)

    def facts(self, now: Crowd, inner: dict[str, Json]) -> dict[str, Json]:
        """`decoys`, how many there were, `decoy_calls` and `tool_searches`."""
        return {
            "decoys": len(now.decoys),
            "decoy_calls": now.called,
            "tool_searches": now.searches,
        }


def decoys(n: int, taken: set[str], rng: random.Random) -> tuple[Tool, ...]:
    """`n` different tools, none with a name in `taken`."""
    names = [f"{verb}_{noun}" for verb in VERBS for noun in NOUNS]
    free = [name for name in names if name not in taken]
    return tuple(_decoy(name, rng) for name in rng.sample(free, n))


def _decoy(name: str, rng: random.Random) -> Tool:
    verb, _, noun = name.partition("_")
    thing = noun.replace("_", " ")
    chosen = rng.sample(sorted(_PARAMETERS), rng.randint(1, 3))
    properties = {each: _PARAMETERS[each] for each in chosen}
    kind = rng.choice(("of the current user", "by its name", "in the workspace", "in one step"))
    required = chosen[: rng.randint(0, 1)]
    return Tool(
        name,
        f"{verb.capitalize()} the {thing} {kind}.",
        {"type": "object", "properties": properties, "required": required},
        _idle,
    )


def _idle(**arguments: Json) -> str:
    return _NOTHING


def _schema(properties: dict[str, Json]) -> dict[str, Json]:
    return {"type": "object", "properties": properties, "required": list(properties)}
