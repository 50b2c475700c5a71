"""What transforms share that put several tasks into one episode: copies of a world, two forms."""

from __future__ import annotations

import copy
import json
import random
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, TypeAlias

from foldgym.envs.transforms.base import (
    Inner,
    Play,
    Transform,
    allow,
    answer_tool,
    hook,
    of_world,
    played,
    reply,
)
from foldgym.envs.transforms.gold import answered, as_message, replay
from foldgym.errors import UserError
from foldgym.seeding import derive_seed
from foldgym.tools import call, call_tool, format_call, unknown_tool
from foldgym.tools.arguments import kinds_of
from foldgym.types import (
    Action,
    Evidence,
    Json,
    Message,
    Observation,
    Step,
    Task,
    Tool,
    ToolCall,
)

Form: TypeAlias = Literal["joint", "each"]
"""`joint`: one answer for all tasks at the end. `each`: one task after the other."""


@dataclass(slots=True)
class Tasks(Play):
    """`at` is the task that is being played in form `each`; `done` says which are over.

    `drawn` are tasks that belong together, where the world can make such.
    """

    at: int = 0
    done: list[bool] = field(default_factory=list[bool])
    drawn: tuple[Task, ...] = ()


class Several(Transform[Tasks]):
    """`count` tasks in one episode, each in a copy of the world.

    In form `joint` a call is played in every copy, and replies that differ are numbered; the tool
    `answer` takes all answers at once, with `separator` between them. In form `each` the tasks are
    played in order, and an answer is only noted.
    """

    keeps_task = False
    play_type = Tasks

    def __init__(
        self, env: Inner, count: int, form: Form, answer: str, separator: str, **arguments: Any
    ) -> None:
        super().__init__(env, form=form, answer=answer, separator=separator, **arguments)
        self.count, self.answer, self.separator = count, answer, separator
        self.form: Form = form
        self.inside = form == "joint"
        if form not in ("joint", "each"):
            raise UserError(f"form must be 'joint' or 'each', not {form!r}")
        if not separator.strip():
            raise UserError(f"separator must be visible, not {separator!r}")
        self.copies: list[Inner] = [env]
        self._ends = form == "each"  # whether it is known that an answer ends a task
        if self.off:
            return
        if form == "joint":
            self._asked()
            if hook(env, "separator") == separator:
                raise UserError(
                    f"{self._who}: the tasks inside hold answers with {separator!r} already; "
                    "choose another separator"
                )
        for _ in range(count - 1):
            self.copies.append(copy.deepcopy(env))
        for each in self.copies if form == "joint" else ():
            allow(each, count)  # all copies see every call

    @property
    def _who(self) -> str:
        return type(self).__name__.lower()

    def _asked(self) -> tuple[Tool, str]:
        return answer_tool(self._inner("tools"), self.answer, f"{self._who} in form 'joint'")

    def longer(self, turns: int) -> int:
        """So many for each task."""
        return turns * self.count

    def offered(self, tools: tuple[Tool, ...]) -> tuple[Tool, ...]:
        """In form `joint` the tool that answers takes all answers."""
        if self.form == "each":
            return tools
        joint = Tool(
            self.answer,
            f"Give the answers to all {self.count} tasks, in their order, separated by "
            f"{self.separator!r}; this ends the episode.",
            {
                "type": "object",
                "properties": {"answers": {"type": "string"}},
                "required": ["answers"],
            },
            _same,
        )
        return tuple(joint if each.name == self.answer else each for each in tools)

    # ------------------------------------------------------------ the tasks

    @abstractmethod
    def prompt(self, now: Tasks, tasks: Sequence[Task]) -> tuple[Message, ...]:
        """The opening that asks all tasks."""

    @abstractmethod
    def score(self, now: Tasks, scores: Sequence[float]) -> float:
        """The score of an episode, from those of its tasks."""

    @abstractmethod
    def pays(self, reward: float) -> float:
        """What the agent gets at once of a reward that a task pays."""

    linked: ClassVar[bool] = False
    """Whether later tasks build on earlier ones."""

    def begin(self, now: Tasks) -> Task:
        """Reset every copy: with tasks that share a world where there are such, or independent."""
        if "task" in now.options:
            raise UserError(f"{self._who} draws its own tasks; it cannot play a given one")
        if not self._ends:
            self._check_ending(now)
        now.done = [False] * self.count
        make = of_world(self.env, "siblings")
        now.drawn = tuple(make(now.seed, self.count, self.linked)) if make else ()
        tasks = self.draw(now)
        return Task(
            f"{tasks[0].id}*{self.count}",
            self.prompt(now, tasks),
            self._gold(tasks),
            {"tasks": [each.id for each in tasks]},
        )

    def _check_ending(self, now: Tasks) -> None:
        """Once: that the expert's answer, where there is an expert, is the end of a task."""
        self._ends = True
        if not self.experts:
            return
        gold = replay(self.env, now.seed, now.options, self._who)
        answers = [
            at
            for at, message in enumerate(gold.messages, 1)
            if self.answer in (each.name for each in message.tool_calls)
        ]
        if answers != [gold.turns]:
            raise UserError(
                f"{self._who}: a task of this world does not end with one call of {self.answer!r}; "
                "use form='each'"
            )

    def draw(self, now: Tasks) -> list[Task]:
        """The tasks of an episode, each begun in its copy."""
        for place in range(self.count):
            self.start(now, place)
        return [each.get_wrapper_attr("task") for each in self.copies]

    def seed_of(self, now: Tasks, place: int) -> int:
        """The seed of one copy; the first has the episode's own."""
        return derive_seed(now.seed, type(self).__name__, place) if place else now.seed

    def start(self, now: Tasks, place: int) -> None:
        """Begin (again) the task of one copy."""
        seed = self.seed_of(now, place)
        own = {"task": now.drawn[place]} if place and now.drawn else {}
        self.copies[place].reset(seed=seed, options={**now.options, **own})

    def _gold(self, tasks: Sequence[Task]) -> Json:
        """The joint answer, if the answer to every task is a text, or the first of a list."""
        firsts: list[Any] = [
            each.answer[0] if isinstance(each.answer, list) and each.answer else each.answer
            for each in tasks
        ]
        if all(isinstance(each, str) for each in firsts):
            return [f"{self.separator} ".join(firsts)]
        return None

    # ------------------------------------------------------------ the play

    def respond(self, now: Tasks, message: Message) -> Step:
        """Answer one message in either form."""
        return self._jointly(now, message) if self.form == "joint" else self._one(now, message)

    def _one(self, now: Tasks, message: Message) -> Step:
        step = played(self.copies[now.at], message)
        observation = step.observation
        ended = step.terminated or step.truncated
        if ended:
            now.done[now.at] = True
            now.at += 1
        if ended and now.at < self.count:
            turned = (
                replace(each, content="Noted.") if each.name == self.answer else each
                for each in observation
            )
            said = Message("user", f"That was task {now.at}. Go on with task {now.at + 1}.")
            return step._replace(
                observation=(*turned, said), reward=self.pays(step.reward), **_GOING_ON
            )
        reward = self.pays(step.reward)
        return step._replace(reward=reward + self.bonus(now) if ended else reward)

    def _jointly(self, now: Tasks, message: Message) -> Step:
        names = [each.name for each in message.tool_calls]
        known = {each.name for each in self.tools}
        ending = names.index(self.answer) if self.answer in names else len(names)
        before = message.tool_calls[:ending]
        own = {
            place: unknown_tool(each.name, self.tools)
            for place, each in enumerate(before)
            if each.name not in known
        }
        now.errors += len(own)
        kept = tuple(each for place, each in enumerate(before) if place not in own)
        step = Step((), 0.0, False, False, {"errors": len(own)})
        if kept or not names:
            step = self._everywhere(now, replace(message, tool_calls=kept))
        replies = iter(step.observation)
        merged = [
            reply(each, own[place]) if place in own else next(replies, None)
            for place, each in enumerate(before)
        ]
        observation = [each for each in merged if each is not None]
        observation += replies
        if ending == len(names):
            over = all(now.done)
            return step._replace(
                observation=tuple(observation),
                reward=self.pays(step.reward) + (self.bonus(now) if over else 0.0),
                truncated=over,
            )
        joint = next(each for each in self.tools if each.name == self.answer)
        text = call_tool(joint, message.tool_calls[ending].arguments)
        if text.startswith("error:"):
            now.errors += 1
            observation.append(reply(message.tool_calls[ending], text))
        else:
            said, paid = self._all_answered(now, text.removeprefix(_READ))
            step = step._replace(reward=step.reward + paid, terminated=True)
            observation.append(reply(message.tool_calls[ending], said))
        late = "error: not run, the episode is over" if step.terminated else "error: not run"
        observation += [reply(each, late) for each in message.tool_calls[ending + 1 :]]
        reward = self.pays(step.reward) + (self.bonus(now) if step.terminated else 0.0)
        return step._replace(observation=tuple(observation), reward=reward)

    def _everywhere(self, now: Tasks, message: Message) -> Step:
        """One message in every copy that is not over; equal replies are shown once."""
        steps: dict[int, Step] = {}
        for place, each in enumerate(self.copies):
            if not now.done[place]:
                steps[place] = step = played(each, message)
                now.done[place] = step.terminated or step.truncated
        errors = max((int(each.info.get("errors", 0)) for each in steps.values()), default=0)
        reward = sum(each.reward for each in steps.values())
        observation = _merged({place: each.observation for place, each in steps.items()})
        return Step(observation, reward, False, False, {"errors": errors})

    def _all_answered(self, now: Tasks, text: str) -> tuple[str, float]:
        """What the copies say to the pieces of a joint answer, and what they pay."""
        tool, parameter = self._asked()
        pieces = [" ".join(each.split()) for each in text.split(self.separator.strip())]
        said: list[str] = []
        paid = 0.0
        for place, each in enumerate(self.copies):
            piece = pieces[place] if place < len(pieces) else ""
            if now.done[place] or not piece:
                said.append(f"{place + 1}: no answer")
                continue
            value = _typed(piece, tool.parameters["properties"][parameter])
            step = played(each, call(self.answer, **{parameter: value}))
            now.done[place] = True
            paid += step.reward
            said.append(f"{place + 1}: {' '.join(one.text for one in step.observation)}")
        return "\n".join(said), paid

    def bonus(self, now: Tasks) -> float:
        """What the agent gets besides at the end of the episode."""
        return 0.0

    # ------------------------------------------------------------ the rest

    def expert(self, style: str, rng: random.Random) -> Action:
        """The world's expert, on one task after the other; joint answers come at the end."""
        now = self.now
        if self.off or now is None:
            return super().expert(style, rng)
        if self.form == "each":
            at = min(now.at, self.count - 1)
            return self.copies[at].get_wrapper_attr("expert")(style, rng)
        _, parameter = self._asked()
        pieces: list[str] = []
        for place, each in enumerate(self.copies):
            if now.done[place]:
                pieces.append("-")
                continue
            said = as_message(each, each.get_wrapper_attr("expert")(style, rng))
            value = answered(said, self.answer, parameter)
            if value is None:
                return said
            pieces.append(value if isinstance(value, str) else json.dumps(value))
        if any(self.separator.strip() in each for each in pieces):
            raise UserError(
                f"{self._who}: an answer among {pieces} holds the separator {self.separator!r}; "
                "choose another"
            )
        return call(self.answer, answers=f"{self.separator} ".join(pieces))

    def measure(self) -> dict[str, Json]:
        """`score`, `success` (all tasks), `scores`, `solved` and the facts of each task."""
        now = self.now
        if self.off or now is None:
            return super().measure()
        tasks: list[dict[str, Json]] = [each.get_wrapper_attr("measure")() for each in self.copies]
        scores = [float(each["score"]) for each in tasks]
        made = [int(each.get("errors", 0)) for each in tasks]
        solved = sum(bool(each["success"]) for each in tasks)
        return {
            "score": self.score(now, scores),
            "success": solved == self.count,
            "turns": now.turns,
            "errors": now.errors + (sum(made) if self.form == "each" else max(made)),
            "scores": scores,
            "solved": solved,
            "tasks": tasks,
        }

    def evidence(self) -> list[Evidence]:
        """That of all tasks, without questions to which two of them have different answers."""
        if self.off:
            return list(super().evidence())
        found: dict[Evidence, None] = {}
        for each in self.copies:
            found.update(dict.fromkeys(each.get_wrapper_attr("evidence")()))
        answers: dict[str, set[str]] = {}
        for each in found:
            answers.setdefault(each.question, set()).add(each.answer)
        return [each for each in found if len(answers[each.question]) == 1]

    def snapshot(self) -> Any:
        """The state of the transform and of every copy."""
        others = [each.get_wrapper_attr("snapshot")() for each in self.copies[1:]]
        return super().snapshot() if self.off else (super().snapshot(), others)

    def restore(self, snapshot: Any) -> None:
        """Bring back all of them."""
        others: list[Any] = []
        if not self.off:
            snapshot, others = snapshot
        super().restore(snapshot)
        for each, kept in zip(self.copies[1:], others, strict=True):
            each.get_wrapper_attr("restore")(kept)

    def close(self) -> None:
        """Close every copy."""
        for each in self.copies:
            each.close()


