"""What an episode leaves behind: turns, segments, trajectories, rewards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from foldgym.types.messages import Ids, Json, Message, Observation, Picture, Task
from foldgym.types.playing import Finish, Proposal


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
    """One message of the policy and what came back. Folds are turns too (`purpose="fold"`).

    It took one call, or several where a memory had a turn go on that its length had cut; the token
    counts are of all of them.
    """

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
    derive from it. `logprobs` are the sampler's, 0 on context. `pictures` are what a model that
    sees was shown among the ids.
    """

    token_ids: Ids
    turn_ids: Ids
    logprobs: tuple[float, ...]
    versions: Ids
    lineage: str = "main"
    trainable: bool = True
    pictures: tuple[Picture, ...] = ()

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
    """One finished episode. `error` is set exactly when `stop` is `Stop.ERROR`.

    `proposal` is what its memory read of the store and wants written there, if it keeps one.
    """

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
    proposal: Proposal | None = None

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
