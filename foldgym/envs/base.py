"""`Env`, a Gymnasium environment for language-model agents, and `ToolEnv`, the way to write one."""

from __future__ import annotations

import copy
import math
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self, cast

import gymnasium
from gymnasium.error import ResetNeeded

from foldgym.envs.spaces import MessageSpace, ObservationSpace
from foldgym.errors import UnknownName, UserError
from foldgym.seeding import generator
from foldgym.tools import (
    MAX_CALLS,
    ToolFunction,
    call_tool,
    parse_action,
    unknown_tool,
    usage,
)
from foldgym.types import Action, Evidence, Json, Message, Observation, Step, Task, Tool, ToolCall


class Env(gymnasium.Env[Observation, Action]):
    """An episode is one task, played in messages:

        observation, info = env.reset(seed=7)      # env.task.prompt: the question
        while True:
            action = agent(observation)            # an assistant Message, or text
            observation, reward, terminated, truncated, info = env.step(action)
            if terminated or truncated:
                break
        facts = env.measure()                      # whatever ended the episode, even nothing
        env.close()

    A model's mistake is answered by an observation; `step` raises only for a bug.
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi"], "render_fps": 1}  # noqa: RUF012
    experts: tuple[str, ...] = ()
    """Styles of the scripted player, the best one first."""
    note_styles: tuple[str, ...] = ()
    """Purposes of a memory for which `expert` writes the note too, such as "fold"."""
    task: Task

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Set the spaces here, so that an author's `__init__` need not call ours."""
        env = super().__new__(cls)
        env.action_space = MessageSpace()
        env.observation_space = ObservationSpace()
        return env

    @property
    def tools(self) -> tuple[Tool, ...]:
        """What the agent may call in this episode."""
        return ()

    def step(self, action: Action) -> Step:
        """Play one message, or text that is read as one."""
        raise NotImplementedError(f"{type(self).__name__} does not answer messages")

    def measure(self) -> dict[str, Json]:
        """Facts about the episode so far; at least `score`, `success` and `turns`."""
        raise NotImplementedError(f"{type(self).__name__} does not measure its episodes")

    def evidence(self) -> Sequence[Evidence]:
        """What a player should remember, for the evaluation of memories; never shown by itself.

        After `reset`: all that the task's solution rests on. Later also what was said meanwhile.
        """
        return ()

    def expert(self, style: str, rng: random.Random) -> Action:
        """The next action (a Message, or text) of the scripted player, who may peek."""
        raise UnknownName("expert", style, self.experts, f"Asked of {type(self).__name__}.")


@dataclass(slots=True)
class _Play:
    """How the current episode stands."""

    turns: int = 0
    errors: int = 0
    reward: float = 0.0
    score: float | None = None
    truncated: bool = False
    facts: dict[str, Json] = field(default_factory=dict[str, Json])

    @property
    def over(self) -> bool:
        return self.score is not None or self.truncated


_NOT_STATE = frozenset(("_bound", "spec", "action_space", "observation_space", "render_mode"))


