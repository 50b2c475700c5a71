"""Who plays and what they are shown: policies, sessions, the log, views, memories."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from hashlib import blake2b
from typing import Any, Literal, Protocol, runtime_checkable

from foldgym.types.messages import EnvHandle, Ids, Message, Picture, Role, Tool, ToolCall


@dataclass(frozen=True, slots=True)
class Sampling:
    """Temperature 0 is greedy. Log-probs are always those of the distribution sampled from.

    An engine that can may end a completion with the id that completes one of `stops`; where it
    does not, the transcript cuts what came after.
    """

    temperature: float = 1.0
    max_tokens: int = 64
    stops: tuple[str, ...] = ()


class Finish(Enum):
    """Why a completion ended."""

    STOP = "stop"  # the policy sampled an end token
    LENGTH = "length"  # max_tokens came first
    MARKER = "marker"  # a memory's stop string was said, which ends the turn and is part of it


@dataclass(frozen=True, slots=True)
class Prompt:
    """Exactly what the policy is shown: `ids` for token engines, `messages` for the others.

    `pictures` stand at their places among the ids, for models that see.
    """

    ids: Ids
    messages: tuple[Message, ...] = ()
    tools: tuple[Tool, ...] = ()
    turn: int = 0
    purpose: str = "act"
    pictures: tuple[Picture, ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """Sampled ids (the end token included), one log-prob each, and the weights that sampled them.

    `versions` has one entry per id where the weights changed on the way; else it is empty.
    A policy without tokens (scripted, chat API) leaves `ids` empty and gives a `message`.
    """

    ids: Ids = ()
    logprobs: tuple[float, ...] = ()
    version: int = 0
    finish: Finish = Finish.STOP
    message: Message | None = None
    versions: Ids = ()


class Session(Protocol):
    """A policy's side of one episode: its random stream and whatever it keeps between turns."""

    async def sample(self, prompt: Prompt, sampling: Sampling) -> Completion: ...
    def close(self) -> None: ...


@runtime_checkable
class Branching(Protocol):
    """A session of an engine that waits until whole episodes want to go on.

    `branch` opens another session of the same episode, with a random stream of its own; `expect`
    says how many sessions of the episode will ask before anything else happens in it (at first 1).
    """

    def branch(self, seed: int) -> Session: ...
    def expect(self, busy: int) -> None: ...


class Policy(Protocol):
    """Anything that can act. `version` counts weight updates."""

    @property
    def version(self) -> int: ...
    def open(self, seed: int, env: EnvHandle) -> Session: ...


@runtime_checkable
class Scorer(Protocol):
    """A policy that also reads probabilities: log p(target | prompt), one per target id."""

    def logprobs(self, prompt: Ids, target: Ids) -> tuple[float, ...]: ...


# ---------------------------------------------------------------- memory: log, view, segments

