"""Before a run: is the gold answer asked for in the words in which this policy would give it?

A wrong template gives noise that looks like a reward, so it is refused. Two things are checked in
every world of the run: that the answer's turn is written, found and read back as the renderer and
the world's expert have it, and that the policy, once it was shown the answer, finds it likely.
"""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import fmean
from typing import Any, TypeVar

from foldgym.agents.answering import moments
from foldgym.agents.cast import Cast
from foldgym.agents.conversation import Limits
from foldgym.agents.engines.scripted import ExpertPolicy
from foldgym.agents.guides import told
from foldgym.agents.rollout import Episode, Rollout, play
from foldgym.errors import ConfigError, DataError, Failure, UserError
from foldgym.memory import FullHistory
from foldgym.rewards import Rubric
from foldgym.rewards.information_gain import NEED, AnswerForm, form_of
from foldgym.rewards.outcomes import golds
from foldgym.rewards.rubric import needs
from foldgym.seeding import derive_seed
from foldgym.trainers.answers import AnswerReader
from foldgym.trainers.wiring import Actor, Worlds
from foldgym.types import Budget, Guide, Ids, Message, Opening, Request, Task, Tool, ToolCall

T = TypeVar("T")

TASKS = 8  # of every world
HINT = "The answer is {gold}."
_TURNS = 64  # for an expert, whatever the run allows


@dataclass(frozen=True, slots=True)
class Leak:
    """A task whose answer stands in `prompt`, and how the world's own expert gives it, if it does.

    `message` is what `said` reads back as.
    """

    task: Task
    prompt: Ids
    message: Message | None = None
    said: Ids = ()


def answer_reader(
    rubric: Rubric, mix: Worlds, how: Rollout, actor: Actor, seed: int
) -> AnswerReader | None:
    """What reads gold answers in a run; None if no term of the rubric asks for them."""
    if NEED not in rubric.needs:
        return None
    own = how.memory().tools()
    tools: dict[str, tuple[Tool, ...]] = {}
    for env in mix.weights:
        opening = _outside(_opening(mix, Request(env, derive_seed(seed, "tools", env))))
        tools[env] = (*opening.tools, *own)
    return AnswerReader(actor.policy, actor.renderer, tools)


def check_answers(
    rubric: Rubric, mix: Worlds, how: Rollout, reader: AnswerReader, seed: int
) -> dict[str, float]:
    """Mean probability of a leaked answer by term and world: `{"gain/foldgym/...": 0.97}`.

    Raises `ConfigError` if a term asks for answers in a way that is not this policy's.
    """
    leaked: dict[str, list[Leak]] = {}
    found: dict[str, float] = {}
    for term in rubric.terms:
        least = _least(term.fn)
        if NEED not in needs(term.fn) or least is None:
            continue
        form = form_of(term.fn)
        for env in mix.weights:
            if env not in leaked:
                leaked[env] = _outside(leaks(mix, how, reader, env, seed))
            where = f"reward term {term.name!r} in {env}"
            for leak in leaked[env]:
                _check_template(where, reader, env, form, leak)
            read = [reader.value(env, leak.prompt, leak.task, form) for leak in leaked[env]]
            mean = fmean(value or 0.0 for value in read)
            found[f"{term.name}/{env}"] = mean
            if mean < least:
                raise ConfigError(_refusal(where, mean, least, reader, env, form, leaked[env][0]))
    return found


async def leaks(mix: Worlds, how: Rollout, reader: AnswerReader, env: str, seed: int) -> list[Leak]:
    """Tasks of a world with their answers in the context.

    Where the world has an expert that ends by giving the answer, it is the context in which it
    does; elsewhere a message of the user tells the answer. Raises `DataError` if no task opens.
    """
    budget = Budget(int(min(reader.policy.max_positions, 1 << 30)), 0)
    limits = Limits(max(how.limits.max_turns, _TURNS))
    plain = Rollout(how.renderer, FullHistory, how.sampling, budget, limits)
    found: list[Leak] = []
    why = ""
    for number in range(TASKS):
        request = Request(env, derive_seed(seed, "leak", env, number))
        try:
            leak = await _played(mix, plain, request)
            found.append(leak or _hinted(await _opening(mix, request), reader, env))
        except Failure as failure:
            why = str(failure)
    if not found:
        raise DataError(f"{env}: no episode could be opened to check its answers: {why}")
    return found


