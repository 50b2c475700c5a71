"""A large tool set behind a search, and what it refuses: DeepAgent's world around the world."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from foldgym.agents.ledger import REPLAY
from foldgym.agents.scaffolds.around import Around, heard_first, unheard
from foldgym.agents.scaffolds.wording import shorten
from foldgym.agents.transcript import Transcript
from foldgym.search import Bm25, Document
from foldgym.tools import call_tool, unknown_tool
from foldgym.types import EnvHandle, Json, Message, Step, Tool, ToolCall

SEARCH = Tool(
    "tool_search",
    "Find tools by what they should do; what is found can be called from then on.",
    {
        "type": "object",
        "properties": {"query": {"type": "string", "description": "what the tool should do"}},
        "required": ["query"],
    },
)


class ToolIndex:
    """Finds tools by BM25 over their names, descriptions and parameters.

    >>> index = ToolIndex([Tool("add_event", "Write into the calendar.", {}),
    ...                    Tool("get_rain", "Weather at a place.", {})])
    >>> [tool.name for tool in index.find("what is the weather", 5)]
    ['get_rain']
    """

    def __init__(self, tools: Sequence[Tool]) -> None:
        self.tools = {tool.name: tool for tool in tools}
        self._index = Bm25.of(
            Document(tool.name, tool.name.replace("_", " "), described(tool))
            for tool in self.tools.values()
        )

    def find(self, query: str, k: int) -> list[Tool]:
        """The best `k` of those that share a word with the query."""
        return [self.tools[hit.id] for hit in self._index.search([query], k)[0]]


def described(tool: Tool) -> str:
    """What a tool says of itself and its parameters, as text to be searched."""
    properties: Mapping[str, Mapping[str, Json]] = tool.parameters.get("properties", {})
    parameters = [
        f"{name.replace('_', ' ')} {schema.get('description', '')}"
        for name, schema in properties.items()
    ]
    return "\n".join([tool.description, *parameters])


def spec(tool: Tool) -> dict[str, Json]:
    """A tool as models know them: name, description, parameters."""
    return {
        "name": tool.name,
        "description": tool.description,
        "parameters": dict(tool.parameters),
    }


Condense = Callable[[str, str], Awaitable[str]]  # a call and its long answer -> a shorter one


@dataclass(slots=True)
class Done:
    """What was done so far: the turn of each call and search, and how many there were."""

    calls: dict[str, int] = field(default_factory=dict[str, int])
    actions: int = 0


class Toolbox(Around):
    """Answers searches, and calls that need no world: hidden, repeated, or one too many.

    With an `index` only found tools can be called (`talk.learn`); a search shows at most `top_k`
    of them, as a JSON list of whole specifications of at most `max_result` characters together.
    A call or search that was made before is answered by a notice as long as its answer is in view:
    what a fold has taken away may be fetched again. Calls of `repeatable` tools ("*": of any)
    always go to the world. After `max_actions` calls and searches no more of them are made; the
    answer must come then. What is longer than `max_result` or `max_observation` characters is
    given to `condense` with the call it answers; without that, or where nothing came of it, a
    search shows fewer tools and an answer loses its middle.
    """

    def __init__(
        self,
        inner: EnvHandle,
        talk: Transcript,
        index: ToolIndex | None,
        top_k: int,
        max_result: int,
        max_observation: int,
        max_actions: int,
        repeatable: Sequence[str],
        condense: Condense | None = None,
    ) -> None:
        super().__init__(inner)
        self.talk, self.index, self.top_k = talk, index, top_k
        self.max_result, self.max_observation = max_result, max_observation
        self.max_actions, self.repeatable = max_actions, repeatable
        self.condense = condense
        self.done = Done()

    @property
    def counters(self) -> Counter[str]:
        """The episode's."""
        return self.talk.counters

    async def step(self, action: Message) -> Step:
        """Answers what it can and leaves the rest to the world."""
        replies: list[Message] = []
        rest: list[ToolCall] = []
        for call in action.tool_calls:
            text = self._refused(call) or await self._searched(call)
            if text:
                replies.append(Message("tool", text, tool_call_id=call.id, name=call.name))
            else:
                rest.append(call)
        if replies and not rest:
            return unheard(*replies)
        step = await self.inner.step(replace(action, tool_calls=tuple(rest)))
        asked = "; ".join(map(canonical, rest))
        short = [await self._shortened(message, asked) for message in step.observation]
        return heard_first(tuple(replies), step._replace(observation=tuple(short)))

    def _refused(self, call: ToolCall) -> str:
        """Why a call is not made; "" if it is."""
        assert self.talk.spoken is not None
        name, turn = call.name, self.talk.spoken.turn
        if self.done.actions >= self.max_actions:
            self.counters["calls_over_limit"] += 1
            return (
                f"error: all {self.max_actions} calls are used up; no more will be made. "
                "Give your answer now"
            )
        self.done.actions += 1
        if self.index is not None and name in self.index.tools:
            if self.talk.turns[turn].purpose == REPLAY:  # whoever played it knew the tool
                self.talk.learn([self.index.tools[name]])
            elif name not in {tool.name for tool in self.talk.tools}:
                self.counters["hidden_calls"] += 1
                return f"{unknown_tool(name, self.talk.tools)}. Find tools with {SEARCH.name}"
        key = canonical(call)
        before = self.done.calls.get(key)
        again = before is not None and (before == turn or self.talk.sees(before))
        if again and (name == SEARCH.name or not {name, "*"} & set(self.repeatable)):
            self.counters["refused_duplicates"] += 1
            return f"error: you made this very call before, and its answer is above: {key}"
        self.done.calls[key] = turn
        return ""

    async def _searched(self, call: ToolCall) -> str:
        """The tools that a search found; "" if this is no search."""
        if self.index is None or call.name != SEARCH.name:
            return ""
        self.counters["tool_searches"] += 1
        found: list[Tool] = []

        def search(query: str) -> str:
            found.extend(index.find(query, self.top_k))
            return ""

        index = self.index
        problem = call_tool(replace(SEARCH, run=search), call.arguments)
        if problem or not found:
            return problem or "no tool matches; describe in other words what it should do"
        text = json.dumps([spec(tool) for tool in found], ensure_ascii=False)
        if len(text) > self.max_result and self.condense is not None:
            useful = set(re.findall(r"\w+", await self.condense(canonical(call), text)))
            found = [tool for tool in found if tool.name in useful] or found
        shown = found[:1]  # one tool is always shown, however long it is
        for tool in found[1:]:
            longer = json.dumps([spec(each) for each in [*shown, tool]], ensure_ascii=False)
            if len(longer) > self.max_result:
                break
            shown.append(tool)
        self.talk.learn(shown)
        return json.dumps([spec(tool) for tool in shown], ensure_ascii=False)

    async def _shortened(self, message: Message, asked: str) -> Message:
        text = message.text
        if isinstance(message.content, tuple) or len(text) <= self.max_observation:
            return message
        self.counters["long_observations"] += 1
        if self.condense is not None:
            text = await self.condense(asked, text) or text
        return replace(message, content=shorten(text, self.max_observation))


def canonical(call: ToolCall) -> str:
    """A call as text that is the same however its arguments were written.

    >>> canonical(ToolCall("go", '{"b": 1,  "a": 2}')) == canonical(ToolCall("go", '{"a":2,"b":1}'))
    True
    """
    try:
        arguments = json.dumps(json.loads(call.arguments), sort_keys=True, ensure_ascii=False)
    except (ValueError, RecursionError):
        arguments = call.arguments
    return f"{call.name} {arguments}"
