"""Delethink: chunks of constant context, and the bookkeeping of a turn in several calls."""

from __future__ import annotations

from foldgym.memory import Delethink, SlidingWindow
from foldgym.memory.thinking import compress
from foldgym.testing.doubles import witness
from foldgym.types import At, Finish, Log, Ref
from tests.unit.memory.logs import Told, played
from tests.unit.memory.test_hazards import RENDERER
from tests.unit.memory.test_hazards import played as episode


def says(told: Told, ids: tuple[int, ...], turn: int, finish: Finish = Finish.LENGTH) -> None:
    event = told.log.append("model", ids, "policy", turn=turn, finish=finish)
    told(At.AFTER_MODEL, event=event)


def room(told: Told) -> tuple[bool, int]:
    view = told.memory.view(told.log, told.state)
    return view.open_turn, view.max_tokens


def test_a_cut_turn_goes_on_from_its_head_and_tail() -> None:
    told = Told(Delethink(chunk=8, head=1, tail=3), played(0))
    assert room(told) == (False, 8)
    says(told, (1, 2, 3, 4, 5, 6, 7, 8), 0)
    assert told.view() == [0, 1, 6, 7, 8]
    assert room(told) == (True, 4)
    says(told, (11, 12, 13, 14), 0)
    assert told.view() == [0, 1, 12, 13, 14]
    says(told, (21, 22), 0)
    assert told.view() == [0, 1, 14, 21, 22]
    says(told, (31, 9), 0, Finish.STOP)
    assert room(told) == (False, 8)
    assert told.view() == [0, 1, 14, 21, 22, 31, 9]
    told.hears(0)
    assert told.view() == [0, 1, 14, 21, 22, 31, 9, 20]
    says(told, (41, 9), 1, Finish.STOP)
    assert told.view() == [0, 1, 14, 21, 22, 31, 9, 20, 41, 9]


def test_all_chunks_together_are_the_published_budget() -> None:
    """C + (I - 1)(C - m): 24 576 = 8 192 + 4 * 4 096, and 98 304 with 23 chunks."""
    for chunks, total in ((5, 24_576), (23, 98_304)):
        told = Told(Delethink(max_chunks=chunks), Log([]))
        told.log.append("task", (0,), "env")
        spent = 0
        while True:
            (_, most), before = room(told), spent
            spent += most
            says(told, tuple(range(before, spent)), 0)
            if not room(told)[0]:
                break
            assert told.view()[1:101] == list(range(100))
            assert len(told.view()) == 1 + 4096
        assert spent == total


def test_the_last_chunk_is_taken_as_it_stands() -> None:
    told = Told(Delethink(chunk=4, head=1, tail=1, max_chunks=2), played(0))
    says(told, (1, 2, 3, 4), 0)
    says(told, (5, 6), 0)
    assert room(told) == (False, 4)
    assert told.view() == [0, 1, 4, 5, 6]


def test_a_turn_that_found_no_room_to_go_on_is_over() -> None:
    told = Told(Delethink(chunk=4, head=1, tail=1), played(0))
    says(told, (1, 2, 3, 4), 0)
    told.hears(0)
    assert told.view() == [0, 1, 2, 3, 4, 20]
    assert room(told) == (False, 4)


def test_the_inner_memory_chooses_among_finished_turns() -> None:
    told = Told(Delethink(SlidingWindow(1), chunk=4, head=1, tail=1), played(1))
    says(told, (1, 2, 3, 4), 1)
    assert told.view() == [0, 1, 4]
    says(told, (5, 9), 1, Finish.STOP)
    told.hears(1)
    assert told.view() == [0, 1, 4, 5, 9, 21]


def test_a_carry_is_runs_of_recorded_ids() -> None:
    assert compress((Ref(1, 0, 2), Ref(2, 0, 2)), 1, 9) == (Ref(1, 0, 2), Ref(2, 0, 2))
    assert compress((Ref(1, 0, 4), Ref(2, 0, 4)), 2, 3) == (Ref(1, 0, 2), Ref(2, 1, 4))
    assert compress((Ref(1, 0, 4), Ref(1, 4, 8)), 3, 4) == (Ref(1, 0, 3), Ref(1, 4, 8))


def test_a_turn_in_chunks_is_one_turn_of_one_message() -> None:
    """Hazards 1 to 3: ids are carried, never text, and trained in the chunk that sampled them."""
    policy, trajectory = episode(
        lambda: Delethink(chunk=8, head=1, tail=3), ["look at the", "the", "look up"], 2
    )
    # said: "look at ", then "the" with an end token: 4 ids, so the turn ends there
    contexts = [RENDERER.tokenizer.decode(context) for context, _ in policy.calls]
    asked = "<|user|>look around<|end|><|assistant|>"
    assert contexts[:2] == [asked, asked + "lat "]
    assert trajectory.turns[0].message.tool_calls[0].arguments == '{"where": "at the"}'
    assert trajectory.turns[0].observation[0].text == "at the: look 1"
    answer = "<|tool|>at the: look 1<|end|><|assistant|>"
    assert contexts[2] == asked + "lat the<|end|>" + answer
    said = [len(ids) for _, ids in policy.calls]
    assert said == [8, 4, 8]
    assert [turn.sampled_tokens for turn in trajectory.turns] == [12, 8]
    assert trajectory.turns[0].prompt_tokens == sum(len(c) for c, _ in policy.calls[:2])
    assert [segment.trained for segment in trajectory.segments] == [8, 12]
    assert [max(segment.turn_ids) for segment in trajectory.segments] == [0, 1]
    assert witness(trajectory) == 20


def test_a_turn_never_goes_on_past_the_context() -> None:
    """The task takes 13 ids, the header 1 and the carry 4."""
    policy, trajectory = episode(
        lambda: Delethink(chunk=8, head=1, tail=3), ["look at the"], turns=1, context=17
    )
    assert [len(context) for context, _ in policy.calls] == [14]
    assert trajectory.turns[0].finish is Finish.LENGTH
    assert trajectory.turns[0].observation[0].text == "at: look 1"
    again, _ = episode(
        lambda: Delethink(chunk=8, head=1, tail=3), ["look at the", "the"], turns=1, context=18
    )
    assert [len(context) for context, _ in again.calls] == [14, 18]
