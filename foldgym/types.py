"""Every noun of foldgym, on one page: read this first.

Data is frozen; behaviour is a Protocol of a few methods; algorithms are functions.
Shape letters, used in names everywhere: T tokens, K turns, G group members, B rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]
    Ints: TypeAlias = NDArray[np.int64]

Json: TypeAlias = Any  # None, bool, int, float, str, list or dict of the same
Ids: TypeAlias = tuple[int, ...]
Role = Literal["system", "user", "assistant", "tool"]

# ---------------------------------------------------------------- what is said


@dataclass(frozen=True, slots=True)
class Image:
    """Encoded picture bytes inside a message."""

    data: bytes
    media_type: str = "image/png"


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


# ---------------------------------------------------------------- the world

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
    async def close(self) -> None: ...


# ---------------------------------------------------------------- who plays


@dataclass(frozen=True, slots=True)
class Sampling:
    """Temperature 0 is greedy. Log-probs are always those of the distribution sampled from."""

    temperature: float = 1.0
    max_tokens: int = 64


class Finish(Enum):
    """Why a completion ended."""

    STOP = "stop"  # the policy sampled an end token
    LENGTH = "length"  # max_tokens came first


@dataclass(frozen=True, slots=True)
class Prompt:
    """Exactly what the policy is shown: `ids` for token engines, `messages` for the others."""

    ids: Ids
    messages: tuple[Message, ...] = ()
    tools: tuple[Tool, ...] = ()
    turn: int = 0
    purpose: str = "act"


@dataclass(frozen=True, slots=True)
class Completion:
    """Sampled ids (the end token included), one log-prob each, and the weights that sampled them.

    A policy without tokens (scripted, chat API) leaves `ids` empty and gives a `message`.
    """

    ids: Ids = ()
    logprobs: tuple[float, ...] = ()
    version: int = 0
    finish: Finish = Finish.STOP
    message: Message | None = None


class Session(Protocol):
    """A policy's side of one episode: its random stream and whatever it keeps between turns."""

    async def sample(self, prompt: Prompt, sampling: Sampling) -> Completion: ...
    def close(self) -> None: ...


class Policy(Protocol):
    """Anything that can act. `version` counts weight updates."""

    @property
    def version(self) -> int: ...
    def open(self, seed: int, env: EnvHandle) -> Session: ...


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
    """What the model is shown now. `open_turn`: the last item is an unfinished assistant turn."""

    items: tuple[Ref | Synth, ...]
    open_turn: bool = False


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


class Kit(Protocol):
    """What a memory is lent: the budget, and messages to `Synth` ids (with or without a frame)."""

    @property
    def budget(self) -> Budget: ...
    def synth(self, message: Message, reason: str) -> Synth: ...
    def frame(self, role: Role, before: str = "", after: str = "") -> tuple[Synth, Synth]: ...


class Ask(Protocol):
    """The only way for a memory to run a model; appends a `memory` event and returns it.

    by="policy": the notes are ordinary sampled tokens and are trained.
    by="aux": an auxiliary policy writes them and they never enter a loss.
    Returns None when nothing usable came back (empty, or the context is full).
    """

    async def __call__(
        self, purpose: str, view: View, max_tokens: int, by: Literal["policy", "aux"] = "policy"
    ) -> Event | None: ...


class Memory(Protocol):
    """`view` is pure; state changes only in `on`; `rewrites` says that a view may drop its past."""

    @property
    def rewrites(self) -> bool: ...
    def tools(self) -> tuple[Tool, ...]: ...
    def start(self, log: Log, kit: Kit) -> Any: ...
    def view(self, log: Log, state: Any) -> View: ...
    async def on(self, boundary: Boundary, log: Log, state: Any, ask: Ask) -> Any: ...


# ---------------------------------------------------------------- what the trainer gets


class Stop(Enum):
    """Why an episode ended; each has its sentence in `Stop.sentence`."""

    DONE = "done"
    TRUNCATED = "truncated"
    MAX_TURNS = "max_turns"
    MAX_CONTEXT = "max_context"
    MAX_SECONDS = "max_seconds"
    PARSE_ERRORS = "parse_errors"
    ERROR = "error"

    @property
    def sentence(self) -> str:
        return _STOPS[self]


