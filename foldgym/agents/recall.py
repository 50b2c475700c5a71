"""What a memory still holds: questions about what was said, asked beside the episode (spec 4.11).

A `Recorder` watches episodes and writes down the prompts of questions, after every fold and for the
last turn, on what the memory shows there. They are asked when the episodes are over, in sessions of
their own: nothing that is played changes, and nothing of them is ever trained.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from foldgym.agents.kit import Moment
from foldgym.agents.recorder import encode_view, view_messages
from foldgym.agents.renderers import Renderer
from foldgym.agents.rollout import Episode
from foldgym.agents.stage import Stage
from foldgym.agents.tasks import gather_or_cancel
from foldgym.agents.transcript import Transcript
from foldgym.memory.views import PLACEHOLDER, squeeze
from foldgym.seeding import derive_seed, generator
from foldgym.types import EnvHandle, Evidence, Log, Message, Policy, Prompt, Sampling, View

PROBE = "probe"  # the purpose of prompts that are no part of an episode
ANSWER = 16  # tokens of the reserve that a question leaves to its answer


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt (None: it did not fit), its one right answer, and whether that was given.

    `room` is what the context has left for an answer. `age` counts turns from the one in which the
    answer was last said to the newest, which is 1; `folds` the shortenings since.
    """

    prompt: Prompt | None
    answer: str
    age: int
    folds: int
    room: int = 0
    right: bool = False


@dataclass(frozen=True, slots=True)
class Recollection:
    """An episode's questions, and how much of what was said and is needed its views held.

    `kept` has a pair (held, said) for every shortening, `kept_at_last` one for the last turn of
    every lineage.
    """

    env: EnvHandle
    questions: tuple[Question, ...] = ()
    kept: tuple[tuple[int, int], ...] = ()
    kept_at_last: tuple[tuple[int, int], ...] = ()


@dataclass(slots=True)
class Recorder:
    """A `Rollout.watch`: recollections by the id of their episode.

    At most `most` questions are drawn for the last turn and as many after each fold; which ones
    depends on the episode's seed alone.
    """

    most: int = 4
    found: dict[str, Recollection] = field(default_factory=dict[str, Recollection])

    async def __call__(self, episode: Episode, stage: Stage) -> None:
        """Writes down one episode: every lineage that spoke."""
        evidence = await stage.env.evidence()
        questions: list[Question] = []
        kept: list[tuple[int, int]] = []
        at_last: list[tuple[int, int]] = []
        for lineage, talk in enumerate(stage.talks):
            last = [talk.latest] if talk.latest else []
            for place, moment in enumerate([*talk.shortenings, *last]):
                said = _said(evidence, talk, moment)
                rng = generator(episode.seed, PROBE, lineage, place)
                able = [each for each in said if each[0].question]
                for fact, age, folds in rng.sample(able, min(self.most, len(able))):
                    prompt = probe(talk, moment, fact.question)
                    room = talk.budget.max_context - len(prompt.ids) if prompt else 0
                    questions.append(Question(prompt, fact.answer, age, folds, room))
                needed = [fact for fact, _, _ in said if fact.needed]
                (at_last if moment is talk.latest else kept).append(_kept(needed, talk, moment))
        self.found[episode.id] = Recollection(
            stage.env, tuple(questions), tuple(kept), tuple(at_last)
        )


def look(talk: Transcript, at: Moment) -> View:
    """What the memory showed at a moment."""
    return talk.memory.view(Log(talk.log[: at.events]), at.state)


def probe(talk: Transcript, at: Moment, question: str) -> Prompt | None:
    """The prompt of a question on what was shown at a moment; None when it does not fit.

    It may take of the budget's reserve what a short answer does not need.
    """
    view = View((*look(talk, at).items, talk.kit.synth(Message("user", question), PROBE)))
    budget, blank = talk.budget, talk.kit.synth(PLACEHOLDER, PROBE)
    limit = max(budget.hard_limit, budget.max_context - ANSWER)

    def fits(view: View) -> bool:
        return len(encode_view(view, talk.log, talk.renderer)) <= limit

    if not fits(view):
        smaller = squeeze(view, talk.log, blank, fits) if budget.overflow == "squeeze" else None
        if smaller is None:
            return None
        view = smaller.view
    ids = encode_view(view, talk.log, talk.renderer)
    return Prompt(ids, view_messages(view, talk.log), talk.tools, len(talk.turns), PROBE)


