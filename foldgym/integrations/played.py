"""One environment in the shape of TRL's `environment_factory`: `reset`, and a method for each tool.

TRL calls its environments one after the other in its own thread, with no limit on time, and shows
the model whatever a tool raised. So every call here goes through a worker with a budget, and what
went wrong is kept until the rewards are asked for: a failure of ours makes the episode one without
a reward, a bug stops the run.
"""

from __future__ import annotations

import asyncio
import json
import threading
import warnings
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import count
from typing import Any, ClassVar, TypeVar, cast

from foldgym.errors import Failure, FoldgymError, UserError
from foldgym.types import EnvHandle, Json, Message, Stop, Task, Tool, ToolCall, Trajectory, Turn

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Plan:
    """What all episodes of a factory share; `retries` are those of a reset that failed."""

    label: str
    open: Callable[[Mapping[str, Json]], EnvHandle]  # with the options of a row
    tools: tuple[Tool, ...]
    max_turns: int
    retries: int


class Played:
    """An episode after the other, each in an environment of its own.

    Public methods would be tools, so there are none but `reset`; a subclass per environment adds
    those that its model may call.
    """

    _plan: ClassVar[Plan]
    _numbers: ClassVar[count[int]]

    def __init__(self) -> None:
        self._number = next(self._numbers)
        self._handle: EnvHandle | None = None
        self._seed = 0
        self._begin()

    def _begin(self) -> None:
        self._task = Task(f"{self._plan.label}:{self._seed}", ())
        self._turns: list[Turn] = []
        self._stop: Stop | None = None
        self._failed = ""
        self._bug: FoldgymError | None = None

    def reset(self, **row: Json) -> None:
        """Begin the episode of a row of `dataset`: its `task_seed`, with its `options`."""
        if "task_seed" not in row:
            raise UserError(
                "a row has no `task_seed`, so nobody knows which task it is; make the rows with "
                "foldgym.integrations.trl.dataset"
            )
        self._seed = int(row["task_seed"])
        self._begin()
        wait(self._open(json.loads(row.get("options") or "{}")))

    async def _open(self, options: Mapping[str, Json]) -> None:
        for _ in range(self._plan.retries + 1):
            await self._close()
            handle = self._handle = self._plan.open(options)
            try:
                opening = await handle.reset(self._seed, {"episode": self._number})
            except Failure as failure:
                self._fail(failure)
                continue
            self._failed, self._task = "", opening.task
            if opening.tools != self._plan.tools:
                raise UserError(
                    f"the tools of {self._plan.label} differ from task to task, and TRL takes them "
                    "from the class; use `rollout_func` instead of `environment_factory`"
                )
            return

    async def _close(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            await handle.close()

    def _call(self, name: str, arguments: dict[str, Json]) -> str:
        call = ToolCall(name, json.dumps(arguments), f"call_{len(self._turns)}")
        return self._say(Message("assistant", tool_calls=(call,)))

    def _say(self, message: Message) -> str:
        if self._failed:
            return f"error: {self._failed}"
        if self._stop is not None or self._handle is None:
            return "error: the episode is over"
        try:
            step = wait(self._handle.step(message))
        except Failure as failure:
            self._fail(failure)
            return f"error: {self._failed}"
        except FoldgymError as problem:
            self._bug = problem  # TRL would only show it to the model
            raise
        turn = Turn(len(self._turns), message, step.observation, step.reward, info=step.info)
        self._turns.append(turn)
        if step.terminated or step.truncated:
            self._stop = Stop.DONE if step.terminated else Stop.TRUNCATED
        elif len(self._turns) >= self._plan.max_turns:
            self._stop = Stop.MAX_TURNS
        if any(not isinstance(message.content, str) for message in step.observation):
            self._bug = UserError(f"{self._plan.label} shows pictures, which is not supported here")
            raise self._bug
        return "\n".join(message.text for message in step.observation)

    def _fail(self, failure: Failure) -> None:
        self._failed = f"{type(failure).__name__}: {failure}"
        warnings.warn(f"{self._plan.label}, task {self._seed}: {self._failed}", stacklevel=2)

    def _finished(self, completion: Sequence[Mapping[str, Json]]) -> Trajectory:
        """The episode as far as TRL let it come; what the model said last is said here too.

        A message without a call ends an episode in TRL, so it is the last turn whatever the
        environment says to it. Raises what was wrong with our own code.
        """
        if self._bug is not None:
            wait(self._close())
            raise self._bug
        self._turns = _with_words(self._turns, completion)
        last = completion[-1] if completion else {}
        if last.get("role") == "assistant" and not last.get("tool_calls") and self._stop is None:
            self._say(Message("assistant", *_words(last)))
        facts = wait(self._measured())
        return Trajectory(
            f"{self._plan.label}:{self._seed}:{self._number}",
            self._plan.label,
            self._task,
            self._seed,
            tuple(self._turns),
            (),
            Stop.ERROR if self._failed else self._stop or Stop.MAX_TURNS,
            facts,
            self._failed,
        )

    async def _measured(self) -> dict[str, Json]:
        try:
            return await self._handle.measure() if self._handle and not self._failed else {}
        except Failure as failure:
            self._fail(failure)
            return {}
        finally:
            await self._close()


def _words(said: Mapping[str, Json]) -> tuple[str, str]:
    """Content and thinking of a message as TRL parsed it."""
    thinking = said.get("reasoning_content") or said.get("thinking") or ""
    return str(said.get("content") or "").strip(), str(thinking).strip()


def _with_words(turns: Sequence[Turn], completion: Sequence[Mapping[str, Json]]) -> list[Turn]:
    """The turns with what was said beside their calls, which only the completion knows."""
    found = list(turns)
    place = 0
    for said in completion:
        if said.get("role") != "assistant":
            continue
        words = _words(said)
        for call in cast("list[Mapping[str, Json]]", said.get("tool_calls") or []):
            here = found[place].message if place < len(found) else None
            if here is None or not here.tool_calls:
                return found
            function = call.get("function", call)
            same = here.tool_calls[0].name == function.get("name")
            if not same or json.loads(here.tool_calls[0].arguments) != function.get("arguments"):
                continue  # TRL answered this one itself: there is no such tool
            found[place] = replace(
                found[place], message=replace(here, content=words[0], thinking=words[1])
            )
            words, place = ("", ""), place + 1
    return found


# ---------------------------------------------------------------- from a thread without a loop


def wait(work: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine in a thread of ours, whether or not the caller is inside an event loop."""
    return asyncio.run_coroutine_threadsafe(work, _loop()).result()


@cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="foldgym-trl", daemon=True).start()
    return loop
