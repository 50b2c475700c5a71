"""The cheatsheets: what is shown, what a curator may change, and what it cannot lose."""

from __future__ import annotations

import json
from typing import Any

import pytest

from foldgym.memory import CheatsheetCu, CheatsheetRs, KvStore, SlidingWindow
from foldgym.memory.blocks import NOTICE, as_data
from foldgym.memory.sheets import PAIRS, Copy, Edits, edits
from foldgym.types import At, Budget, Item, Log, Message, Proposal, Ref, Snapshot, View
from tests.unit.memory.logs import Told, answered, played

OLD = (
    Item("sheet/a", "look left first", "w:0:0"),
    Item("sheet/b", "keys open doors", "w:0:1"),
    Item("sheet/c", "boxes are empty", "w:0:2"),
)


def sheet(*lines: str) -> str:
    return "Here it is.\n<cheatsheet>\n" + "\n".join(lines) + "\n</cheatsheet> done"


@pytest.mark.parametrize(
    ("lines", "put", "drop", "kept"),
    [
        ((), (), (), 3),  # an empty sheet forgets everything, and nothing is lost
        (("1. look left first", "- keys open doors", "[3] boxes are empty"), (), (), 0),
        (('2. "keys open doors"',), (), (), 2),  # copied as it was shown
        (("drop: 1, 3",), (), ("sheet/a", "sheet/c"), 1),
        (("drop: 9",), (), (), 3),
        # four fifths of the old words: it takes the old one's place, and its key
        (("first look left, then right",), (("sheet/a", "first look left, then right"),), (), 2),
        (
            ("look left first; keys open doors",),
            (("sheet/a", "look left first; keys open doors"),),
            ("sheet/b",),
            1,
        ),
        # two of three words are not enough: a new item beside the old one
        (("look left",), (("sheet/NEW", "look left"),), (), 3),
    ],
)
def test_what_a_written_sheet_changes(
    lines: tuple[str, ...], put: Any, drop: tuple[str, ...], kept: int
) -> None:
    """Hazard 10: a curator that does not copy an item loses nothing."""
    found = edits(sheet(*lines), OLD)
    assert found is not None
    named = {key for key, _ in found.put} - {item.key for item in OLD}
    known = dict.fromkeys(named, "sheet/NEW")
    assert tuple((known.get(key, key), text) for key, text in found.put) == put
    assert (found.drop, found.restored) == (drop, kept)


@pytest.mark.parametrize("text", ["", "look left", "<cheatsheet> look", "</cheatsheet>"])
def test_without_a_whole_sheet_nothing_changes(text: str) -> None:
    assert edits(text, OLD) is None


@pytest.mark.parametrize(
    ("copy", "expected"),
    [
        ("keep", Edits((), (), 2)),
        ("refuse", None),
        ("trust", Edits((), ("sheet/b", "sheet/c"))),
    ],
)
def test_forgotten_items_stay_or_spoil_the_sheet_or_are_gone(
    copy: Copy, expected: Edits | None
) -> None:
    assert edits(sheet("look left first"), OLD, copy) == expected
    whole = sheet("look left first", "keys open doors", "drop: 3")
    assert edits(whole, OLD, copy) == Edits((), ("sheet/c",))


def test_the_same_item_has_the_same_key_whoever_writes_it() -> None:
    one, two = edits(sheet("Look  up"), ()), edits(sheet("- look up", "3) look up"), ())
    assert one is not None
    assert two is not None
    assert [key for key, _ in one.put] == [key for key, _ in two.put]


def test_endless_numbers_are_read_quickly() -> None:
    hostile = "drop: " + "1" * 5000 + "x"
    found = edits(sheet(hostile, "drop: " + "1" * 5000), OLD)
    assert found is not None
    assert [text for _, text in found.put] == [hostile]


def test_the_sheet_stands_behind_the_task_and_the_curator_sees_it() -> None:
    told = Told(CheatsheetCu(max_tokens=40), played(2), [sheet("look up")], Snapshot(OLD))
    assert told.view() == [0, 900, 10, 20, 11, 21]
    assert told.kit.made[-1] == as_data([item.text for item in OLD], NOTICE)
    assert told.state.proposal is None
    told(At.EPISODE_END)
    assert told.asked == [[0, 900, 10, 20, 11, 21, 900]]
    assert told.purposes == ["curate"]
    proposal = told.state.proposal
    assert [text for _, text in proposal.put] == ["look up"]
    assert proposal.used == ("sheet/a", "sheet/b", "sheet/c")
    assert told.view() == [0, 900, 10, 20, 11, 21]
    assert told.state.numbers == {"sheet_items": 3.0, "sheet_kept": 3.0}


@pytest.mark.parametrize("wrote", [None, "no sheet here"])
def test_a_failing_curator_leaves_the_sheet_as_it_is(wrote: str | None) -> None:
    told = Told(CheatsheetCu(), played(1), [wrote], Snapshot(OLD))
    told(At.EPISODE_END)
    assert told.state.proposal == Proposal(used=("sheet/a", "sheet/b", "sheet/c"))
    assert told.state.failed == 1