def _said(
    evidence: Iterable[Evidence], talk: Transcript, at: Moment
) -> list[tuple[Evidence, int, int]]:
    """What had been said at a moment, with its age in turns and in folds."""
    events = talk.log[: at.events]
    acts = list(dict.fromkeys(event.turn for event in events if event.kind == "model"))
    heard = [
        (event, message.text)
        for event in reversed(events)
        if event.kind == "observation"
        for message in event.messages
    ]
    found: list[tuple[Evidence, int, int]] = []
    for fact in evidence:
        event = next((event for event, text in heard if fact.text in text), None)
        if event is not None:
            folds = sum(event.id < each.events <= at.events for each in talk.shortenings)
            found.append((fact, len(acts) - acts.index(event.turn), folds))
    return found


def _kept(needed: Sequence[Evidence], talk: Transcript, at: Moment) -> tuple[int, int]:
    """How many of these facts stand in the view, word for word, and how many there are."""
    ids = encode_view(look(talk, at), talk.log, talk.renderer)
    shown = plain(talk.renderer.tokenizer.decode(ids))
    return sum(plain(fact.text) in shown for fact in needed), len(needed)


def plain(text: str) -> str:
    """Without what does not matter: case, outer punctuation, runs of blanks.

    >>> plain(" Score  +1. ")
    'score +1'
    """
    return " ".join(text.split()).strip(" .,;:!?\"'`").casefold()


async def ask(
    recollections: Sequence[Recollection],
    policy: Policy,
    renderer: Renderer,
    sampling: Sampling,
    seed: int,
    concurrency: int = 64,
) -> list[Recollection]:
    """The recollections with every question answered, greedily; one without room is not right.

    An answer is right if the message's text or one of its arguments is the expected text, but for
    case, outer punctuation and blanks.
    """
    queue = [
        (each, question, derive_seed(seed, PROBE, place, number))
        for place, each in enumerate(recollections)
        for number, question in enumerate(each.questions)
    ]
    asked = [entry for entry in queue if entry[1].prompt is not None]
    right: dict[int, bool] = {}
    for start in range(0, len(asked), concurrency):
        part = asked[start : start + concurrency]
        right |= await _asked(part, policy, renderer, replace(sampling, temperature=0.0))
    judged = iter([replace(each, right=right.get(number, False)) for _, each, number in queue])
    return [
        replace(each, questions=tuple(next(judged) for _ in each.questions))
        for each in recollections
    ]


async def _asked(
    part: Sequence[tuple[Recollection, Question, int]],
    policy: Policy,
    renderer: Renderer,
    sampling: Sampling,
) -> dict[int, bool]:
    """By number, whether the answer was right. All sessions open first: an engine waits for all."""
    sessions = [policy.open(number, each.env) for each, _, number in part]

    async def one(place: int) -> bool:
        question = part[place][1]
        assert question.prompt is not None
        try:
            most = min(sampling.max_tokens, question.room)
            said = await sessions[place].sample(question.prompt, replace(sampling, max_tokens=most))
        finally:
            sessions[place].close()
        message = said.message
        if said.ids or message is None:
            message = renderer.parse(said.ids, question.prompt.tools).message
        return plain(question.answer) in map(plain, _texts(message))

    results = await gather_or_cancel([one(place) for place in range(len(part))])
    return {number: right for (_, _, number), right in zip(part, results, strict=True)}


def _texts(message: Message) -> list[str]:
    """What a message says: its text, and every argument of its calls."""
    found = [message.text]
    for call in message.tool_calls:
        try:
            given = json.loads(call.arguments)
        except ValueError:
            continue
        found += [str(each) for each in given.values()] if isinstance(given, dict) else []
    return found