async def _played(mix: Worlds, how: Rollout, request: Request) -> Leak | None:
    """What the expert had read when it answered; None if there is none or it did not answer."""
    env = mix.open(request)
    cast = Cast(ExpertPolicy("optimal"), request.seed, env)
    try:
        trajectory = await play(env, cast, how, Episode(request, 0, 0, request.seed))
    except UserError:  # there is no such expert, in most cases
        return None
    finally:
        cast.close()
    places = moments(trajectory)
    if trajectory.failed or not places:
        return None
    place = places[-1]
    message = trajectory.turns[place.turn].message
    texts = [message.text, *(str(_plain(call)) for call in message.tool_calls)]
    if not any(gold in text for gold in golds(trajectory.task) for text in texts):
        return None
    segment = trajectory.segments[place.segment]
    said = [
        i for i, turn in zip(segment.token_ids, segment.turn_ids, strict=True) if turn == place.turn
    ]
    return Leak(trajectory.task, segment.token_ids[: place.at], message, tuple(said))


def _hinted(opening: Opening, reader: AnswerReader, env: str) -> Leak:
    hint = Guide(hint=HINT.format(gold=golds(opening.task)[0]))
    asked = told(opening, hint, 0).task
    renderer = reader.renderer
    ids = (*renderer.open(asked.prompt, reader.tools[env]), *renderer.header())
    return Leak(opening.task, ids)


async def _opening(mix: Worlds, request: Request) -> Opening:
    env = mix.open(request)
    try:
        return await env.reset(request.seed, {"episode": 0, **request.options})
    finally:
        await env.close()


def _check_template(
    where: str, reader: AnswerReader, env: str, form: AnswerForm, leak: Leak
) -> None:
    """The answer reads back, and the expert's own turn, if it gives a gold answer, is the same."""
    write, decode = reader.writer(env, form), reader.renderer.tokenizer.decode
    answers = golds(leak.task)
    for gold in answers:
        if why := write.misread(gold):
            raise ConfigError(
                f"{where}: the answer is asked for as {decode(write(gold).ids)!r}, but {why}"
            )
    if leak.message is None:
        return
    ours = write.tool.name if write.tool else "plain text"
    theirs = [call.name for call in leak.message.tool_calls] or ["plain text"]
    if ours not in theirs:
        raise ConfigError(
            f"{where}: the answer is asked for as {ours}, but the expert of this world gives it "
            f"as {theirs[-1]}; set `tool`"
        )
    alike = [g for g in answers if _meant(write.message(g)) == _meant(leak.message)]
    if alike and not form.thought and leak.said != write(alike[0]).ids:
        raise ConfigError(
            f"{where}: the answer is asked for as {decode(write(alike[0]).ids)!r}, but the expert "
            f"of this world gives it as {decode(leak.said)!r}"
        )


def _refusal(
    where: str,
    mean: float,
    least: float,
    reader: AnswerReader,
    env: str,
    form: AnswerForm,
    leak: Leak,
) -> str:
    answer, decode = reader.answers(env, leak.task, form)[0], reader.renderer.tokenizer.decode
    return (
        f"{where}: with the answer in its context the policy gives it probability {mean:.3f} (mean "
        f"over {TASKS} tasks), below leak_check = {least}: either this is not how the policy "
        f"answers, or it cannot copy yet, and gains would be noise. Scored was "
        f"{decode(answer.ids[answer.first : answer.last])!r} of {decode(answer.ids)!r} after "
        f"{decode(leak.prompt[-40:])!r}. Set the term's tool or thought, clone the policy longer, "
        "or lower leak_check (0: off)"
    )


def _meant(message: Message) -> object:
    return [(call.name, _plain(call)) for call in message.tool_calls] or message.text


def _plain(call: ToolCall) -> object:
    try:
        return json.loads(call.arguments)
    except ValueError:
        return call.arguments


def _least(fn: Callable[..., Any]) -> float | None:
    """The option `leak_check` of a term, if it has one."""
    option = inspect.signature(fn).parameters.get("leak_check")
    return None if option is None else float(option.default)


def _outside(job: Coroutine[Any, Any, T]) -> T:
    """Runs a job in a loop of its own; the caller may stand in one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, job).result()
