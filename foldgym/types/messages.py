"""What is said, and the world that answers: messages, tools, tasks, steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

Json: TypeAlias = Any  # None, bool, int, float, str, list or dict of the same
Ids: TypeAlias = tuple[int, ...]
Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class Image:
    """Encoded picture bytes inside a message."""

    data: bytes
    media_type: str = "image/png"


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that a model sees among ids: `at` is where its placeholder ids begin."""

    at: int
    image: Image


Content: TypeAlias = "str | tuple[str | Image, ...]"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """`ToolCall("search", '{"query": "Ada"}', id="call_0")`; arguments stay exactly as written."""

    name: str
    arguments: str = "{}"
    id: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """`Message("tool", "2 documents", tool_call_id="call_0", name="search")`."""

    role: Role
    content: Content = ""
    thinking: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    name: str = ""

    @property
    def text(self) -> str:
        """The content without pictures."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part for part in self.content if isinstance(part, str))


@dataclass(frozen=True, slots=True)
class Tool:
    """What a model may call. `parameters` is a JSON schema; `run` takes the checked arguments."""

    name: str
    description: str
    parameters: Mapping[str, Json]
    run: Callable[..., Any] | None = field(default=None, compare=False)
    concurrent: bool = False


@dataclass(frozen=True, slots=True)
class Task:
    """One question. `answer` is for rewards and experts only; a model never sees it."""

    id: str
    prompt: tuple[Message, ...]
    answer: Json = None
    metadata: Mapping[str, Json] = field(default_factory=dict[str, Json])


@dataclass(frozen=True, slots=True)
class Evidence:
    """`Evidence("home of Ada is Ur .", "what is the home of Ada ?", "Ur")`: to be remembered.

    `text` is literal where an observation says it. `question`, where there is one, has exactly
    `answer` once the text was said. `needed`: the task's solution rests on it.
    """

    text: str
    question: str = ""
    answer: str = ""
    needed: bool = True


Observation: TypeAlias = tuple[Message, ...]  # only what is new
Action: TypeAlias = "Message | str"


class Opening(NamedTuple):
    """What `reset` brought: the task (whose prompt is the first observation) and its tools."""

    task: Task
    tools: tuple[Tool, ...]


class Step(NamedTuple):
    """Gymnasium's step tuple."""

    observation: Observation
    reward: float
    terminated: bool
    truncated: bool
    info: dict[str, Json]


class EnvHandle(Protocol):
    """One episode's environment as the rollout sees it: every call has a wall-clock budget.

    Raises `EnvTimeout` or `EnvCrashed`; then the handle is dead and only `close` may follow.
    """

    async def reset(self, seed: int, options: Mapping[str, Json]) -> Opening: ...
    async def step(self, action: Message) -> Step: ...
    async def expert(self, style: str, seed: int) -> Action: ...
    async def measure(self) -> dict[str, Json]: ...
    async def evidence(self) -> tuple[Evidence, ...]: ...
    async def close(self) -> None: ...
