"""Records: exact round trips, no torn lines, and errors that name file and line."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foldgym.errors import DataError
from foldgym.records import (
    JsonlReader,
    JsonlWriter,
    NewerSchema,
    Record,
    RecordReader,
    dumps,
    from_table,
    group_table,
    loads,
    read_groups,
    to_table,
)
from foldgym.types import (
    Finish,
    Group,
    Guide,
    Image,
    Message,
    Proposal,
    Request,
    Reward,
    Segment,
    Stop,
    Task,
    ToolCall,
    Trajectory,
    Turn,
)

_text = st.text(st.characters(), max_size=9)  # lone surrogates too
_float = st.floats(allow_nan=False)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | _float | _text,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(_text.filter(lambda key: key != "$float"), inner, max_size=3)
    ),
    max_leaves=6,
)
_table = st.dictionaries(_text.filter(lambda key: key != "$float"), _json, max_size=3)
_content = _text | st.lists(
    _text | st.builds(Image, st.binary(max_size=9), st.sampled_from(["image/png", "image/jpeg"])),
    max_size=3,
).map(tuple)
_message = st.builds(
    Message,
    role=st.sampled_from(["system", "user", "assistant", "tool"]),
    content=_content,
    thinking=_text,
    tool_calls=st.lists(st.builds(ToolCall, _text, _text, _text), max_size=2).map(tuple),
    tool_call_id=_text,
    name=_text,
)
_messages = st.lists(_message, max_size=2).map(tuple)
_ids = st.integers(-1, 2**40)


@st.composite
def _segments(draw: st.DrawFn) -> Segment:
    size = draw(st.integers(0, 4))
    column = st.lists(_ids, min_size=size, max_size=size).map(tuple)
    logprobs = draw(st.lists(_float, min_size=size, max_size=size).map(tuple))
    return Segment(
        draw(column), draw(column), logprobs, draw(column), draw(_text), draw(st.booleans())
    )


_turn = st.builds(
    Turn, st.integers(0, 99), _message, _messages, _float, _text, _text, _text,
    st.sampled_from(Finish), st.integers(0, 99), st.integers(0, 99), _table,
)  # fmt: skip
_trajectory = st.builds(
    Trajectory,
    id=_text, env=_text, task=st.builds(Task, _text, _messages, _json, _table),
    seed=st.integers(0, 2**63 - 1), turns=st.lists(_turn, max_size=2).map(tuple),
    segments=st.lists(_segments(), max_size=2).map(tuple), stop=st.sampled_from(Stop),
    facts=_table, error=_text, counters=st.dictionaries(_text.filter("$float".__ne__), _float),
    seconds=_float, proposal=st.none() | st.builds(
        Proposal, st.lists(st.tuples(_text, _text), max_size=2).map(tuple),
        *[st.lists(_text, max_size=2).map(tuple)] * 2, _text,
    ),
)  # fmt: skip
_reward = st.none() | st.builds(
    Reward, _float, _float, st.lists(_float, max_size=3).map(tuple),
    st.dictionaries(_text.filter("$float".__ne__), _float, max_size=2),
)  # fmt: skip

EPISODE = Trajectory(
    id="t0",
    env="w",
    task=Task("q", (Message("user", "héllo\u2028"),), answer="x"),
    seed=5,
    turns=(Turn(0, Message("assistant", "a")),),
    segments=(Segment((1, 2), (-1, 0), (0.0, -0.1), (-1, 0)),),
    stop=Stop.DONE,
    facts={"score": 1.0},
)


@given(_trajectory, _reward, _table)
def test_a_trajectory_comes_back_equal(
    trajectory: Trajectory, reward: Reward | None, notes: dict[str, Any]
) -> None:
    line = dumps(to_table(trajectory, reward, **notes))
    assert "\n" not in line
    line.encode("utf-8")
    assert from_table(loads(line)) == Record(trajectory, reward, notes)
    assert from_table(loads(line.encode())).trajectory.seconds == trajectory.seconds


_guide = st.builds(Guide, _text, _float, st.integers(0, 3), st.lists(_turn, max_size=1).map(tuple))


@given(st.data())
def test_a_group_comes_back_equal(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 2))
    guides = data.draw(st.sampled_from([0, 1, n]).flatmap(lambda k: _many(_guide, k)))
    request = Request(
        "w", 7, n, data.draw(_table), "arm", data.draw(_table), 3, 90, guides, "rescue"
    )
    good = data.draw(st.integers(0, n).flatmap(lambda k: _many(_trajectory, k)))
    rewards = data.draw(_many(_reward.filter(lambda reward: reward is not None), len(good)))
    failures = data.draw(st.lists(_trajectory, max_size=1).map(tuple))
    group = Group(request, good, rewards, failures)
    assert read_groups([loads(dumps(group_table(group)))]) == (group,)


def _many(what: st.SearchStrategy[Any], count: int) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(what, min_size=count, max_size=count).map(tuple)


def test_numbers_that_json_lacks_survive_in_standard_json() -> None:
    odd = replace(EPISODE, facts={"a": math.inf, "b": [-math.inf], "c": {"d": math.nan}})
    line = dumps(to_table(odd))
    json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    facts = from_table(loads(line)).trajectory.facts
    assert (facts["a"], facts["b"]) == (math.inf, [-math.inf])
    assert math.isnan(facts["c"]["d"])


@pytest.mark.parametrize("value", [math.nan, 1.0])
def test_the_mark_of_such_numbers_is_reserved(value: float) -> None:
    with pytest.raises(DataError, match=r"'\$float' is reserved"):
        dumps({"a": [{"$float": "nan"}], "b": value})
    assert loads(dumps({"a": '{"$float":"nan"}', "b": "$float"}))["a"] == '{"$float":"nan"}'


@pytest.mark.parametrize(
    ("facts", "part"),
    [
        ({"a": {1, 2}}, "trajectory t0: facts.a is a builtins.set"),
        ({"a": [{"b": b"x"}]}, "facts.a[0].b is a builtins.bytes"),
        ({"a": {3: 4}}, "facts.a: key 3 is not text"),
    ],
)
def test_facts_that_json_cannot_hold_are_refused(facts: dict[str, Any], part: str) -> None:
    with pytest.raises(DataError) as caught:
        to_table(replace(EPISODE, facts=facts))
    assert part in str(caught.value)


def test_tuples_in_facts_come_back_as_lists() -> None:
    table = to_table(replace(EPISODE, facts={"path": (1, (2, 3))}))
    assert from_table(table).trajectory.facts == {"path": [1, [2, 3]]}


# ---------------------------------------------------------------- writing


def test_whole_lines_are_appended(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "t.jsonl"
    with JsonlWriter(path) as writer:
        assert writer.offset == 0
        writer.write({"a": 1})
        assert path.read_bytes() == b'{"a":1}\n'
        assert writer.offset == 8
    with JsonlWriter(path, fsync=True) as writer:
        writer.write({"b": "é"})
        assert writer.offset == 8 + 11
    assert list(JsonlReader(path)) == [{"a": 1}, {"b": "é"}]
    assert not Path(f"{path}.torn").exists()


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_torn_last_line_is_moved_aside(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(b'{"a":1}\n' + b'{"b":[1,2]}'[:cut])
    with JsonlWriter(path) as writer:
        writer.write({"c": 3})
    if cut == 11:  # only the newline was lost
        assert list(JsonlReader(path)) == [{"a": 1}, {"b": [1, 2]}, {"c": 3}]
    else:
        assert list(JsonlReader(path)) == [{"a": 1}, {"c": 3}]
        assert Path(f"{path}.torn").read_bytes() == b'{"b":[1,2]}'[:cut] + b"\n"


def test_a_torn_line_longer_than_a_block_and_a_second_one(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    torn = b'{"x":"' + b"y" * 200_000
    path.write_bytes(torn)
    JsonlWriter(path).close()
    assert path.read_bytes() == b""
    path.write_bytes(b'{"a":1}\n{')
    JsonlWriter(path).close()
    assert path.read_bytes() == b'{"a":1}\n'
    assert Path(f"{path}.torn").read_bytes() == torn + b"\n{\n"


def test_truncate_to_an_earlier_line(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    with JsonlWriter(path) as writer:
        writer.write({"a": 1})
        kept = writer.offset
        writer.write({"b": 2})
        with pytest.raises(DataError, match=r"cannot cut .* at byte 9: no line starts there"):
            writer.truncate_to(9)
        with pytest.raises(DataError, match="at byte 17"):
            writer.truncate_to(17)
        writer.truncate_to(kept)
        writer.write({"c": 3})
        assert writer.offset == 16
    assert list(JsonlReader(path)) == [{"a": 1}, {"c": 3}]


_FULL = """
import resource, signal, sys
from foldgym.errors import DataError
from foldgym.records import JsonlWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # the kernel refuses byte 1001
writer = JsonlWriter(sys.argv[1])
for number in range(100):
    try:
        writer.write({"number": number, "text": "x" * 90})
    except DataError as problem:
        print(number, writer.offset, problem)
        break
