"""One lineage's tokens: the log, the memory's view of it, what it says. All bookkeeping is here."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

from foldgym.agents.cast import Cast
from foldgym.agents.counting import Tally
from foldgym.agents.kit import Aside, Loan, Moment, RendererKit, Voice
from foldgym.agents.ledger import REPLAY, Ledger
from foldgym.agents.markers import cut
from foldgym.agents.pictures import view_pictures
from foldgym.agents.recorder import encode_view, view_messages
from foldgym.agents.renderers import Renderer
from foldgym.agents.tasks import cancelled
from foldgym.memory.views import PLACEHOLDER, squeeze
from foldgym.tools import Parsed
from foldgym.types import (
    At,
    Boundary,
    Budget,
    Completion,
    Event,
    Finish,
    Ids,
    Log,
    Memory,
    Message,
    Observation,
    Opening,
    Prompt,
    Proposal,
    Sampling,
    Source,
    Synth,
    Tool,
    ToolCall,
    Turn,
    View,
)


class Transcript:
    """`prompt` -> `say` -> `hear`, once a turn. Segments and turns are the ledger's.

    Raises `MemoryFault` when a memory breaks its contract.
    """

    def __init__(
        self,
        opening: Opening,
        memory: Memory,
        renderer: Renderer,
        cast: Cast,
        sampling: Sampling,
        budget: Budget,
        ledger: Ledger,
        voice: Voice,
        loan: Loan,
    ) -> None:
        self.renderer = renderer
        self.memory = memory
        self.budget = budget
        self.voice = voice
        self.tools = (*opening.tools, *memory.tools())
        self.log = Log()
        self.shortenings: list[Moment] = []  # folds, prunes, clearings: what they left
        self.latest: Moment | None = None  # the last view on which a turn was sampled
        self.proposal: Proposal | None = None
        self._loan = loan = loan or Loan()
        self.kit = RendererKit(budget, renderer, self.tools, loan.store, self._scorer())
        self._stops: tuple[str, ...] = tuple(getattr(memory, "stops", ()))
        self._ledger = ledger
        self._tally = Tally(ledger.counters)
        self._cast = cast
        self._memory_tools = {tool.name for tool in memory.tools()}
        self._placeholder = self.kit.synth(PLACEHOLDER, "squeezed")
        self._sampling = sampling
        self._may_rewrite = memory.rewrites
        self._planted: Ids = ()
        self._turn: int | None = None
        self._thought = 0
        self._asking: set[asyncio.Task[Any] | None] = set()
        self._completion = Completion()
        self._encoded: tuple[View | None, Ids] = None, ()
        prompt = opening.task.prompt
        self.log.append("task", renderer.open(prompt, self.tools), "env", messages=prompt)
        self._state: Any = memory.start(self.log, self.kit)

    @property
    def turns(self) -> list[Turn]:
        """The turns of all lineages."""
        return self._ledger.turns

    @property
    def counters(self) -> Counter[str]:
        """The counters of all lineages."""
        return self._ledger.counters

    @property
    def acted(self) -> int:
        """How many turns of this lineage acted on the world."""
        mine = [turn for turn in self.turns if turn.lineage == self.voice.lineage]
        return sum(turn.purpose in ("act", REPLAY) for turn in mine)

    @property
    def confidence(self) -> float:
        """The mean log-prob of what was sampled last (0 where the policy gives none)."""
        logprobs = self._completion.logprobs
        return math.fsum(logprobs) / len(logprobs) if logprobs else 0.0

    @property
    def unfinished(self) -> bool:
        """Whether a turn was held open; `prompt` then goes on with it."""
        return self._turn is not None

    @property
    def size(self) -> int:
        """Tokens of what the model would be shown now."""
        return len(self._encode(self.view()))

    @property
    def begun(self) -> Ids:
        """The turn that comes or is unfinished, as far as it got."""
        return self._planted

    async def begin(self) -> None:
        """Tells the memory that the episode starts."""
        await self._tell(Boundary(At.EPISODE_START))

    async def end(self) -> None:
        """Tells the memory that the episode is over."""
        await self._tell(Boundary(At.EPISODE_END))
        if failed := getattr(self._state, "failed", 0):
            self.counters["failed_folds"] += failed
        for name, number in getattr(self._state, "numbers", {}).items():
            self.counters[name] += number
        proposal: Proposal | None = getattr(self._state, "proposal", None)
        if proposal is not None:
            self.proposal = replace(proposal, read=self._loan.store.address)

    async def prompt(self, purpose: str = "act") -> Prompt | None:
        """What the model is shown now; None when it cannot be made to fit the budget."""
        if self.unfinished:  # no time for a memory to speak, unless there is no room
            used = self.size
        else:
            used = await self._shorten(At.BEFORE_MODEL)
        while used > self.budget.hard_limit:
            before, used = used, await self._shorten(At.PRESSURE)
            if used >= before:
                break
        view = self.view()
        if used > self.budget.hard_limit:
            squeezed = self._squeeze(view)
            if squeezed is None:
                return None
            view = squeezed
        self._tally.shown(view, self.log)
        self.latest = Moment(len(self.log), self._state)
        return self._prompt(view, purpose)

    async def say(self, prompt: Prompt, hold: int = 0) -> Parsed:
        """Samples one turn on exactly `prompt.ids`, logs and records it.

        Cut by its length it goes on for as long as the memory shows it as an open turn: one turn
        and one message, in several events and calls. With `hold` at most that many tokens are
        sampled, and a turn that they cut stays `unfinished`: nothing is logged, and the next
        `prompt` shows it as far as it got.
        """
        if self._turn is None:
            self._turn = self._ledger.begin(prompt.purpose, self.voice.lineage)
        prompt = replace(prompt, turn=self._turn)
        spoken = self._planted
        while True:
            limit = hold or self._sampling.max_tokens
            room = min(limit, self._memory_view().max_tokens or limit)
            said = await self._sample(prompt, room, self.voice, self._stops, spoken)
            spoken += said.ids
            parsed = self._read(spoken, said.finish)
            self._ledger.said(prompt, said, parsed.message, parsed.problem)
            if hold and said.finish is Finish.LENGTH:
                self._planted = spoken
                return parsed
            self._settle(prompt.turn)
            event = self._log("model", prompt, said, parsed, self.voice.by)
            await self._tell(Boundary(At.AFTER_MODEL, event=event))
            following = self._continued(event)
            if following is None:
                self._thought = 0
                return parsed
            prompt = following

    def plant(self, text: str, aloud: bool = True) -> None:
        """Puts words into the mouth of the turn that comes or is unfinished; never trained.

        Not `aloud` they are thinking, as is what the turn said so far: only what is said behind
        them is read as its message.
        """
        self._planted += self.renderer.tokenizer.encode(text)
        if not aloud:
            self._thought = len(self._planted)

    def unsay(self, ids: int) -> None:
        """Takes back the last ids of an unfinished turn: they were said, and are shown no more."""
        self._planted = self._planted[: len(self._planted) - ids]
        self._thought = min(self._thought, len(self._planted))
        self._may_rewrite = True

    def show(self, message: Message, lasting: bool = True) -> None:
        """Adds a message of ours to the latest answer.

        Before anything is said it belongs to the task, or, not `lasting`, to no turn.
        """
        ids, turn = self.renderer.encode(message), self._latest_turn()
        if turn >= 0:
            heard = (*self.turns[turn].observation, message)
            self.turns[turn] = replace(self.turns[turn], observation=heard)
        kind = "task" if turn < 0 and lasting else "notice"
        self.log.append(kind, ids, "template", turn=turn, messages=(message,))

    async def aside(
        self, purpose: str, text: str, max_tokens: int, voice: Voice | None = None
    ) -> Aside | None:
        """A question on the side: what is shown now, `text`, an answer. Neither is shown again.

        Another `voice` answers in segments of its own. In an unfinished turn, `text` goes on with
        the turn itself. None when nothing came back, or there is no room.
        """
        view, voice = self.view(), voice or self.voice
        message = Message("user", text)
        if view.open_turn:
            more = Synth(self.renderer.tokenizer.encode(text), purpose, (message,))
        else:
            more = self.kit.synth(message, purpose)
        self._may_rewrite |= voice.lineage == self.voice.lineage
        view = replace(view, items=(*view.items, more))
        event = await self._ask(purpose, view, max_tokens, voice)
        return Aside(event.turn, self.text_of(event)) if event is not None else None

    async def draft(self, max_tokens: int, voice: Voice) -> Parsed:
        """What another `voice` says to what is shown now; the world does not hear it."""
        event = await self._ask("draft", self.view(), max_tokens, voice)
        return self.renderer.parse(event.token_ids if event is not None else (), self.tools)

    def text_of(self, event: Event) -> str:
        """What an event says to somebody who has no tools: a call is then only text."""
        body = event.token_ids[: len(event.token_ids) - (event.finish is Finish.STOP)]
        message, problem = self.renderer.parse(body, ())
        plain = not message.tool_calls and not problem
        return message.text if plain else self.renderer.tokenizer.decode(body)

    @property
    def spoken(self) -> Event | None:
        """The newest turn of this lineage in its log."""
        return next((event for event in reversed(self.log) if event.kind == "model"), None)

    def acts(self) -> None:
        """The latest turn, said for another purpose, is what the world gets to hear."""
        turn = self._latest_turn()
        self.turns[turn] = replace(self.turns[turn], purpose="act")

    def learn(self, tools: Sequence[Tool]) -> None:
        """From now on these tools can be called too."""
        known = {tool.name for tool in self.tools}
        self.tools = (*self.tools, *(tool for tool in tools if tool.name not in known))

    def sees(self, turn: int) -> bool:
        """Whether what came back in a turn was in view when the latest turn was said."""
        return turn in self._tally.visible

    def read(self, text: str) -> Parsed:
        """What this text would have meant, had the policy said it."""
        return self.renderer.parse(
            self.renderer.say(Message("assistant", text), self.tools), self.tools
        )

    async def recall(self, message: Message, problem: str = "") -> None:
        """Puts in a turn of somebody else's: context for what follows, never trained."""
        marked = any(stop in message.text for stop in self._stops)
        finish = Finish.MARKER if marked else Finish.STOP
        turn = self._ledger.recall(message, problem, self.voice.lineage, finish)
        ids = self.renderer.say(message, self.tools)
        event = self.log.append(
            "model", ids, "template", turn=turn, messages=(message,), finish=finish
        )
        await self._tell(Boundary(At.AFTER_MODEL, event=event))

    async def remember(self, message: Message) -> tuple[Message, Observation]:
        """What the memory answers itself; returns the message without it, and the replies.

        Those are calls of its own tools, and its stop strings.
        """
        if self.turns[self._latest_turn()].finish is Finish.MARKER:
            return message, (Message("user", self._reply()),)
        mine = [call for call in message.tool_calls if call.name in self._memory_tools]
        if not mine:
            return message, ()
        replies = [await self._memory_tool(call) for call in mine]
        rest = tuple(call for call in message.tool_calls if call.name not in self._memory_tools)
        return replace(message, tool_calls=rest), tuple(replies)

    async def hear(self, observation: Observation, reward: float, info: dict[str, Any]) -> None:
        """Logs what came back for the latest turn; text is tokenised here, once."""
        turn = self._latest_turn()
        self.turns[turn] = replace(
            self.turns[turn], observation=observation, reward=reward, info=info
        )
        if self.turns[turn].purpose == "act":
            calls = self.turns[turn].message.tool_calls
            self._tally.acted([c for c in calls if c.name not in self._memory_tools], turn)
        for message in observation:
            ids = self.renderer.encode(message)
            self.log.append("observation", ids, "env", turn=turn, messages=(message,))
        await self._tell(Boundary(At.AFTER_TOOL))

    async def ask(
        self, purpose: str, view: View, max_tokens: int, by: Literal["policy", "aux"] = "policy"
    ) -> Event | None:
        """Runs a model for the memory (`types.Ask`); by="policy" means whoever speaks here."""
        self._asking.add(asyncio.current_task())
        voice = self.voice if by == "policy" else Voice(self.voice.lineage, "aux", False)
        return await self._ask(purpose, view, max_tokens, voice, self._encode(self.view()))

    def view(self) -> View:
        """What the model would be shown now, the words in its mouth included."""
        view = self._memory_view()
        if not self._planted:
            return view
        begun = Synth((*self.renderer.header(), *self._planted), "unfinished turn")
        return replace(view, items=(*view.items, begun), open_turn=True)

    # ------------------------------------------------------------ inside

    async def _ask(
        self,
        purpose: str,
        view: View,
        max_tokens: int,
        voice: Voice,
        instead: Ids | None = None,
    ) -> Event | None:
        """One answer to a view; `instead` is what would have been shown to act."""
        prompt = self._prompt(view, purpose)
        room = min(max_tokens, self.budget.max_context - len(prompt.ids))
        if room < 1:
            self.counters["asks_without_room"] += 1
            return None
        speaks = voice.by == "policy" or voice.lineage != self.voice.lineage or self.voice == voice
        if speaks:  # not the auxiliary model that helps a memory
            prompt = replace(prompt, turn=self._ledger.begin(purpose, voice.lineage))
        said = await self._sample(prompt, room, voice)
        parsed = self.renderer.parse(said.ids, self.tools)
        if speaks:
            self._ledger.said(prompt, said, parsed.message, "")
            if instead is not None:
                self._ledger.instead(prompt, instead)
        event = self._log("memory", prompt, said, parsed, voice.by)
        self.counters[f"{purpose}s"] += 1
        return event if parsed.message.text.strip() or parsed.message.tool_calls else None

    async def _tell(self, boundary: Boundary) -> None:
        try:
            self._state = await self.memory.on(boundary, self.log, self._state, self.ask)
        finally:  # where one of several asks failed, the others end with it
            await cancelled(self._asking)

    async def _shorten(self, at: At, call: ToolCall | None = None) -> int:
        """Tells the memory of a moment to make room; the tokens of the view that it leaves."""
        before = self.size
        await self._tell(Boundary(at, used=before, call=call))
        after = self.size
        if self._tally.shortened(before, after):
            self.shortenings.append(Moment(len(self.log), self._state))
        return after

    async def _memory_tool(self, call: ToolCall) -> Message:
        self.counters["memory_tool_calls"] += 1
        await self._shorten(At.MEMORY_TOOL, call)
        return Message("tool", self._reply(), tool_call_id=call.id, name=call.name)

    def _reply(self) -> str:
        return getattr(self._state, "reply", "") or "done"

    def _scorer(self) -> Callable[[View, Ids], tuple[float, ...]] | None:
        policy = self._loan.scorer
        if policy is None:
            return None
        return lambda view, ids: policy.logprobs(self._encode(view), ids)

    def _memory_view(self) -> View:
        return self.memory.view(self.log, self._state)

    def _encode(self, view: View) -> Ids:
        known, ids = self._encoded  # events never change: an equal view has equal ids
        if view is not known and view != known:
            ids = encode_view(view, self.log, self.renderer)
            self._encoded = view, ids
        return ids

    def _continued(self, event: Event) -> Prompt | None:
        """The prompt on which an unfinished turn goes on; None when it is over."""
        view = self._memory_view()
        if event.finish is not Finish.LENGTH or not view.open_turn:
            return None
        prompt = replace(self._prompt(view, "act"), turn=event.turn)
        return prompt if len(prompt.ids) <= self.budget.hard_limit else None

    def _squeeze(self, view: View) -> View | None:
        if self.budget.overflow == "stop":
            return None
        limit = self.budget.hard_limit
        squeezed = squeeze(
            view, self.log, self._placeholder, lambda small: len(self._encode(small)) <= limit
        )
        if squeezed is None:
            return None
        self._may_rewrite = True
        self.counters["squeezed"] += 1
        return squeezed.view

    def _prompt(self, view: View, purpose: str) -> Prompt:
        ids = self._encode(view)
        messages = view_messages(view, self.log)
        pictures = view_pictures(view, self.log, self.renderer, ids)
        return Prompt(ids, messages, self.tools, len(self.turns), purpose, pictures)

    def _read(self, spoken: Ids, finish: Finish) -> Parsed:
        """What a turn says: all of it, or what comes behind its thinking."""
        decode = self.renderer.tokenizer.decode
        if finish is Finish.MARKER:  # whatever else it says is for the memory alone
            return Parsed(Message("assistant", decode(spoken)))
        parsed = self.renderer.parse(spoken[self._thought :], self.tools)
        if not self._thought:
            return parsed
        thinking = decode(spoken[: self._thought]) + parsed.message.thinking
        return Parsed(replace(parsed.message, thinking=thinking), parsed.problem)

    async def _sample(
        self,
        prompt: Prompt,
        max_tokens: int,
        voice: Voice,
        stops: tuple[str, ...] = (),
        earlier: Ids = (),
    ) -> Completion:
        """One call of whoever speaks; recorded if it is the policy."""
        sampling = replace(self._sampling, max_tokens=max_tokens, stops=stops)
        said = await self._cast.sample(voice.lineage, voice.by, prompt, sampling)
        if not said.ids:
            ids = self.renderer.say(said.message or Message("assistant"), self.tools)
            said = replace(said, ids=ids, logprobs=(0.0,) * len(ids))
        said = cut(said, stops, self.renderer.tokenizer.decode, earlier)
        self._tally.called(voice.by, prompt.ids, said.ids, voice.lineage)
        if voice.by == "policy":
            other = voice.lineage != self.voice.lineage
            self._ledger.call(
                prompt,
                said,
                voice.lineage,
                trainable=voice.trainable,
                may_rewrite=other or self._may_rewrite,
            )
        self._completion = said
        return said

    def _settle(self, turn: int) -> None:
        """The turn is over: what was put into its mouth goes to the log before what was said."""
        if self._planted:
            self.log.append("model", self._planted, "template", turn=turn)
            self._planted = ()
        self._turn = None

    def _log(
        self,
        kind: Literal["model", "memory"],
        prompt: Prompt,
        said: Completion,
        parsed: Parsed,
        by: Source,
    ) -> Event:
        return self.log.append(
            kind,
            said.ids,
            by,
            turn=prompt.turn,
            messages=(parsed.message,),
            finish=said.finish,
        )

    def _latest_turn(self) -> int:
        """The newest turn of this lineage; -1 before the first."""
        return self.spoken.turn if self.spoken else -1
