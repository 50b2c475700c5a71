"""A policy that samples from a transformers model in this process, and keeps what it computed.

    policy = TorchPolicy(model, renderer.stop_ids, pad_id=0)
    session = policy.open(seed, env)
    completion = await session.sample(Prompt(ids), Sampling(temperature=1.0, max_tokens=32))
    session.close()

Each session has its own random stream, so what it samples does not depend on which other sessions
share its batches (beyond float rounding). Keys and values are kept from turn to turn: a prompt
that begins like the last one costs only what follows; after a fold the common beginning is kept.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from itertools import count
from typing import Any, Literal

from foldgym.agents.engines import scoring
from foldgym.agents.engines.branches import BranchScorer, Tree
from foldgym.agents.engines.decoding import Decoder, Row, Seat
from foldgym.agents.engines.scheduling import Rounds, Scheduler, Stream, Ticket
from foldgym.agents.engines.solo import make_decoder
from foldgym.agents.engines.vision import VisionDecoder, check_seen, format_of
from foldgym.errors import Bug, ConfigError, ContextFull, EngineError
from foldgym.seeding import generator
from foldgym.types import Completion, EnvHandle, Finish, Ids, Prompt, Sampling, Session

SCHEDULERS = {"rounds": Rounds, "dynamic": Stream}


class TorchPolicy:
    """A `Policy` and a `Scorer` over `model`, whose weights a learner may change in between.

    `stop_ids` end a completion and belong to it. `batching="rounds"` gives equal bits run after
    run: a batch starts when every open session waits for it, so open the session of the next
    episode before (or within the same moment as) closing that of the last, and let no session
    stay open without sampling (further sessions of an episode, which its first one `branch`es off,
    do not count). `"dynamic"` batches whoever waits, in a thread. At most
    `max_batch` rows share a forward pass.
    """

    def __init__(
        self,
        model: Any,
        stop_ids: Sequence[int],
        *,
        pad_id: int,
        batching: Literal["rounds", "dynamic"] = "rounds",
        max_batch: int = 256,
        device: str | None = None,
    ) -> None:
        config = model.config.get_text_config()
        wrong = [token for token in (*stop_ids, pad_id) if not 0 <= token < config.vocab_size]
        if wrong:
            raise ConfigError(f"id {wrong[0]} is outside the model's {config.vocab_size} ids")
        if not stop_ids:
            raise ConfigError("no stop ids: no completion would ever end; give at least one")
        if max_batch < 1:
            raise ConfigError(f"max_batch is {max_batch}; give at least 1")
        if batching not in SCHEDULERS:
            raise ConfigError(f"batching is {batching!r}; use one of {', '.join(SCHEDULERS)}")
        self.model = model.to(device) if device else model
        self.pad_id = pad_id
        self.max_positions: float = getattr(config, "max_position_embeddings", None) or math.inf
        sight = format_of(self.model)
        self._sight = sight
        if sight is None:
            self._decoder: Decoder = make_decoder(self.model, stop_ids, pad_id)
        else:
            self._decoder = VisionDecoder(self.model, stop_ids, sight)
        self._scheduler: Scheduler = SCHEDULERS[batching](self._decoder, max_batch)
        self._branches: BranchScorer | None = None
        self._stop_ids, self._max_batch = tuple(stop_ids), max_batch
        self._batching: Literal["rounds", "dynamic"] = batching
        self._version = 0
        self._opened = 0

    @property
    def version(self) -> int:
        """How often the weights have changed."""
        return self._version

    def with_model(self, model: Any) -> TorchPolicy:
        """A policy of the same settings over another model, with no session open."""
        return TorchPolicy(
            model,
            self._stop_ids,
            pad_id=self.pad_id,
            batching=self._batching,
            max_batch=self._max_batch,
        )

    def advance(self, version: int | None = None) -> None:
        """The weights changed: count it and forget all keys and values.

        `version` sets the number instead (a resumed run). Raises `Bug` while rows are sampled.
        """
        new = self._version + 1 if version is None else version
        self._scheduler.advance(new)
        self._version = new

    def swap(self, change: Callable[[], None], version: int) -> None:
        """Has `change` set weights number `version`, between two tokens of whatever is sampled.

        Sessions that wait go on under the new weights and their completions say which id came from
        which. Call it in the event loop: scores are read there, and rounds run there.
        """
        self._scheduler.swap(version, change)
        self._version = version

    def open(self, seed: int, env: EnvHandle | None = None) -> Session:
        """A session whose random stream is `seed`'s; `env` is not looked at."""
        seat = Seat(self._opened, generator(seed, "engine"))
        self._opened += 1
        return TorchSession(seat, self._scheduler, self.max_positions, count(1))

    def logprobs(self, prompt: Ids, target: Ids) -> tuple[float, ...]:
        """log p(target | prompt) at temperature 1, one per target id."""
        return self.score([(prompt, target)])[0]

    def score(
        self, pairs: Sequence[tuple[Ids, Ids]], temperature: float = 1.0
    ) -> list[tuple[float, ...]]:
        """`logprobs` of many (prompt, target) pairs at once, at any temperature above 0."""
        for prompt, _ in pairs:
            check_seen(prompt, self._sight)
        longest = max((len(prompt) + len(target) for prompt, target in pairs), default=0)
        if longest > self.max_positions:
            raise EngineError(
                f"{longest} ids to score, but the model has {self.max_positions} positions"
            )
        return scoring.score(self.model, pairs, self.pad_id, temperature)

    def score_trees(self, trees: Sequence[Tree]) -> list[list[tuple[float, ...]]]:
        """Log-probs at temperature 1 of what might be said at places of long texts.

        Per tree and branch; costs little more than a forward pass over the trunks.
        """
        for tree in trees:
            check_seen(tree.trunk, self._sight)
            for branch in tree.branches:
                longest = branch.at + len(branch.ids)
                if longest > self.max_positions:
                    raise EngineError(
                        f"{longest} ids to score, but the model has {self.max_positions} positions"
                    )
        if self._branches is None:
            self._branches = BranchScorer(self.model, self.pad_id)
        return self._branches(trees)

    def counters(self) -> dict[str, float]:
        """Since the start: prefilled, reused, padded and decoded tokens, forwards, seconds."""
        return asdict(self._decoder.counters)