Kind = Literal["task", "model", "observation", "notice", "memory"]
Source = Literal["policy", "aux", "env", "template"]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. `token_ids` are the sampled ids, or env text tokenised once."""

    id: int
    kind: Kind
    token_ids: Ids
    source: Source
    turn: int = -1
    messages: tuple[Message, ...] = ()
    finish: Finish | None = None


class Log(Sequence[Event]):
    """Append-only record of an episode; event ids are positions."""

    __slots__ = ("_events",)

    def __init__(self, events: Sequence[Event] = ()) -> None:
        self._events = list(events)

    def append(self, kind: Kind, token_ids: Ids, source: Source, **more: Any) -> Event:
        event = Event(len(self._events), kind, token_ids, source, **more)
        self._events.append(event)
        return event

    def __getitem__(self, index: Any) -> Any:
        return self._events[index]

    def __len__(self) -> int:
        return len(self._events)

    def __iter__(self) -> Iterator[Event]:
        return iter(self._events)


@dataclass(frozen=True, slots=True)
class Ref:
    """Shows recorded ids again, never re-tokenised: `log[event].token_ids[start:end]`."""

    event: int
    start: int = 0
    end: int | None = None


@dataclass(frozen=True, slots=True)
class Synth:
    """Ids that nobody said: a placeholder, an instruction, the frame of a memory block."""

    token_ids: Ids
    reason: str
    messages: tuple[Message, ...] = ()


@dataclass(frozen=True, slots=True)
class View:
    """What the model is shown now. `open_turn`: the last item is an unfinished assistant turn.

    `max_tokens` lowers how much is sampled on this view (0: as much as the rollout says).
    """

    items: tuple[Ref | Synth, ...]
    open_turn: bool = False
    max_tokens: int = 0


class At(Enum):
    """Moments at which a memory may change its state."""

    EPISODE_START = "episode_start"
    BEFORE_MODEL = "before_model"
    AFTER_MODEL = "after_model"
    AFTER_TOOL = "after_tool"
    PRESSURE = "pressure"
    MEMORY_TOOL = "memory_tool"
    EPISODE_END = "episode_end"


@dataclass(frozen=True, slots=True)
class Boundary:
    """A moment: tokens `used` by the current view, the event or memory tool call it is about."""

    at: At
    used: int = 0
    event: Event | None = None
    call: ToolCall | None = None


@dataclass(frozen=True, slots=True)
class Budget:
    """Context budget in tokens of the encoded view; `reserve` is kept free for the next answer.

    `overflow` says what happens when a memory makes no room: `"stop"` ends the episode with
    `Stop.MAX_CONTEXT`; `"squeeze"` first blanks, then drops the oldest turns.
    """

    max_context: int = 2048
    reserve: int = 64
    soft: float = 0.8
    overflow: Literal["stop", "squeeze"] = "stop"

    @property
    def hard_limit(self) -> int:
        return self.max_context - self.reserve

    @property
    def soft_limit(self) -> int:
        return int(self.soft * self.max_context)


@dataclass(frozen=True, slots=True)
class Item:
    """Something kept from episode to episode: `Item("sheet/1f", "look first", "env:7:0", born=3)`.

    `source` is the id of the trajectory that wrote the text, `born` the merge that took it in,
    `uses` counts the episodes that made use of it, and `label_free` says that no reward helped to
    choose it.
    """

    key: str
    text: str
    source: str = ""
    born: int = 0
    uses: int = 0
    label_free: bool = True


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a store holds at one moment, sorted by key; `address` is a hash of all of it."""

    items: tuple[Item, ...] = ()

    @property
    def address(self) -> str:
        rows = [[i.key, i.text, i.source, i.born, i.uses, i.label_free] for i in self.items]
        return blake2b(json.dumps(rows).encode(), digest_size=8).hexdigest()

    def under(self, prefix: str) -> tuple[Item, ...]:
        """The items whose key starts with `prefix`."""
        return tuple(item for item in self.items if item.key.startswith(prefix))


@dataclass(frozen=True, slots=True)
class Proposal:
    """What one episode wants of the store: texts to `put` by key, keys to `drop`, keys it `used`.

    It is carried out, or not, when the whole group is played. `read` is the address of the
    snapshot that the episode was shown.
    """

    put: tuple[tuple[str, str], ...] = ()
    drop: tuple[str, ...] = ()
    used: tuple[str, ...] = ()
    read: str = ""


class Kit(Protocol):
    """What a memory is lent: budget, tools, and messages to `Synth` ids (or a frame alone).

    `thoughts` are the stretches of a turn's ids that the model's own chat template leaves out of
    turns before the latest user message ("past") or after it ("recent").
    `store` is what earlier episodes left. `scorer(view, ids)` are the policy's log-probs of ids
    after a view, None if it reads none.
    """

    @property
    def budget(self) -> Budget: ...
    @property
    def tools(self) -> tuple[Tool, ...]: ...
    @property
    def store(self) -> Snapshot: ...
    @property
    def scorer(self) -> Callable[[View, Ids], tuple[float, ...]] | None: ...
    def synth(self, message: Message, reason: str) -> Synth: ...
    def frame(self, role: Role, before: str = "", after: str = "") -> tuple[Synth, Synth]: ...
    def thoughts(
        self, ids: Ids, when: Literal["past", "recent"]
    ) -> tuple[tuple[int, int], ...]: ...


class Ask(Protocol):
    """The only way for a memory to run a model; appends a `memory` event and returns it.

    by="policy": the notes are ordinary sampled tokens and are trained.
    by="aux": an auxiliary policy writes them and they never enter a loss.
    Returns None when nothing usable came back (empty, or the context is full). Several may run at
    once (`asyncio.gather`): their events stand in the order in which they were asked.
    """

    async def __call__(
        self, purpose: str, view: View, max_tokens: int, by: Literal["policy", "aux"] = "policy"
    ) -> Event | None: ...


class Memory(Protocol):
    """`view` is pure; state changes only in `on`; `rewrites` says that a view may drop its past.

    A memory may also have `stops`, texts that end a turn and are answered by it, and `keeps`, true
    if it reads and writes a store. A state may have `reply` (to the latest call of its tools, or
    stop), `proposal` (a `Proposal`, taken at the end of the episode), and `numbers` (counters of
    the trajectory, taken then too).
    """

    @property
    def rewrites(self) -> bool: ...
    def tools(self) -> tuple[Tool, ...]: ...
    def start(self, log: Log, kit: Kit) -> Any: ...
    def view(self, log: Log, state: Any) -> View: ...
    async def on(self, boundary: Boundary, log: Log, state: Any, ask: Ask) -> Any: ...
