"""What is asked for and what is learned: requests, groups, credit, batches, samplers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from foldgym.types.episodes import Reward, Trajectory, Turn
from foldgym.types.messages import Json, Picture

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]
    Ints: TypeAlias = NDArray[np.int64]


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
    such as the log-probs of a reference. `pictures` are those of each row; empty where no row has
    any.
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
    pictures: tuple[tuple[Picture, ...], ...] = ()

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