def test_a_curator_sees_no_more_turns_than_fit() -> None:
    """A context of 100 less 64 to write, task, sheet and instruction: 33 ids, 16 turns of two."""
    told = Told(CheatsheetCu(max_tokens=64), played(20), [sheet("x")], Snapshot(OLD))
    told(At.EPISODE_END)
    (prompt,) = told.asked
    assert prompt[:4] == [0, 900, 14, 24]
    assert prompt[-1] == 900
    assert len(prompt) == 2 + 32 + 1


def test_more_items_than_a_fourth_of_the_context_are_left_out_whole() -> None:
    class Wide:
        """A kit whose ids are the characters of a text."""

        budget = Budget(max_context=400)
        tools = ()
        scorer = None
        store = Snapshot(
            tuple(
                Item(f"sheet/{k}", str(k) * 20, uses=int(k == 7), born=int(k == 8))
                for k in range(10)
            )
        )

        def synth(self, message: Message, reason: str) -> Any:
            from foldgym.types import Synth

            return Synth(tuple(message.text.encode()), reason, (message,))

    state = CheatsheetCu().start(played(1), Wide())  # type: ignore[arg-type]
    # 100 ids less 71 for the title leave room for one item of 26; the used one comes first
    assert [item.key for item in state.shown] == ["sheet/7"]
    assert len(state.block[0].token_ids) <= 100


def test_a_wrapped_memory_that_hides_the_task_shows_the_sheet_first() -> None:
    class Blind(SlidingWindow):
        def view(self, log: Log, state: object) -> View:
            return View((Ref(1),))

    assert Told(CheatsheetCu(Blind()), played(1), (), Snapshot(OLD)).view() == [900, 10]


def test_only_what_the_policy_writes_is_said_on_another_view() -> None:
    assert CheatsheetCu(by="policy").rewrites is True
    assert CheatsheetCu(by="aux").rewrites is False
    assert CheatsheetCu(SlidingWindow(), by="aux").rewrites is True
    assert (CheatsheetCu().asks, CheatsheetCu(by="aux").asks) == (("curate",), ())


PAST = (
    Item("pair/1", "open the red door\nanswered: with a red key"),
    Item("pair/2", "open the blue box\nanswered: open door"),
    Item("pair/3", "find water\nanswered: in the well"),
    Item("pair/4", "find the key of the door\nanswered: under the mat"),
)


def asking(text: str) -> Log:
    log = answered([])
    log.append("task", (1,), "env", messages=(Message("user", text),))
    return log


def test_similar_tasks_are_shown_least_similar_first_and_a_sheet_is_written() -> None:
    store = Snapshot((*PAST, *OLD))
    told = Told(CheatsheetRs(top=2), asking("find a red door"), [sheet("use keys")], store)
    # "find the key find a red door": pair/1 shares the, red, door; pair/4 find, the, key, door
    assert told.kit.made[-1] == as_data([PAST[0].text, PAST[3].text], PAIRS)
    told(At.EPISODE_START)
    assert told.purposes == ["synthesise"]
    assert told.asked == [[0, 1, 900, 900, 900]]
    title, *lines = told.kit.made[-1].splitlines()
    assert title == NOTICE
    texts = [json.loads(line.partition(". ")[2]) for line in lines]
    assert sorted(texts) == sorted([*(item.text for item in OLD), "use keys"])
    told.plays(0, "knock", "nothing")
    told(At.EPISODE_END)
    proposal = told.state.proposal
    assert [text for _, text in proposal.put] == [
        "use keys",
        "find the key\nfind a red door\nanswered: knock",
    ]
    assert proposal.used == ("sheet/a", "sheet/b", "sheet/c", "pair/1", "pair/4")


def test_with_nothing_kept_nothing_is_asked_and_the_task_is_kept() -> None:
    told = Told(CheatsheetRs(), asking("go"), [])
    told(At.EPISODE_START)
    told.plays(0, "I go", "fine")
    told(At.EPISODE_END)
    assert told.asked == []
    ((key, text),) = told.state.proposal.put
    assert key.startswith("pair/")
    assert text == "find the key\ngo\nanswered: I go"


def test_what_the_inner_memory_proposes_comes_first() -> None:
    told = Told(CheatsheetCu(KvStore()), played(0), [sheet("x")])
    told.calls(0, "memory_put", key="k", text="v")
    told(At.EPISODE_END)
    assert [key.partition("/")[0] for key, _ in told.state.proposal.put] == ["key", "sheet"]


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: CheatsheetCu(max_tokens=0), "CheatsheetCu needs max_tokens >= 1, not 0"),
        (lambda: CheatsheetRs(top=0), "CheatsheetRs needs top >= 1, not 0"),
    ],
)
def test_options_that_make_no_sense_are_refused(make: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        make()