_READ = "answers: "
_GOING_ON: dict[str, Any] = {"terminated": False, "truncated": False}


def _same(answers: str) -> str:
    return _READ + answers  # so that no answer is taken for an error


def question(task: Task, who: str) -> str:
    """What a task asks, as one text. Raises `UserError` for one that begins with a history."""
    if any(each.role in ("assistant", "tool") for each in task.prompt):
        raise UserError(f"{who} cannot put tasks that begin with a history into one prompt")
    return "\n".join(each.text for each in task.prompt if each.role == "user")


def system(tasks: Sequence[Task]) -> tuple[Message, ...]:
    """The system messages of the first task."""
    return tuple(each for each in tasks[0].prompt if each.role == "system")


def how(form: Form, separator: str, tools: Sequence[Tool], answer: str) -> str:
    """One sentence on how to answer."""
    if form == "each":
        return "Do them in this order, each to its end."
    example = ToolCall(answer, json.dumps({"answers": f"first{separator} second"}))
    return f"Answer all of them at once, in this order, like: {format_call(example, tools)}"


def _typed(piece: str, schema: Any) -> Json:
    kinds = kinds_of(schema)
    if "string" in kinds:
        return piece
    try:
        return int(piece) if "integer" in kinds else json.loads(piece)
    except ValueError:
        return piece  # the tool says what it takes


def _merged(observations: dict[int, Observation]) -> Observation:
    """Message by message what the copies said: once if all said the same, else numbered."""
    columns = list(observations.values())
    most = max(map(len, columns), default=0)
    found: list[Message] = []
    for row in range(most):
        said = {at: seen[row] for at, seen in observations.items() if row < len(seen)}
        first, texts = next(iter(said.values())), {at: each.text for at, each in said.items()}
        if len(set(texts.values())) == 1:
            found.append(first)
        else:
            lines = (f"[{at + 1}] {text}" for at, text in texts.items())
            found.append(replace(first, content="\n".join(lines)))
    return tuple(found)
