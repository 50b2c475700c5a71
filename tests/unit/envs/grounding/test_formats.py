"""Readers of grounding data, against files written here as the formats are described."""

from __future__ import annotations

import gzip
import json
import struct
from pathlib import Path
from typing import Any

import pytest

from foldgym.envs.grounding import android_control, read_steps
from foldgym.envs.grounding.android_control import crc32c, masked_crc, records
from foldgym.errors import DataError, UnknownName

SPOT = {
    "img_filename": "a.png",
    "bbox": [10, 20, 30, 40],
    "instruction": "open the menu",
    "data_type": "icon",
    "data_source": "ios",
}
PRO = {**SPOT, "bbox": [10, 20, 40, 60], "img_size": [3840, 2160], "ui_type": "icon"}
CLICK = {"image": "b.png", "task": "tap it", "gt": {"action_type": "click", "x": 5, "y": 6}}


def saved(path: Path, *rows: Any) -> Path:
    path.write_text(json.dumps(rows))
    return path


def test_screenspot_boxes_are_corner_and_size(tmp_path: Path):
    (step,) = read_steps(saved(tmp_path / "s.json", SPOT)).items
    assert step.box == (10, 20, 40, 60)
    assert (step.action, step.instruction, step.picture) == ("click", "open the menu", "a.png")
    assert step.metadata == {"data_type": "icon", "data_source": "ios"}


def test_screenspot_pro_boxes_are_two_corners(tmp_path: Path):
    (step,) = read_steps(saved(tmp_path / "s.json", PRO)).items
    assert (step.box, step.size) == ((10, 20, 40, 60), (3840, 2160))
    # the same numbers under the other name are another box
    (other,) = read_steps(saved(tmp_path / "t.json", PRO), "screenspot").items
    assert other.box == (10, 20, 50, 80)


def test_ui_r1_rows(tmp_path: Path):
    rows = [
        CLICK,
        {**CLICK, "gt": {"action_type": "scroll", "direction": "down"}},
        {**CLICK, "gt": {"action_type": "input_text", "text": "Ur"}},
        {**CLICK, "gt": {"action_type": "open_app", "app_name": "Maps"}},
        {**CLICK, "gt": {"action_type": "click", "gt_bbox": [1, 2, 3, 4]}},
    ]
    steps = read_steps(saved(tmp_path / "ac_test.json", *rows)).items
    assert [step.action for step in steps] == ["click", "scroll", "input_text", "open_app", "click"]
    assert [step.argument for step in steps] == ["", "down", "Ur", "Maps", ""]
    assert (steps[0].point, steps[0].box) == ((5, 6), None)
    assert steps[4].box == (1, 2, 3, 4)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({**SPOT, "bbox": [1, 2, 3]}, "`bbox` must be 4 numbers, not [1, 2, 3]"),
        ({**SPOT, "bbox": [1, 2, -3, 4]}, "has no inside"),
        ({**SPOT, "instruction": 7}, "`instruction` must be a text, not 7"),
        ({**CLICK, "gt": "click"}, "`gt` is no object"),
        ({**CLICK, "gt": {"action_type": "click"}}, "a click without x and y"),
        ({**CLICK, "gt": {"action_type": "click", "x": 5}}, "`point` must be 2 numbers"),
    ],
)
def test_a_bad_row_costs_itself(tmp_path: Path, row: dict[str, Any], said: str):
    good = SPOT if "bbox" in row else CLICK
    path = saved(tmp_path / "s.json", good, row)
    found = read_steps(path)
    assert len(found.items) == 1
    assert found.problems[0].startswith(f"{path}:2: ")
    assert said in found.problems[0]
    with pytest.raises(DataError, match=r"s\.json:2"):
        read_steps(path, strict=True)


def test_unknown_formats_are_refused(tmp_path: Path):
    path = saved(tmp_path / "s.json", {"question": "?"})
    with pytest.raises(DataError, match=r"no known format \(keys: question\)"):
        read_steps(path)
    with pytest.raises(UnknownName, match="screenspot"):
        read_steps(path, "screenspt")


# ---------------------------------------------------------------- AndroidControl