"""


def test_a_full_disk_leaves_whole_lines_and_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    done = subprocess.run(
        [sys.executable, "-c", _FULL, str(path)], capture_output=True, text=True, check=True
    )
    size = len(dumps({"number": 1, "text": "x" * 90})) + 1
    whole = 1000 // size
    assert done.stdout.startswith(f"{whole} {whole * size} cannot write {path}: File too large; ")
    assert "make room, then resume" in done.stdout
    assert path.stat().st_size == whole * size
    assert [line["number"] for line in JsonlReader(path)] == list(range(whole))


def test_a_device_that_is_always_full() -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    with pytest.raises(DataError, match="No space left on device"):
        with JsonlWriter("/dev/full") as writer:
            writer.write({"a": 1})


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot open .*: Is a directory"):
        JsonlWriter(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot open .*: File exists"):
        JsonlWriter(tmp_path / "file" / "t.jsonl")


_ENDLESS = """
import sys
from foldgym.records import JsonlWriter
writer = JsonlWriter(sys.argv[1])
print("ready", flush=True)
number = 0
while True:
    writer.write({"number": number, "text": "x" * 3000})
    number += 1
"""


def test_kill_at_any_moment_leaves_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    for delay in (0.003, 0.01, 0.02):
        before = path.stat().st_size if path.exists() else 0
        process = subprocess.Popen(
            [sys.executable, "-c", _ENDLESS, str(path)], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        process.stdout.readline()
        while not path.exists() or path.stat().st_size <= before:
            time.sleep(0.001)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        JsonlWriter(path).close()
        assert path.stat().st_size > before
        assert all(line["text"] == "x" * 3000 for line in JsonlReader(path))


# ---------------------------------------------------------------- reading


def test_a_bad_line_is_named_or_counted(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    good = dumps(to_table(EPISODE)).encode()
    path.write_bytes(
        b"\n".join([good, b"{oops", good, b'{"schema":1}', b"[1]", b"\xff", good, b""])
    )
    with pytest.raises(DataError, match=r"t\.jsonl, line 2: not a JSON object"):
        list(JsonlReader(path))
    reader = RecordReader(path, skip_bad=True)
    assert [record.trajectory for record in reader] == [EPISODE] * 3
    assert reader.skipped == 4
    assert len(list(reader)) == 3
    assert reader.skipped == 4


def test_a_line_that_is_no_trajectory_says_why(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    table = to_table(EPISODE)
    for broken, part in [
        ({key: table[key] for key in table if key != "turns"}, "'turns' is missing"),
        (table | {"stop": "asleep"}, "'asleep' is not a valid Stop"),
        (table | {"segments": [table["segments"][0] | {"turn_ids": []}]}, "columns differ"),
        ({"loss": 1.0}, "schema is None, expected 1"),
    ]:
        path.write_text(dumps(table) + "\n" + dumps(broken) + "\n")
        with pytest.raises(DataError) as caught:
            list(RecordReader(path))
        assert f"{path}, line 2: not a trajectory" in str(caught.value)
        assert part in str(caught.value)


def test_a_newer_schema_is_never_skipped(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(dumps(to_table(EPISODE) | {"schema": 2}) + "\n")
    with pytest.raises(NewerSchema, match=r"line 1: written by a newer foldgym \(schema 2"):
        list(RecordReader(path, skip_bad=True))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read .*none\.jsonl: No such file"):
        list(RecordReader(tmp_path / "none.jsonl"))
