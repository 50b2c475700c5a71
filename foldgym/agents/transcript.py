"""One episode's tokens: the log, the memory's view of it, the segments. All bookkeeping is here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from foldgym.agents.counting import Tally
from foldgym.agents.markers import cut
from foldgym.agents.recorder import Recorder, encode_view, view_messages
from foldgym.agents.renderers import Renderer
from foldgym.errors import MemoryFault
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
    Role,
    Sampling,
    Scorer,
    Segment,
    Session,
    Snapshot,
    Synth,
    Tool,
    ToolCall,
    Turn,
    View,
)

REPLAY = "replay"  # purpose of a turn that nobody sampled in this episode


@dataclass(frozen=True, slots=True)
class RendererKit:
    """What a memory is lent (`types.Kit`)."""

    budget: Budget
    renderer: Renderer
    tools: tuple[Tool, ...] = ()
    store: Snapshot = field(default_factory=Snapshot)
    scorer: Callable[[View, Ids], tuple[float, ...]] | None = None

    def synth(self, message: Message, reason: str) -> Synth:
        """A framed message as ids nobody said."""
        return Synth(self.renderer.encode(message), reason, (message,))

    def frame(self, role: Role, before: str = "", after: str = "") -> tuple[Synth, Synth]:
        """A frame whose inside is somebody's recorded ids."""
        opened, closed = self.renderer.frame(role)
        encode = self.renderer.tokenizer.encode
        return (
            Synth((*opened, *encode(before)), "frame"),
            Synth((*encode(after), *closed), "frame"),
        )


@dataclass(frozen=True, slots=True)
class Loan:
    """What comes from outside the episode: the store as it is, and who reads probabilities."""

    store: Snapshot = field(default_factory=Snapshot)
    scorer: Scorer | None = None


@dataclass(frozen=True, slots=True)
class Shortening:
    """A moment at which a new memory state made the view shorter: a fold, a prune, a clearing.

    `memory.view(Log(log[:events]), state)` is the view that it left.
    """

    events: int
    state: Any