_STOPS = {
    Stop.DONE: "The environment said that the episode is over.",
    Stop.TRUNCATED: "The environment cut the episode short.",
    Stop.MAX_TURNS: "The limit on turns was reached.",
    Stop.MAX_CONTEXT: "The next prompt would not have fitted into the context.",
    Stop.MAX_SECONDS: "The limit on wall-clock seconds was reached.",
    Stop.PARSE_ERRORS: "Too many messages in a row could not be read.",
    Stop.ERROR: "Something of ours failed; the trajectory is not scored.",
}


@dataclass(frozen=True, slots=True)
class Turn:
    """One call of the policy and what came back. Folds are turns too (`purpose="fold"`)."""

    index: int
    message: Message
    observation: Observation = ()
    reward: float = 0.0  # the environment's own, for this step
    purpose: str = "act"
    lineage: str = "main"
    problem: str = ""  # why the text could not be read; empty if it could
    finish: Finish = Finish.STOP
    prompt_tokens: int = 0
    sampled_tokens: int = 0
    info: Mapping[str, Json] = field(default_factory=dict[str, Json])


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of ids that only ever grew.

    >>> Segment(token_ids=(5, 6, 9, 2), turn_ids=(-1, -1, 0, 0), logprobs=(0.0, 0.0, -0.7, -0.1),
    ...         versions=(-1, -1, 3, 3)).trained
    2

    `turn_ids` says which turn sampled an id (-1: context); the loss mask and per-turn credit both
    derive from it. `logprobs` are the sampler's, 0 on context.
    """

    token_ids: Ids
    turn_ids: Ids
    logprobs: tuple[float, ...]
    versions: Ids
    lineage: str = "main"
    trainable: bool = True

    def __post_init__(self) -> None:
        sizes = {len(self.token_ids), len(self.turn_ids), len(self.logprobs), len(self.versions)}
        if len(sizes) != 1:
            raise ValueError(
                f"segment columns differ in length: token_ids {len(self.token_ids)}, "
                f"turn_ids {len(self.turn_ids)}, logprobs {len(self.logprobs)}, "
                f"versions {len(self.versions)}"
            )

    @property
    def trained(self) -> int:
        """How many ids of this segment enter a loss."""
        return sum(turn >= 0 for turn in self.turn_ids) if self.trainable else 0


@dataclass(frozen=True, slots=True)
class Trajectory:
    """One finished episode. `error` is set exactly when `stop` is `Stop.ERROR`."""

    id: str
    env: str
    task: Task
    seed: int  # of the policy's random stream; the task has its own
    turns: tuple[Turn, ...]
    segments: tuple[Segment, ...]
    stop: Stop
    facts: Mapping[str, Json] = field(default_factory=dict[str, Json])
    error: str = ""
    counters: Mapping[str, float] = field(default_factory=dict[str, float])
    seconds: float = field(default=0.0, compare=False)

    @property
    def failed(self) -> bool:
        return self.stop is Stop.ERROR

    @property
    def trained(self) -> int:
        return sum(segment.trained for segment in self.segments)


@dataclass(frozen=True, slots=True)
class Reward:
    """`total = outcome + sum(turns)`; `parts` is the breakdown, weights and gates applied."""

    total: float
    outcome: float
    turns: tuple[float, ...] = ()
    parts: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True, slots=True)
class Guide:
    """Help that comes before the first sampled turn; none of its tokens is ever trained.

    `hint` is a user message; `reveal` shows that share of `task.metadata["criteria"]`; `lead`
    turns are played by the environment's expert; `prefix` are recorded turns, played again.
    """

    hint: str = ""
    reveal: float = 0.0
    lead: int = 0
    prefix: tuple[Turn, ...] = ()

    @property
    def helps(self) -> bool:
        """Whether there is any help at all; only unaided attempts say how hard a task is."""
        return bool(self.hint or self.reveal or self.lead or self.prefix)


@dataclass(frozen=True, slots=True)
class Request:
    """Play `n` episodes of one task. Members share `seed` (the task) and differ in their own.

    `options` go to the environment's `reset`, `kwargs` to its constructor, over the run file's.
    `max_turns` and `max_context` lower the run's limits (0: as they are). `guides` is empty, or
    one for all members, or one each. `arm` is whose statistics count this, `reason` why it exists.
    """

    env: str
    seed: int
    n: int = 1
    options: Mapping[str, Json] = field(default_factory=dict[str, Json])
    arm: str = ""
    kwargs: Mapping[str, Json] = field(default_factory=dict[str, Json])
    max_turns: int = 0
    max_context: int = 0
    guides: tuple[Guide, ...] = ()
    reason: str = ""

    def __post_init__(self) -> None:
        if len(self.guides) not in (0, 1, self.n):
            raise ValueError(f"{len(self.guides)} guides for {self.n} members; give none, 1 or all")

    def guide(self, member: int) -> Guide:
        """What helps this member."""
        if not self.guides:
            return Guide()
        return self.guides[member if len(self.guides) > 1 else 0]


@dataclass(frozen=True, slots=True)
class Group:
    """The scored trajectories of one request; failed ones are kept apart and never count."""

    request: Request
    trajectories: tuple[Trajectory, ...]
    rewards: tuple[Reward, ...]
    failures: tuple[Trajectory, ...] = ()

    def __post_init__(self) -> None:
        if len(self.trajectories) != len(self.rewards):
            raise ValueError(
                f"{len(self.trajectories)} trajectories but {len(self.rewards)} rewards"
            )


Credit: TypeAlias = "tuple[Floats, ...]"  # one array [T] per segment of a trajectory
Credits: TypeAlias = "tuple[tuple[Credit, ...], ...]"  # credits[group][trajectory]
AdvantageFn: TypeAlias = "Callable[[Sequence[Group]], Credits]"  # sees the whole batch of groups


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows are segments, right-padded to the longest; every loss is `sum(weight_BT * loss_BT)`.

    `turn_BT` is -1 on context and padding. `weight_BT` is 0 there and already holds the
    aggregation's global denominator, so micro-batches add up exactly.
    `row_trajectory_B` and `row_group_B` number trajectories and groups of the batch from 0.
    `names` are the trajectories' ids; `extra` holds further columns [B, T] that a loss asks for,
    such as the log-probs of a reference.
    """

    ids_BT: Ints
    turn_BT: Ints
    logprob_BT: Floats
    version_BT: Ints
    advantage_BT: Floats
    weight_BT: Floats
    length_B: Ints
    row_trajectory_B: Ints
    row_group_B: Ints
    names: tuple[str, ...] = ()
    extra: Mapping[str, Floats] = field(default_factory=dict[str, "Floats"])

    @property
    def rows(self) -> int:
        return int(self.ids_BT.shape[0])