def varint(value: int) -> bytes:
    out = bytearray()
    value &= (1 << 64) - 1
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def chunk(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def feature(values: list[Any]) -> bytes:
    if values and isinstance(values[0], int):
        return chunk(3, chunk(1, b"".join(map(varint, values))))
    return chunk(1, b"".join(chunk(1, v if isinstance(v, bytes) else v.encode()) for v in values))


def example(features: dict[str, list[Any]]) -> bytes:
    entries = (
        chunk(1, chunk(1, key.encode()) + chunk(2, feature(values)))
        for key, values in features.items()
    )
    return chunk(1, b"".join(entries))


def framed(*examples: bytes) -> bytes:
    out = b""
    for data in examples:
        head = struct.pack("<Q", len(data))
        checks = (struct.pack("<I", masked_crc(part)) for part in (head, data))
        first, second = checks
        out += head + first + data + second
    return out


EPISODE = {
    "episode_id": [42],
    "goal": ["find a train"],
    "step_instructions": ["open Trains", "tap search"],
    "screenshots": [b"\x89PNG one", b"\x89PNG two", b"\x89PNG end"],
    "screenshot_widths": [1080, 1080, 1080],
    "screenshot_heights": [2400, 2400, 2400],
    "actions": [
        '{"action_type": "open_app", "app_name": "Trains"}',
        '{"action_type": "click", "x": 540, "y": 300}',
    ],
}


def test_the_checksum_of_tfrecord():
    assert crc32c(b"123456789") == 0xE3069283
    # RFC 3720: 32 bytes of zeros
    assert crc32c(bytes(32)) == 0x8A9136AA


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(("level", "asked"), [("low", "tap search"), ("high", "find a train")])
def test_a_shard_of_android_control(tmp_path: Path, zipped: bool, level: str, asked: str):
    path = tmp_path / "android_control-00000-of-00020"
    data = framed(example(EPISODE), example({**EPISODE, "episode_id": [43]}))
    path.write_bytes(gzip.compress(data) if zipped else data)
    steps = read_steps(path, level=level).items
    assert [step.id for step in steps] == ["42.0", "42.1", "43.0", "43.1"]
    assert (steps[0].action, steps[0].argument) == ("open_app", "Trains")
    assert steps[1].instruction == asked
    assert (steps[1].point, steps[1].size) == ((540, 300), (1080, 2400))
    assert steps[1].picture == b"\x89PNG two"


def test_numbers_in_a_record_may_be_negative_and_unpacked():
    negative = example({"a": [-1, 300]})
    assert android_control.example(negative) == {"a": [-1, 300]}
    unpacked = chunk(1, chunk(1, chunk(1, b"n") + chunk(2, chunk(3, b"\x08\x07\x08\x2a"))))
    assert android_control.example(unpacked) == {"n": [7, 42]}
    floats = chunk(2, chunk(1, struct.pack("<2f", 0.5, -2.0)))
    assert android_control.example(chunk(1, chunk(1, chunk(1, b"f") + chunk(2, floats)))) == {
        "f": [0.5, -2.0]
    }


def test_a_damaged_shard_is_refused(tmp_path: Path):
    path, data = tmp_path / "shard.tfrecord", framed(example(EPISODE))
    path.write_bytes(data[:-2])
    with pytest.raises(DataError, match="cut off in record 1"):
        list(records(path))
    path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    with pytest.raises(DataError, match="damaged in record 1"):
        read_steps(path)
    path.write_bytes(gzip.compress(data)[:-20])
    with pytest.raises(DataError, match="cannot read"):
        read_steps(path)


def test_a_bad_episode_costs_itself(tmp_path: Path):
    path = tmp_path / "shard.tfrecord"
    path.write_bytes(framed(example({**EPISODE, "actions": ["{"]}), example(EPISODE), b"\x07"))
    found = read_steps(path)
    assert len(found.items) == 2
    assert ["record 1" in found.problems[0], "record 3" in found.problems[1]] == [True, True]
    with pytest.raises(DataError, match="episode 42, action 0"):
        read_steps(path, strict=True)
    with pytest.raises(UnknownName):
        read_steps(path, level="middle")
