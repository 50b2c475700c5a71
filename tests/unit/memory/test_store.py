"""The store: who writes, in which order, what goes, and that snapshots never change."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foldgym.errors import DataError, MemoryFault
from foldgym.memory import Store
from foldgym.types import (
    Group,
    Item,
    Message,
    Proposal,
    Request,
    Reward,
    Snapshot,
    Stop,
    Task,
    Trajectory,
    Turn,
)

EMPTY = Snapshot().address


def wants(*put: tuple[str, str], drop: Sequence[str] = (), used: Sequence[str] = ()) -> Proposal:
    return Proposal(put, tuple(drop), tuple(used), EMPTY)


def member(number: int, proposal: Proposal | None, task: str = "q", **facts: Any) -> Trajectory:
    return Trajectory(
        f"w:1:{number}", "w", Task(task, ()), number, (), (), Stop.DONE, facts, proposal=proposal
    )


def group(*members: Trajectory, rewards: Sequence[float] = (), seed: int = 1) -> Group:
    totals = rewards or [0.0] * len(members)
    return Group(Request("w", seed, len(members)), members, tuple(Reward(r, r) for r in totals))


def texts(store: Store) -> dict[str, str]:
    return {item.key: item.text for item in store.head.items}


def test_a_text_is_kept_with_its_writer_and_the_merge_that_took_it() -> None:
    store = Store()
    numbers = store.merge([group(member(0, wants(("b", "two"), ("a", "one"))))])
    assert store.head.items == (Item("a", "one", "w:1:0", 1), Item("b", "two", "w:1:0", 1))
    assert numbers == {
        "store/items": 2.0,
        "store/chars": 6.0,
        "store/writers": 1.0,
        "store/put": 2.0,
        "store/dropped": 0.0,
        "store/retired": 0.0,
        "store/refused": 0.0,
    }
    again = replace(wants(("a", "one"), ("b", "2")), read=store.head.address)
    store.merge([group(member(3, again))])
    assert store.head.items == (Item("a", "one", "w:1:0", 1), Item("b", "2", "w:1:3", 2))


def test_drops_come_before_puts_and_uses_are_counted_whoever_writes() -> None:
    store = Store("best")
    store.merge([group(member(0, wants(("a", "1"), ("b", "2"))))])
    read = store.head.address
    losers = member(0, replace(wants(used=["a", "a", "gone"]), read=read))
    winner = member(1, replace(wants(("a", "3"), drop=["a", "b", "c"], used=["a"]), read=read))
    numbers = store.merge([group(losers, winner, rewards=[0, 1])])
    assert store.head.items == (Item("a", "3", "w:1:1", 2, 0, False),)
    assert (numbers["store/dropped"], numbers["store/put"]) == (2.0, 1.0)


@pytest.mark.parametrize(
    ("rewards", "success", "kept"),
    [
        ([0.2, 0.9, 0.9], [True, True, True], {"k": "1"}),  # the first of the best
        ([0.2, 0.9, 0.1], [True, False, True], {}),  # the best, and still a failure
        ([0.2, 0.9, 0.1], [None, None, None], {"k": "1"}),
    ],
)
def test_best_lets_the_first_of_the_best_write_unless_it_failed(
    rewards: list[float], success: list[bool | None], kept: dict[str, str]
) -> None:
    """Hazard 10: what a failed episode believes is not kept."""
    store = Store("best")
    members = [
        member(k, wants(("k", str(k))), **({} if ok is None else {"success": ok}))
        for k, ok in enumerate(success)
    ]
    store.merge([group(*members, rewards=rewards)])
    assert texts(store) == kept
    assert not any(item.label_free for item in store.head.items)
    assert not store.label_free


@pytest.mark.parametrize(
    ("answers", "kept"),
    [
        ("abb", {"1": "b", "2": "b"}),
        ("abc", {}),  # a tie says nothing
        ("aabb", {}),
        ("a", {"0": "a"}),
    ],
)
def test_majority_lets_those_write_who_agree(answers: str, kept: dict[str, str]) -> None:
    store = Store("majority")
    members = [
        member(k, wants((str(k), answer)), answer=answer) for k, answer in enumerate(answers)
    ]
    store.merge([group(*members, rewards=[9.0] + [0.0] * (len(answers) - 1))])
    assert texts(store) == kept
    assert store.label_free


def test_without_a_fact_the_last_act_is_the_answer() -> None:
    store = Store("majority")
    says = [
        replace(
            member(k, wants((str(k), "x"))),
            turns=(
                Turn(0, Message("assistant", said)),
                Turn(1, Message("assistant", str(k)), purpose="fold"),
            ),
        )
        for k, said in enumerate(["no", "yes", "yes"])
    ]
    store.merge([group(*says)])
    assert texts(store) == {"1": "x", "2": "x"}


def test_who_had_help_never_writes() -> None:
    helped = replace(member(0, wants(("a", "the answer is 4"))), counters={"guided": 1})
    store = Store()
    store.merge([group(helped, member(1, wants(("b", "look"))))])
    assert texts(store) == {"b": "look"}


def test_the_later_member_and_the_later_task_win_whatever_the_order_of_finishing() -> None:
    groups = [
        group(member(0, wants(("k", "b0")), "b"), member(1, wants(("k", "b1")), "b"), seed=2),
        group(member(0, wants(("k", "a0")), "a"), seed=3),
        group(member(0, wants(("j", "c")), "c"), seed=1),
    ]
    heads: set[str] = set()
    for order in itertools.permutations(groups):
        store = Store()
        store.merge(order)
        assert texts(store) == {"k": "b1", "j": "c"}
        heads.add(store.head.address)
    assert len(heads) == 1


def test_a_group_that_read_two_snapshots_stops_the_run() -> None:
    """Hazard 15: members of a group must not differ in what they were shown."""
    store = Store()
    stale = replace(wants(), read="0123456789abcdef")
    for frozen in (store, Store(frozen=True)):
        with pytest.raises(MemoryFault, match="w:1:1 read the snapshot 0123456789abcdef, but"):
            frozen.merge([group(member(0, wants(("a", "b"))), member(1, stale))])
    assert not store.head.items


@pytest.mark.parametrize(
    ("retire", "left"), [("oldest", ["b", "c", "d"]), ("unused", ["a", "c", "d"])]
)
def test_over_its_size_the_store_retires_by_its_rule(retire: Any, left: list[str]) -> None:
    store = Store(retire=retire, max_items=3)
    store.merge([group(member(0, wants(("a", "1"))))])
    for put, used in (("b", "a"), ("c", ""), ("d", "")):
        wanted = replace(wants((put, "1"), used=[used]), read=store.head.address)
        numbers = store.merge([group(member(0, wanted))])
    assert [item.key for item in store.head.items] == left
    assert numbers["store/retired"] == 1.0


def test_characters_count_too_and_a_text_larger_than_the_store_is_refused() -> None:
    store = Store(max_chars=10)
    numbers = store.merge([group(member(0, wants(("a", "x" * 11), ("b", " \n"), ("c", "x" * 10))))])
    assert texts(store) == {"c": "x" * 10}
    assert numbers["store/refused"] == 2.0
    wanted = replace(wants(("d", "y")), read=store.head.address)
    store.merge([group(member(0, wanted))])
    assert texts(store) == {"d": "y"}


def test_a_frozen_store_never_changes() -> None:
    store = Store(frozen=True)
    numbers = store.merge([group(member(0, wants(("a", "b"), used=["a"])))])
    assert store.head == Snapshot()
    assert numbers["store/put"] == 0.0
    assert store.label_free


_word = st.text(st.sampled_from("ab \n<\ud800"), max_size=4)
_proposal = st.builds(
    wants,
    st.tuples(_word, _word),
    drop=st.lists(_word, max_size=2),
    used=st.lists(_word, max_size=2),
)


@given(st.lists(st.lists(_proposal, min_size=1, max_size=3), max_size=4), st.integers(1, 4))
def test_what_is_saved_comes_back_and_old_snapshots_stay_as_they_were(
    merges: list[list[Proposal]], size: int
) -> None:
    store = Store(max_items=size, retire="unused")
    seen = {store.head.address: store.head}
    for proposals in merges:
        read = store.head.address
        store.merge([group(*(member(k, replace(p, read=read)) for k, p in enumerate(proposals)))])
        assert len(store.head.items) <= size
        assert [item.key for item in store.head.items] == sorted(texts(store))
        assert seen.setdefault(store.head.address, store.head) == store.head
    other = Store(max_items=size, retire="unused")
    other.load(json.loads(json.dumps(store.state())))
    assert other.state() == store.state()
    assert all(other.at(address) == snapshot for address, snapshot in seen.items())
    wanted = replace(wants(("new", "x")), read=store.head.address)
    for each in (store, other):
        each.merge([group(member(0, wanted))])
    assert store.head == other.head


def test_a_file_keeps_a_store(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "store.json"
    store = Store()
    store.merge([group(member(0, wants(("a", "ü\ud800"))))])
    store.save(path)
    other = Store()
    other.read(path)
    assert other.head == store.head
    assert list(path.parent.iterdir()) == [path]


def test_only_the_last_snapshots_are_found() -> None:
    store = Store()
    for number in range(70):
        wanted = replace(wants(("a", str(number))), read=store.head.address)
        store.merge([group(member(0, wanted))])
    with pytest.raises(DataError, match=f"no snapshot '{EMPTY}' among the last 64"):
        store.at(EMPTY)
    assert store.at(store.head.address) is store.head


def damaged(**change: Any) -> str:
    store = Store()
    store.merge([group(member(0, wants(("a", "b"))))])
    state = store.state()
    for key, value in change.items():
        state[key] = value
    return json.dumps(state)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "not a store"),
        ("[1]", "list instead of an object"),
        ("{}", "a store of format None; this foldgym reads format 1"),
        (damaged(format=2), "a store of format 2"),
        (damaged(items={}), "not a store: KeyError"),
        (damaged(snapshots=[]), "damaged: empty"),
        (damaged().replace('"text": "b"', '"text": "c"'), "does not hold what its address says"),
    ],
)
def test_a_file_that_is_no_store_is_refused_by_its_name(
    tmp_path: Path, text: str, problem: str
) -> None:
    path = tmp_path / "store.json"
    path.write_text(text)
    with pytest.raises(DataError, match=problem) as caught:
        Store().read(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read the store .*: No such file"):
        Store().read(tmp_path / "none.json")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write the store"):
        Store().save(tmp_path / "file" / "store.json")


@pytest.mark.parametrize("wrong", [{"max_items": 0}, {"max_chars": 0}])
def test_a_store_of_no_size_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="max_items >= 1 and max_chars >= 1"):
        Store(**wrong)  # type: ignore[arg-type]