class TorchSession:
    """One lineage's side of a `TorchPolicy`: an episode has one session, or several (`branch`)."""

    def __init__(
        self, seat: Seat, scheduler: Scheduler, max_positions: float, branches: Iterator[int]
    ) -> None:
        self._seat = seat
        self._scheduler = scheduler
        self._max_positions = max_positions
        self._branches = branches
        self._waits = False
        scheduler.enter(seat)

    def branch(self, seed: int) -> Session:
        """Another session of the same episode, with a random stream of its own."""
        seat = Seat(self._seat.number, generator(seed, "engine"), next(self._branches))
        return TorchSession(seat, self._scheduler, self._max_positions, self._branches)

    def expect(self, busy: int) -> None:
        """How many sessions of this episode a round must wait for (at first 1)."""
        if busy < 0:
            raise Bug(f"session {self._seat.name} cannot expect {busy} sessions to ask")
        self._scheduler.expect(self._seat, busy)

    async def sample(self, prompt: Prompt, sampling: Sampling) -> Completion:
        """Continue `prompt.ids`. A completion that reaches the model's last position ends there.

        Raises `ContextFull` when the prompt leaves no room, `EngineError` when the model gives no
        finite numbers.
        """
        name, length = self._seat.name, len(prompt.ids)
        if self._seat.closed or self._waits:
            why = "is closed" if self._seat.closed else "already waits for a completion"
            raise Bug(f"session {name} {why}")
        if sampling.max_tokens < 1 or sampling.temperature < 0:
            raise ConfigError(f"cannot sample with {sampling}: max_tokens >= 1, temperature >= 0")
        room = self._max_positions - length
        if not length:
            raise EngineError(f"session {name}: an empty prompt; give at least one id")
        if room < 1:
            raise ContextFull(
                f"session {name}: a prompt of {length} ids leaves nothing to sample in the "
                f"model's {self._max_positions} positions"
            )
        loop = asyncio.get_running_loop()
        limit = int(min(sampling.max_tokens, room))
        heat, seen = sampling.temperature, prompt.pictures
        row = Row(self._seat, prompt.ids, heat, limit, pictures=seen)
        ticket = Ticket(row, loop.create_future(), loop)
        self._waits = True
        try:
            self._scheduler.submit(ticket)
            row = await ticket.future
        finally:
            self._waits = False
            self._scheduler.withdraw(ticket)
        finish = row.finish or Finish.LENGTH
        mixed = tuple(row.versions) if len(set(row.versions)) > 1 else ()
        ids, logprobs = tuple(row.ids), tuple(row.logprobs)
        return Completion(ids, logprobs, row.version, finish, versions=mixed)

    def close(self) -> None:
        """Give back what the session holds; closing twice does nothing."""
        if not self._seat.closed:
            self._seat.closed = True
            self._scheduler.leave(self._seat)