class Verdict(Enum):
    """What a sampler says of a finished group."""

    ACCEPT = "accept"
    REJECT = "reject"


@dataclass(frozen=True, slots=True)
class Keep:
    """Accept these members only, before any statistic of the group is taken."""

    members: tuple[int, ...]


Merge = Literal["replace_one", "replace_group", "new_group"]


@dataclass(frozen=True, slots=True)
class Retry:
    """Play more first. `merge` says what the new groups are to the judged one.

    `"replace_one"`: the first attempt with `metric >= solved` takes the place of one failed member;
    `"replace_group"`: the new group takes the whole place; both are then judged again.
    `"new_group"`: they are groups of their own, and `verdict` settles the judged one.
    """

    requests: tuple[Request, ...]
    merge: Merge
    verdict: Verdict = Verdict.REJECT
    metric: str = "score"
    solved: float = 1.0


Decision: TypeAlias = "Verdict | Keep | Retry"


class Sampler(Protocol):
    """Decides what is played. All state survives `state` / `load`, so a run can resume exactly.

    `update` sees every played trajectory of a step once, accepted or not. `weigh` comes after the
    advantages: it may scale credit and leave trajectories out, and never recomputes statistics.
    """

    def plan(self, step: int, want: int) -> list[Request]: ...
    def judge(self, group: Group) -> Decision: ...
    def update(self, accepted: Sequence[Group], rejected: Sequence[Group]) -> dict[str, float]: ...
    def weigh(self, groups: Sequence[Group], credits: Credits) -> tuple[list[Group], Credits]: ...
    def state(self) -> dict[str, Json]: ...
    def load(self, state: Mapping[str, Json]) -> None: ...


class Learner(Protocol):
    """Changes weights; raises `NotFinite` before touching them if anything is not finite."""

    def update(self, batch: Batch) -> dict[str, float]: ...
