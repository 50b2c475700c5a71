"""The queue between rollouts and learner: what may be asked for, what comes out, what breaks it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from foldgym.errors import Bug
from foldgym.trainers.feed import Feed, Order, Taken
from foldgym.trainers.staleness import age
from foldgym.types import (
    Decision,
    Group,
    Json,
    Message,
    Request,
    Reward,
    Segment,
    Stop,
    Task,
    Trajectory,
    Turn,
    Verdict,
)


class Numbers:
    """A sampler that asks for task 0, 1, 2, ... and accepts what was paid."""

    def __init__(self) -> None:
        self.next, self.steps = 0, list[int]()

    def plan(self, step: int, want: int) -> list[Request]:
        self.steps.append(step)
        self.next += want
        return [Request("world", self.next - want + i) for i in range(want)]

    def judge(self, group: Group) -> Decision:
        return Verdict.ACCEPT if group.rewards[0].total else Verdict.REJECT

    def update(self, accepted: Sequence[Group], rejected: Sequence[Group]) -> dict[str, float]:
        return {}

    def weigh(self, groups: Sequence[Group], credits: Any) -> tuple[list[Group], Any]:
        return list(groups), credits

    def state(self) -> dict[str, Json]:
        return {}

    def load(self, state: Mapping[str, Json]) -> None:
        """Nothing is kept."""


def group(request: Request, versions: Sequence[int], paid: float = 1.0) -> Group:
    """One episode of one token per version."""
    turn_ids = (-1, *(0 for _ in versions))
    segment = Segment(turn_ids, turn_ids, (0.0,) * len(turn_ids), (-1, *versions))
    said = (Turn(0, Message("assistant", "x")),)
    name = f"world:{request.seed}:0"
    one = Trajectory(name, "world", Task("t", ()), 0, said, (segment,), Stop.DONE, {"score": paid})
    return Group(request, (one,), (Reward(paid, paid),))


class Stage:
    """A feed whose plays end when they are told to, in a loop that is turned by hand."""

    def __init__(self, size: int, steps: int, staleness: int, order: Order = "asked") -> None:
        self.loop = asyncio.new_event_loop()
        self.sampler, self.version = Numbers(), 0
        self.waiting: list[tuple[Sequence[Request], int, asyncio.Future[list[float]]]] = []
        self.make = lambda: Feed(self.sampler, self.play, size, steps, staleness, order)
        self.feed = self.make()
        self.marks: list[tuple[int, ...]] = []

    async def play(
        self, requests: Sequence[Request], step: int, mark: tuple[int, ...]
    ) -> list[Group]:
        self.marks.append((step, *mark))
        end: asyncio.Future[list[float]] = self.loop.create_future()
        self.waiting.append((requests, self.version, end))
        paid = await end
        versions = sorted({self.waiting_version(requests), self.version})
        return [group(r, versions, p) for r, p in zip(requests, paid, strict=True)]

    def waiting_version(self, requests: Sequence[Request]) -> int:
        return self.born[requests[0].seed]

    @property
    def born(self) -> dict[int, int]:
        return {r.seed: born for requests, born, _ in self.waiting for r in requests}

    def spin(self) -> None:
        async def passes() -> None:
            for _ in range(12):
                await asyncio.sleep(0)

        self.loop.run_until_complete(passes())

    def task(self, what: Any) -> asyncio.Task[Any]:
        task = self.loop.create_task(what)
        self.spin()
        return task

    @property
    def open(self) -> list[int]:
        return [i for i, (_, _, end) in enumerate(self.waiting) if not end.done()]

    def end(self, place: int, paid: Sequence[float]) -> None:
        self.waiting[place][2].set_result(list(paid))
        self.spin()

    def close(self) -> None:
        self.loop.run_until_complete(self.feed.__aexit__())
        self.loop.close()


SIZE, STEPS = 3, 7


class FeedMachine(RuleBasedStateMachine):
    """Any order of plays ending, takes, updates and checkpoints."""

    stage: Stage

    @initialize(staleness=st.integers(0, 3), order=st.sampled_from(["asked", "finished"]))
    def begin(self, staleness: int, order: Order) -> None:
        self.staleness, self.order = staleness, order
        self.stage = Stage(SIZE, STEPS, staleness, order)
        self.pending: asyncio.Task[Taken] | None = None
        self.learning = False
        self.done = self.taken = 0
        self.seen: list[int] = []
        self.out = self.out_rejected = self.dropped = 0

    @precondition(lambda self: self.stage.open)
    @rule(data=st.data())
    def a_play_ends(self, data: st.DataObject) -> None:
        place = data.draw(st.sampled_from(self.stage.open))
        size = len(self.stage.waiting[place][0])
        paid = data.draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=size, max_size=size))
        self.stage.end(place, paid)
        self.collect()

    @precondition(lambda self: self.pending is None and not self.learning and self.taken < STEPS)
    @rule()
    def the_learner_wants_more(self) -> None:
        self.pending = self.stage.task(self.stage.feed.take(self.stage.version))
        self.collect()

    @precondition(lambda self: self.learning)
    @rule(skipped=st.booleans(), save=st.booleans())
    def an_update_is_done(self, skipped: bool, save: bool) -> None:
        self.stage.version += not skipped
        if save:
            self.checkpoint()
        self.stage.feed.done(self.stage.version)
        self.learning, self.done = False, self.taken

    @precondition(lambda self: self.taken == STEPS and not self.learning and not self.stage.open)
    @rule()
    def the_run_is_over(self) -> None:
        assert self.stage.feed.queued == 0

    def checkpoint(self) -> None:
        """Everything under way ends, nothing new is asked for, and another feed takes over."""
        asked = self.stage.sampler.next
        rest = self.stage.task(self.stage.feed.rest())
        while self.stage.open:
            assert not rest.done()
            self.stage.end(
                self.stage.open[0], [1.0] * len(self.stage.waiting[self.stage.open[0]][0])
            )
        assert rest.done()
        assert self.stage.sampler.next == asked
        state = json.loads(json.dumps(self.stage.feed.state()))
        before, new = self.stage.feed.left, self.stage.make()
        new.load(state, self.taken, self.stage.version)
        if self.staleness == 0:
            assert not before
        ages = [age(g, self.stage.version) for lot in before for g in lot.accepted]
        if all(each <= self.staleness for each in ages):
            assert new.left == before
        self.stage.feed = new

    def collect(self) -> None:
        if self.pending is None or not self.pending.done():
            return
        taken, self.pending = self.pending.result(), None
        self.taken, self.learning = self.taken + 1, True
        self.dropped += taken.dropped
        assert len(taken.accepted) >= SIZE
        if self.staleness:  # lots of one group: never more than was wanted
            assert len(taken.accepted) == SIZE
        ages = [age(each, self.stage.version) for each in taken.accepted]
        assert max(ages) <= self.staleness
        numbers = [lot.number for lot in taken.lots]
        if self.order == "asked":
            assert [*self.seen, *numbers] == sorted([*self.seen, *numbers])
        self.seen += numbers
        self.out += len(taken.accepted)
        self.out_rejected += len(taken.rejected)

    @invariant()
    def never_ahead_of_the_rule(self) -> None:
        """AReaL: `(N - 1) // B <= version + staleness`, N being all that was not rejected."""
        feed = self.stage.feed
        running = sum(len(self.stage.waiting[i][0]) for i in self.stage.open)
        count = self.out + feed.queued + running
        assert (count - 1) // SIZE <= self.done + self.staleness
        assert count <= STEPS * SIZE
        assert self.stage.sampler.steps == sorted(self.stage.sampler.steps)

    @invariant()
    def nothing_is_lost_or_counted_twice(self) -> None:
        running = sum(len(self.stage.waiting[i][0]) for i in self.stage.open)
        queued = sum(len(lot.accepted) + len(lot.rejected) for lot in self.stage.feed.left)
        assert self.stage.sampler.next == self.out + self.out_rejected + running + queued
        assert len(set(self.seen)) == len(self.seen)
        assert len(set(self.stage.marks)) == len(self.stage.marks)

    def teardown(self) -> None:
        """Nobody starves: once every play ends and is accepted, the run ends."""
        for _ in range(20 * STEPS * SIZE):
            if self.taken == STEPS and not self.learning:
                break
            if self.learning:
                self.stage.version += 1
                self.stage.feed.done(self.stage.version)
                self.learning, self.done = False, self.taken
            elif self.pending is None:
                self.the_learner_wants_more()
            else:
                place = self.stage.open[-1]
                self.stage.end(place, [1.0] * len(self.stage.waiting[place][0]))
                self.collect()
        assert self.taken == STEPS
        self.stage.close()


FeedMachine.TestCase.settings = settings(max_examples=25, stateful_step_count=30)
TestFeed = FeedMachine.TestCase


def test_with_one_step_ahead_a_second_step_is_asked_for_at_once() -> None:
    stage = Stage(4, 3, 1)
    taking = stage.task(stage.feed.take(0))
    assert [len(requests) for requests, _, _ in stage.waiting] == [1] * 8
    assert stage.sampler.steps == [1, 2]
    for place in (1, 2, 3, 4):
        stage.end(place, [1.0])
    assert not taking.done()  # the first asked for is still under way
    stage.end(0, [1.0])
    assert [lot.number for lot in taking.result().lots] == [0, 1, 2, 3]
    assert taking.result().queued == 1
    assert len(stage.waiting) == 8  # no more before the step is over
    stage.feed.done(1)
    stage.task(stage.feed.take(1))
    assert len(stage.waiting) == 12
    stage.close()


def test_finished_first_overtakes_and_drops_what_became_too_old() -> None:
    """Task 0 lasts three updates; with one step ahead its group is two updates too old by then."""
    stage = Stage(2, 5, 1, "finished")
    for version in range(3):
        taking = stage.task(stage.feed.take(version))
        for place in stage.open[1:3]:
            stage.end(place, [1.0])
        assert taking.result().dropped == 0
        stage.version = version + 1
        stage.feed.done(stage.version)
    stage.end(0, [1.0])
    asked = stage.sampler.next
    taking = stage.task(stage.feed.take(3))
    assert stage.sampler.next > asked  # in its place, and for the new step
    while not taking.done():
        stage.end(stage.open[0], [1.0])
    taken = taking.result()
    assert taken.dropped == 1
    assert [g.request.seed for g in taken.rejected] == [0]
    assert 0 not in [g.request.seed for g in taken.accepted]
    stage.close()


def test_without_staleness_what_is_missing_is_played_as_one() -> None:
    stage = Stage(3, 2, 0)
    taking = stage.task(stage.feed.take(0))
    assert [len(requests) for requests, _, _ in stage.waiting] == [3]
    stage.end(0, [1.0, 0.0, 0.0])
    assert [len(requests) for requests, _, _ in stage.waiting] == [3, 2]
    stage.end(1, [1.0, 1.0])
    assert [g.request.seed for g in taking.result().accepted] == [0, 3, 4]
    assert stage.marks == [(1, 0), (1, 1)]
    stage.close()


def test_what_is_rejected_is_not_asked_for_one_by_one() -> None:
    """A sampler counts how often it is asked for a step; `dapo` gives up after ten times."""
    stage = Stage(8, 1, 1)
    stage.task(stage.feed.take(0))
    for place in range(3):
        stage.end(place, [0.0])
    assert stage.sampler.steps == [1]  # three of eight are not worth a round yet
    stage.end(3, [0.0])
    assert stage.sampler.steps == [1, 1]
    assert len(stage.waiting) == 12
    for place in range(4, 11):
        stage.end(place, [1.0])
    assert stage.sampler.steps == [1, 1]
    stage.end(11, [0.0])  # one is missing, and nothing else is under way
    assert stage.sampler.steps == [1, 1, 1]
    assert len(stage.waiting) == 13
    stage.close()


@pytest.mark.parametrize("staleness", [0, 2])
def test_a_failure_of_a_play_reaches_the_learner_and_nothing_goes_on(staleness: int) -> None:
    stage = Stage(2, 9, staleness)
    taking = stage.task(stage.feed.take(0))
    stage.waiting[0][2].set_exception(Bug("on purpose"))
    stage.spin()
    with pytest.raises(Bug, match="on purpose"):
        taking.result()
    with pytest.raises(Bug, match="on purpose"):
        stage.loop.run_until_complete(stage.feed.rest())
    asked = stage.sampler.next
    stage.loop.run_until_complete(stage.feed.__aexit__())
    assert all(end.done() for _, _, end in stage.waiting)
    assert stage.sampler.next == asked
    stage.loop.close()


def test_an_engine_that_never_gets_new_weights_is_found_out() -> None:
    stage = Stage(1, 9, 1)
    for version in range(2):
        taking = stage.task(stage.feed.take(version))
        while not taking.done():
            stage.end(stage.open[0], [1.0])
        stage.feed.done(version + 1)  # and the plays go on saying version 0
    taking = stage.task(stage.feed.take(2))
    for place in stage.open:
        if not taking.done():
            stage.end(place, [1.0])
    with pytest.raises(Bug, match=r"begun after version 1 was published, .* version 0 sampled it"):
        taking.result()
    stage.loop.run_until_complete(stage.feed.__aexit__())
    stage.loop.close()


def test_what_is_under_way_cannot_be_saved() -> None:
    stage = Stage(2, 9, 1)
    stage.task(stage.feed.take(0))
    with pytest.raises(Bug, match="4 groups are under way"):
        stage.feed.state()
    stage.close()