class Transcript:
    """`prompt` -> `say` -> `hear`, once a turn; `freeze` at the end.

    Raises `MemoryFault` when a memory breaks its contract.
    """

    def __init__(
        self,
        opening: Opening,
        memory: Memory,
        renderer: Renderer,
        session: Session,
        sampling: Sampling,
        budget: Budget,
        aux: Session | None = None,
        loan: Loan = Loan(),
    ) -> None:
        self.renderer = renderer
        self.memory = memory
        self.budget = budget
        self.tools = (*opening.tools, *memory.tools())
        self.log = Log()
        self.turns: list[Turn] = []
        self.shortenings: list[Shortening] = []
        self._tally = Tally()
        self.counters = self._tally.counters
        self.proposal: Proposal | None = None
        self._loan = loan
        self._kit = RendererKit(budget, renderer, self.tools, loan.store, self._scorer())
        self._stops: tuple[str, ...] = tuple(getattr(memory, "stops", ()))
        self._memory_tools = {tool.name for tool in memory.tools()}
        self._placeholder = self._kit.synth(PLACEHOLDER, "squeezed")
        self._recorder = Recorder()
        self._sessions = {"policy": session, "aux": aux}
        self._sampling = sampling
        self._squeezing = False
        prompt = opening.task.prompt
        self.log.append("task", renderer.open(prompt, self.tools), "env", messages=prompt)
        self._state: Any = memory.start(self.log, self._kit)

    async def begin(self) -> None:
        """Tells the memory that the episode starts."""
        await self._tell(Boundary(At.EPISODE_START))

    async def end(self) -> None:
        """Tells the memory that the episode is over."""
        await self._tell(Boundary(At.EPISODE_END))
        if failed := getattr(self._state, "failed", 0):
            self.counters["failed_folds"] = failed
        for name, number in getattr(self._state, "numbers", {}).items():
            self.counters[name] = number
        proposal: Proposal | None = getattr(self._state, "proposal", None)
        if proposal is not None:
            self.proposal = replace(proposal, read=self._loan.store.address)

    async def prompt(self) -> Prompt | None:
        """What the model is shown now; None when it cannot be made to fit the budget."""
        used = await self._shorten(At.BEFORE_MODEL)
        while used > self.budget.hard_limit:
            before, used = used, await self._shorten(At.PRESSURE)
            if used >= before:
                break
        view = self._view()
        if used > self.budget.hard_limit:
            squeezed = self._squeeze(view)
            if squeezed is None:
                return None
            view = squeezed
        self._tally.shown(view, self.log)
        return self._prompt(view, "act")

    async def say(self, prompt: Prompt) -> Parsed:
        """Samples one policy turn on exactly `prompt.ids`, logs and records it.

        Cut by its length it goes on for as long as the memory shows it as an open turn: one turn
        and one message, in several events and calls.
        """
        spoken: Ids = ()
        while True:
            limit = self._sampling.max_tokens
            room = min(limit, self._view().max_tokens or limit)
            said, _ = await self._sample("policy", prompt, room, self._stops)
            said = cut(said, self._stops, self.renderer.tokenizer.decode, spoken)
            spoken += said.ids
            parsed = self.renderer.parse(spoken, self.tools)
            if said.finish is Finish.MARKER:  # whatever else it says is for the memory alone
                parsed = Parsed(Message("assistant", self.renderer.tokenizer.decode(spoken)))
            event = self._spoken(prompt, said, parsed, "model", "policy")
            await self._tell(Boundary(At.AFTER_MODEL, event=event))
            following = self._continued(event)
            if following is None:
                return parsed
            prompt = following

    def read(self, text: str) -> Parsed:
        """What this text would have meant, had the policy said it."""
        return self.renderer.parse(
            self.renderer.say(Message("assistant", text), self.tools), self.tools
        )

    async def recall(self, message: Message, problem: str = "") -> None:
        """Puts in a turn of somebody else's: context for what follows, never trained."""
        turn = len(self.turns)
        marked = any(stop in message.text for stop in self._stops)
        finish = Finish.MARKER if marked else Finish.STOP
        self.turns.append(Turn(turn, message, purpose=REPLAY, problem=problem, finish=finish))
        ids = self.renderer.say(message, self.tools)
        event = self.log.append(
            "model", ids, "template", turn=turn, messages=(message,), finish=finish
        )
        self.counters["replayed_turns"] += 1
        await self._tell(Boundary(At.AFTER_MODEL, event=event))

    def notice(self, message: Message) -> None:
        """Adds a message of ours to the latest answer."""
        turn = self._latest_act()
        heard = (*self.turns[turn].observation, message)
        self.turns[turn] = replace(self.turns[turn], observation=heard)
        ids = self.renderer.encode(message)
        self.log.append("notice", ids, "template", turn=turn, messages=(message,))

    async def remember(self, message: Message) -> tuple[Message, Observation]:
        """What the memory answers itself; returns the message without it, and the replies.

        Those are calls of its own tools, its stop strings, and whatever `answers` takes over.
        """
        if self.turns[self._latest_act()].finish is Finish.MARKER:
            return message, (Message("user", self._reply()),)
        replies: list[Message] = []
        rest: list[ToolCall] = []
        answers = getattr(self.memory, "answers", None)
        for call in message.tool_calls:
            text: str = ""
            if call.name in self._memory_tools:
                text = await self._memory_tool(call)
            elif answers is not None:
                text = answers(self.log, self._state, call)
            if text:
                replies.append(Message("tool", text, tool_call_id=call.id, name=call.name))
            else:
                rest.append(call)
        return (replace(message, tool_calls=tuple(rest)) if replies else message), tuple(replies)

    async def hear(self, observation: Observation, reward: float, info: dict[str, Any]) -> None:
        """Logs what came back for the latest turn; text is tokenised here, once."""
        turn = self._latest_act()
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

    def freeze(self) -> tuple[Segment, ...]:
        """The segments; the episode's tokens exactly as they were sampled."""
        return self._recorder.freeze()

    async def ask(
        self,
        purpose: str,
        view: View,
        max_tokens: int,
        by: Literal["policy", "aux"] = "policy",
    ) -> Event | None:
        """Runs a model for the memory (`types.Ask`)."""
        prompt = self._prompt(view, purpose)
        room = min(max_tokens, self.budget.max_context - len(prompt.ids))
        if room < 1:
            self.counters["asks_without_room"] += 1
            return None
        said, parsed = await self._sample(by, prompt, room)
        event = self._spoken(prompt, said, parsed, "memory", by)
        self.counters[f"{purpose}s"] += 1
        return event if parsed.message.text.strip() or parsed.message.tool_calls else None

    # ------------------------------------------------------------ inside

    async def _tell(self, boundary: Boundary) -> None:
        self._state = await self.memory.on(boundary, self.log, self._state, self.ask)

    async def _shorten(self, at: At, call: ToolCall | None = None) -> int:
        """Tells the memory of a moment to make room; the tokens of the view that it leaves."""
        before = len(self._encode(self._view()))
        await self._tell(Boundary(at, used=before, call=call))
        after = len(self._encode(self._view()))
        if self._tally.shortened(before, after):
            self.shortenings.append(Shortening(len(self.log), self._state))
        return after

    async def _memory_tool(self, call: ToolCall) -> str:
        self.counters["memory_tool_calls"] += 1
        await self._shorten(At.MEMORY_TOOL, call)
        return self._reply()

    def _reply(self) -> str:
        return getattr(self._state, "reply", "") or "done"

    def _scorer(self) -> Callable[[View, Ids], tuple[float, ...]] | None:
        policy = self._loan.scorer
        if policy is None:
            return None
        return lambda view, ids: policy.logprobs(self._encode(view), ids)

    def _view(self) -> View:
        return self.memory.view(self.log, self._state)

    def _encode(self, view: View) -> Ids:
        return encode_view(view, self.log, self.renderer)

    def _continued(self, event: Event) -> Prompt | None:
        """The prompt on which an unfinished turn goes on; None when it is over."""
        view = self._view()
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
        self._squeezing = True
        self.counters["squeezed"] += 1
        return squeezed.view

    def _prompt(self, view: View, purpose: str) -> Prompt:
        return Prompt(
            self._encode(view),
            view_messages(view, self.log),
            self.tools,
            turn=len(self.turns),
            purpose=purpose,
        )

    async def _sample(
        self,
        by: Literal["policy", "aux"],
        prompt: Prompt,
        max_tokens: int,
        stops: tuple[str, ...] = (),
    ) -> tuple[Completion, Parsed]:
        session = self._sessions[by]
        if session is None:
            raise MemoryFault("this memory asks an auxiliary policy, but the rollout has no `aux`")
        sampling = replace(self._sampling, max_tokens=max_tokens, stops=stops)
        said = await session.sample(prompt, sampling)
        if not said.ids:
            ids = self.renderer.say(said.message or Message("assistant"), self.tools)
            said = replace(said, ids=ids, logprobs=(0.0,) * len(ids))
        return said, self.renderer.parse(said.ids, self.tools)

    def _spoken(
        self,
        prompt: Prompt,
        said: Completion,
        parsed: Parsed,
        kind: Literal["model", "memory"],
        by: Literal["policy", "aux"],
    ) -> Event:
        turn = prompt.turn
        self._tally.called(by, prompt.ids, said.ids)
        if by == "policy":
            may_rewrite = self.memory.rewrites or self._squeezing
            self._recorder.call(prompt.ids, said, turn, may_rewrite=may_rewrite)
            if turn == len(self.turns):
                self.turns.append(Turn(turn, parsed.message, purpose=prompt.purpose))
            begun = self.turns[turn]
            self.turns[turn] = replace(
                begun,
                message=parsed.message,
                problem=parsed.problem if kind == "model" else "",
                finish=said.finish,
                prompt_tokens=begun.prompt_tokens + len(prompt.ids),
                sampled_tokens=begun.sampled_tokens + len(said.ids),
            )
        return self.log.append(
            kind, said.ids, by, turn=turn, messages=(parsed.message,), finish=said.finish
        )

    def _latest_act(self) -> int:
        return next(turn.index for turn in reversed(self.turns) if turn.purpose in ("act", REPLAY))