class ToolEnv(Env):
    """Write an environment in a few lines; dispatch, error replies and endings are done.

        class Doubling(ToolEnv):
            max_turns = 5

            def setup(self, rng):
                self.number = rng.randint(1, 50)
                return f"What is twice {self.number}?"

            @tool
            def answer(self, value: int) -> str:
                '''Give your answer.'''
                self.finish(1.0 if value == 2 * self.number else 0.0)
                return "Thank you."

    `setup` makes the episode from `rng` alone and returns the question (text, a Message, or a whole
    `Task`). Methods under `@tool` return text. `finish(score)` ends the episode. `self.rng` is for
    randomness during play and differs between the members of a group.
    """

    max_turns: int | None = None
    """Turns after which an unfinished episode is truncated."""
    option_names: tuple[str, ...] = ()
    """Keys of `reset(options=...)` that `setup` reads from `self.options`."""
    shared: tuple[str, ...] = ()
    """Attributes that never change, which snapshots need not copy."""

    rng: random.Random
    options: Mapping[str, Json]
    _class_tools: ClassVar[tuple[ToolFunction, ...]] = ()
    _bound: tuple[Tool, ...] | None = None
    _play: _Play | None = None
    _shown: Observation = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        found: dict[str, Any] = {}
        for base in reversed(cls.__mro__):
            found.update(vars(base))
        tools = {key: each for key, each in found.items() if isinstance(each, ToolFunction)}
        for key in tools:
            if hasattr(ToolEnv, key):
                raise UserError(
                    f"{cls.__name__}: a tool method may not be called {key!r}, which every "
                    f"environment has; use @tool(name={key!r}) on another name"
                )
        names = [each.name for each in tools.values()]
        for name in names:
            if names.count(name) > 1:
                raise UserError(f"{cls.__name__} has two tools called {name!r}")
        cls._class_tools = tuple(tools.values())

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """As for `Env`; samples of the action space are calls of the tools."""
        env = super().__new__(cls)
        env.action_space = MessageSpace(cls._class_tools)
        return env

    def __init__(self, *, render_mode: str | None = None) -> None:
        self.render_mode = render_mode

    # ------------------------------------------------------------ what an author writes

    def setup(self, rng: random.Random) -> str | Message | Sequence[Message] | Task:
        """Make a new episode and return its question; every random choice comes from `rng`."""
        raise NotImplementedError(f"{type(self).__name__} needs setup(self, rng) -> question")

    def setup_task(self, task: Task, rng: random.Random) -> None:
        """Make the episode of a given task; write it to let your environment play datasets."""
        raise UserError(
            f"{type(self).__name__} cannot play given tasks: it has no setup_task(self, task, rng)"
        )

    def respond(self, message: Message) -> str:
        """The reply to a message without a tool call."""
        listing = "; ".join(usage(each) for each in self.tools)
        return f"error: there is no tool call in your message. Tools: {listing or 'none'}"

    def grade(self) -> float:
        """The score of an episode that nothing has finished."""
        return 0.0

    # ------------------------------------------------------------ what an author calls

    def finish(
        self,
        score: float,
        /,
        *,
        reward: float | None = None,
        truncated: bool = False,
        **facts: Json,
    ) -> None:
        """End the episode with this message.

        `reward` is what this step pays, `score` unless said otherwise; `facts` enter `measure()`,
        where `success` is true from score 1 on unless given here.
        """
        play = self._started()
        if play.score is not None:
            raise RuntimeError(f"{type(self).__name__} called finish() twice in one episode")
        play.score = _finite(score, "score")
        play.truncated = truncated
        play.facts.update(facts)
        self.reward(play.score if reward is None else reward)

    def reward(self, amount: float) -> None:
        """Add to what the current step pays."""
        self._started().reward += _finite(amount, "reward")

    @property
    def turn(self) -> int:
        """Number of the current step, from 1; 0 before the first."""
        return self._play.turns if self._play else 0

    # ------------------------------------------------------------ the Gymnasium side

    @property
    def tools(self) -> tuple[Tool, ...]:
        """The methods under `@tool`, in the order of their definition."""
        if self._bound is None:
            self._bound = tuple(each.__get__(self) for each in self._class_tools)
        return self._bound

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Json] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin a new episode, at any time.

        Options: `task` plays that Task, `episode` (int) changes the random stream of play but not
        the task. Raises `UserError` for an option that nothing here reads.
        """
        super().reset(seed=seed)
        given = dict(options or {})
        task, episode = given.pop("task", None), given.pop("episode", 0)
        for name in given:
            if name not in self.option_names:
                known = ("task", "episode", *self.option_names)
                raise UnknownName(f"reset option of {type(self).__name__}", name, known)
        self.options = given
        number = int(self.np_random.integers(2**62)) if seed is None else int(seed)
        self.rng = generator(number, "play", int(episode))
        self._play = _Play()
        if task is None:
            self.task = self._task(self.setup(generator(number, "setup")), number)
        else:
            self.task = task
            self.setup_task(task, generator(number, "setup"))
        self._shown = self.task.prompt
        return self._shown, {"task": self.task.id}

    def _task(self, made: Any, seed: int) -> Task:
        if isinstance(made, Task):
            return made
        if isinstance(made, str):
            made = Message("user", made)
        several = cast("Sequence[Any]", made) if isinstance(made, list | tuple) else ()
        prompt = (made,) if isinstance(made, Message) else tuple(several)
        if not prompt or not all(isinstance(each, Message) for each in prompt):
            raise TypeError(
                f"setup() of {type(self).__name__} must return a question (text, Message, several "
                f"Messages or a Task), not {made!r}"
            )
        return Task(f"{type(self).__name__}-{seed}", prompt)

    def step(self, action: Action) -> Step:
        """Play one message. Raises `gymnasium.error.ResetNeeded` when no episode is running."""
        play = self._playing()
        message, problem = action, ""
        if isinstance(message, str):
            message, problem = parse_action(message, self.tools)
        elif not isinstance(message, Message):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"an action is a Message or text, not {action!r}")
        play.turns += 1
        play.reward = 0.0
        before = play.errors
        if problem or not message.tool_calls:
            observation = self._spoken(problem or self.respond(message))
        elif len(message.tool_calls) > MAX_CALLS:
            observation = self._spoken(
                f"error: {len(message.tool_calls)} tool calls in one message, at most {MAX_CALLS}"
            )
        else:
            observation = self._replies(message.tool_calls)
        if self.max_turns is not None and play.turns >= self.max_turns and play.score is None:
            play.truncated = True
        self._shown = observation
        info = {"turn": play.turns, "errors": play.errors - before}
        terminated = play.score is not None and not play.truncated
        return Step(observation, play.reward, terminated, play.truncated, info)

    def _started(self) -> _Play:
        if self._play is None:
            raise ResetNeeded(f"no episode of {type(self).__name__} has begun; call reset() first")
        return self._play

    def _playing(self) -> _Play:
        play = self._started()
        if play.over:
            raise ResetNeeded(f"the episode of {type(self).__name__} is over; call reset() first")
        return play

    def _spoken(self, text: str) -> Observation:
        self._count(text)
        return (Message("user", text),)

    def _count(self, text: str) -> None:
        if text.startswith("error:") and self._play:
            self._play.errors += 1

    def _replies(self, calls: Sequence[ToolCall]) -> Observation:
        by_name = {each.name: each for each in self.tools}
        texts: list[str] = []
        for batch in _batches(calls, by_name):
            if self._play is None or self._play.over:
                texts += ["error: not run, the episode is over"] * len(batch)
            elif len(batch) == 1:
                texts.append(self._reply(batch[0], by_name))
            else:
                texts += _in_threads(
                    [lambda call=call: self._reply(call, by_name) for call in batch]
                )
        for text in texts:
            self._count(text)
        return tuple(
            Message("tool", text, tool_call_id=call.id, name=call.name[:64])
            for call, text in zip(calls, texts, strict=True)
        )

    def _reply(self, call: ToolCall, by_name: Mapping[str, Tool]) -> str:
        found = by_name.get(call.name)
        return call_tool(found, call.arguments) if found else unknown_tool(call.name, self.tools)

    def measure(self) -> dict[str, Json]:
        """`score`, `success`, `turns`, `errors` (replies that were errors) and `finish`'s facts."""
        play = self._play or _Play()
        unfinished = play.score is None
        score = play.score if play.score is not None else 0.0
        if unfinished and self._play is not None:
            score = _finite(self.grade(), "grade")
        facts = {"score": score, "success": score >= 1.0, "turns": play.turns}
        return {**facts, "errors": play.errors, **copy.deepcopy(play.facts)}

    def render(self) -> str | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """What the agent was last shown, if made with `render_mode="ansi"`."""
        if self.render_mode is None:
            return None
        return "\n".join(f"[{each.role}] {each.text}" for each in self._shown)

    # ------------------------------------------------------------ forks

    def snapshot(self) -> dict[str, Any]:
        """The episode as it stands, to be given to `restore` any number of times."""
        return self._copied(self.__dict__)

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Go back to a snapshot of this environment, or of one made alike."""
        for key in set(self.__dict__) - set(snapshot) - _NOT_STATE - set(self.shared):
            delattr(self, key)
        self.__dict__.update(self._copied(snapshot))

    def _copied(self, state: Mapping[str, Any]) -> dict[str, Any]:
        kept = {
            key: value
            for key, value in state.items()
            if key not in _NOT_STATE and key not in self.shared
        }
        return copy.deepcopy(kept, {id(self): self})

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_bound"}


def _batches(calls: Sequence[ToolCall], by_name: Mapping[str, Tool]) -> list[list[ToolCall]]:
    """Neighbouring calls of concurrent tools together, every other call alone."""
    batches: list[list[ToolCall]] = []
    joining = False
    for call in calls:
        found = by_name.get(call.name)
        concurrent = found is not None and found.concurrent
        if concurrent and joining:
            batches[-1].append(call)
        else:
            batches.append([call])
        joining = concurrent
    return batches


def _in_threads(jobs: Sequence[Callable[[], str]]) -> list[str]:
    """Results in the order of the jobs; the first exception, in that order, is raised."""
    results: list[str | BaseException] = [""] * len(jobs)

    def work(index: int) -> None:
        try:
            results[index] = jobs[index]()
        except BaseException as problem:
            results[index] = problem

    threads = [
        threading.Thread(target=work, args=(index,), daemon=True) for index in range(len(jobs))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return cast("list[str]", results)


def _finite(value: float, what: str) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{what} must be a finite number, not {value!r}")
    return number
