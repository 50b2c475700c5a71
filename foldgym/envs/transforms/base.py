"""`Transform`: a wrapper with a knob that does nothing at all at the knob's first level."""

from __future__ import annotations

import copy
import random
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Generic, Literal, TypeVar

import gymnasium
from gymnasium.error import ResetNeeded

from foldgym.envs.base import ToolEnv
from foldgym.envs.spaces import MessageSpace
from foldgym.envs.wrappers import Wrapper
from foldgym.errors import UserError
from foldgym.seeding import generator
from foldgym.tools import MAX_CALLS, parse_action
from foldgym.types import Action, Json, Message, Observation, Step, Task, Tool, ToolCall

Inner = gymnasium.Env[Any, Any]


@dataclass(frozen=True, slots=True)
class Knob:
    """`Knob("k", (1, 2, 4, 8), 1, 64, "all tasks must be solved")`: how hard, by one option.

    `levels` begin with no change at all; values from `least` to `most` are allowed. `claim` says
    why a solver of bounded ability succeeds less from level to level (more, if `effect` is
    "easier"; no less and no more, if it is "none"), beginning with the level at place `since`;
    `foldgym.testing.transforms` tests it.
    """

    option: str
    levels: tuple[float, ...]
    least: float
    most: float
    claim: str
    effect: Literal["harder", "easier", "none"] = "harder"
    since: int = 0

    def check(self, value: float) -> None:
        """Raises `UserError` for a value out of range."""
        if not self.least <= value <= self.most:
            raise UserError(
                f"{self.option} must be from {self.least:g} to {self.most:g}, not {value!r}"
            )


@dataclass(slots=True)
class Play:
    """How an episode stands as the transform sees it; snapshots copy it."""

    seed: int
    options: dict[str, Json]
    rng: random.Random
    """For chance during play: differs between the members of a group."""
    task: Task = field(default_factory=lambda: Task("", ()))
    turns: int = 0
    errors: int = 0
    over: bool = False


P = TypeVar("P", bound=Play)


class Transform(Wrapper, Generic[P]):
    """Base of our transforms. A subclass writes `begin`, `respond` and `facts`.

    It changes what it must and looks everything else up inside, so transforms stack. At the first
    level of its knob (`off`) every call goes straight through. Turns are counted here, since some
    never reach the inside, and `longer` says how many turns the change is worth.
    """

    knob: ClassVar[Knob]
    trains: ClassVar[bool] = True
    """Whether a training run may use it."""
    keeps_task: ClassVar[bool] = True
    """Whether the agent plays the task that the world made; if not, its hooks do not apply."""
    inside: bool = False
    """Whether the world itself is allowed as many turns as the agent (`allow`)."""
    play_type: type[P]

    def __init__(self, env: Inner, **arguments: Any) -> None:
        super().__init__(env, **arguments)
        self.knob.check(arguments[self.knob.option])
        self.off = arguments[self.knob.option] == self.knob.levels[0]
        self.now: P | None = None
        self._space: MessageSpace | None = None

    # ------------------------------------------------------------ what a subclass writes

    @abstractmethod
    def begin(self, now: P) -> Task:
        """Begin an episode inside and return the task as the agent shall see it."""

    def respond(self, now: P, message: Message) -> Step:
        """Answer one message of at most `MAX_CALLS` calls."""
        return played(self.env, message)

    def facts(self, now: P, inner: dict[str, Json]) -> dict[str, Json]:
        """What to change in the facts of the inside, or to add to them."""
        return {}

    def offered(self, tools: tuple[Tool, ...]) -> tuple[Tool, ...]:
        """The tools of this episode, given those of the inside."""
        return tools

    def longer(self, turns: int) -> int:
        """How many turns an agent may need where the inside allows `turns`."""
        return turns

    # ------------------------------------------------------------ the environment's side

    @property
    def tools(self) -> tuple[Tool, ...]:
        """The inside's tools, as `offered` has them."""
        inner: tuple[Tool, ...] = self._inner("tools")
        return inner if self.off else self.offered(inner)

    @property
    def task(self) -> Task:
        """The task as the agent sees it."""
        return self._inner("task") if self.off or self.now is None else self.now.task

    @property
    def note_styles(self) -> tuple[str, ...]:
        """Those of the inside, unless its expert would write about another task."""
        return super().note_styles if self.off or self.keeps_task else ()

    @property
    def max_turns(self) -> int | None:
        """Turns after which an episode is truncated; None if nothing inside limits them."""
        inner = hook(self.env, "max_turns")
        return inner if self.off or self.inside or inner is None else self.longer(inner)

    @property
    def action_space(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Whatever a model can say; samples are calls of the tools that are offered."""
        inner = self.env.action_space
        if self._space is None and not self.off and isinstance(inner, MessageSpace):
            self._space = MessageSpace(self.offered(inner.tools))
        return self._space or inner

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Json] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin a new episode; options go inside."""
        given = dict(options or {})
        if self.off:
            return self.env.reset(seed=seed, options=given)
        number = int(self.np_random.integers(2**62)) if seed is None else int(seed)
        rng = generator(number, type(self).__name__, int(given.get("episode", 0)))
        self.now = self.play_type(number, given, rng)
        self.now.task = self.begin(self.now)
        return self.now.task.prompt, {"task": self.now.task.id}

    def step(self, action: Action) -> Step:
        """Play one message, or text that is read as one."""
        if self.off:
            return played(self.env, action)
        now = self._playing()
        message, problem = action, ""
        if isinstance(message, str):
            message, problem = parse_action(message, self.tools)
        elif not isinstance(message, Message):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"an action is a Message or text, not {action!r}")
        if len(message.tool_calls) > MAX_CALLS:
            problem = f"error: {len(message.tool_calls)} tool calls in one message, "
            problem += f"at most {MAX_CALLS}"
        now.turns += 1
        if problem:
            now.errors += 1
            step = Step((Message("user", problem),), 0.0, False, False, {"errors": 1})
        else:
            step = self.respond(now, message)
        limit = self.max_turns
        if limit is not None and now.turns >= limit and not step.terminated:
            step = step._replace(truncated=True)
        now.over = step.terminated or step.truncated
        return step._replace(info={"errors": 0, **step.info, "turn": now.turns})

    def _playing(self) -> P:
        if self.now is None or self.now.over:
            what = "no episode has begun" if self.now is None else "the episode is over"
            raise ResetNeeded(f"{type(self).__name__}: {what}; call reset() first")
        return self.now

    def measure(self) -> dict[str, Json]:
        """The inside's facts with those of the transform."""
        inner = super().measure()
        if self.off or self.now is None:
            return inner
        errors = int(inner.get("errors", 0)) + self.now.errors
        changed = {**inner, "errors": errors, "turns": self.now.turns}
        return {**changed, **self.facts(self.now, inner)}

    def snapshot(self) -> Any:
        """The state of the transform together with that of the inside."""
        inner = super().snapshot()
        return inner if self.off else (copy.deepcopy(self.now), inner)

    def restore(self, snapshot: Any) -> None:
        """Bring back both."""
        if not self.off:
            now, snapshot = snapshot
            self.now = copy.deepcopy(now)
        super().restore(snapshot)

    # ------------------------------------------------------------ for subclasses

    def within(self, message: Message, own: Mapping[int, str]) -> Step:
        """Play a message inside but for the calls that `own` answers, by their places.

        Replies come in the order of the calls; what the inside says besides comes after them.
        """
        calls = message.tool_calls
        rest = tuple(call for place, call in enumerate(calls) if place not in own)
        if own and not rest:
            step = Step((), 0.0, False, False, {})
        else:
            step = played(self.env, replace(message, tool_calls=rest) if own else message)
        if not own:
            return step
        replies = [each for each in step.observation if each.role == "tool"]
        others = [each for each in step.observation if each.role != "tool"]
        if len(replies) != len(rest):  # a world that does not answer call by call
            replies, others = [], list(step.observation)
        waiting = iter(replies)
        merged = [
            reply(call, own[place]) if place in own else next(waiting, None)
            for place, call in enumerate(calls)
        ]
        observation = (*(each for each in merged if each is not None), *others)
        return step._replace(observation=observation)


def played(env: Inner, action: Action) -> Step:
    """A step of any Gymnasium environment as ours."""
    stepped: Any = env.step(action)
    return Step(*stepped)


def reply(call: ToolCall, text: str) -> Message:
    """What a tool said."""
    return Message("tool", text, tool_call_id=call.id, name=call.name[:64])


def hook(env: Inner, name: str) -> Any:
    """What an environment offers under a name, through its wrappers; None if it does not."""
    return env.get_wrapper_attr(name) if env.has_wrapper_attr(name) else None


def of_world(env: Inner, name: str) -> Any:
    """A hook of the world itself, unless a transform between changes which task is played."""
    while isinstance(env, gymnasium.Wrapper):
        if isinstance(env, Transform) and not env.off and not env.keeps_task:
            return None
        env = env.env
    return hook(env, name)


def allow(env: Inner, factor: int) -> None:
    """Let the world itself run for that many times its turns."""
    world = env.unwrapped
    if isinstance(world, ToolEnv) and world.max_turns is not None:
        world.max_turns *= factor


def stretched(env: Any, turns: int) -> int:
    """A limit on turns for the bare world, as the transforms around it stretch it."""
    if not isinstance(env, gymnasium.Wrapper):
        return turns
    turns = stretched(env.env, turns)
    return env.longer(turns) if isinstance(env, Transform) and not env.off else turns


def answer_tool(tools: Sequence[Tool], name: str, who: str) -> tuple[Tool, str]:
    """The tool that takes the final answer, and the name of its only parameter.

    Raises `UserError` where there is no such tool.
    """
    found = next((each for each in tools if each.name == name), None)
    known = ", ".join(each.name for each in tools) or "none"
    if found is None:
        raise UserError(
            f"{who}: the world has no tool {name!r} that takes the answer; tools: {known}"
        )
    properties = list(found.parameters.get("properties", {}))
    if len(properties) != 1:
        raise UserError(f"{who}: tool {name!r} must take one parameter, not {len(properties)}")
    return found, properties[0]
