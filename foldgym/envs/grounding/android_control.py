"""AndroidControl's shards: gzipped TFRecords of `tf.train.Example`, read without TensorFlow.

Source of the layout: TensorFlow's TFRecord framing (length, its checksum, data, its checksum; both
little-endian) and the protobuf wire format. Screens are PNGs in the record itself.
"""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, cast

from foldgym.envs.grounding.formats import action_step
from foldgym.envs.grounding.steps import GuiStep
from foldgym.envs.qa.rows import Malformed, Read
from foldgym.errors import DataError, UnknownName

Feature = list[bytes] | list[int] | list[float]
LEVELS = ("low", "high")
_MOST = 1 << 31
"""Bytes of a record beyond which its length is taken for damage."""


def read_shard(path: str | Path, level: str = "low", *, strict: bool = False) -> Read[GuiStep]:
    """Every step of every episode of a shard; one line for each that could not be read.

    `level` low takes each step's own instruction, high the episode's goal. Raises `DataError` for
    a file that is no TFRecord, or is cut off, and with `strict` at the first bad step.
    """
    if level not in LEVELS:
        raise UnknownName("level of instructions", level, LEVELS)
    found = Read[GuiStep]()
    for number, record in enumerate(records(path), 1):
        try:
            _episode(record, level, found)
        except Malformed as problem:
            line = f"{path}: record {number}: {problem}"
            if strict:
                raise DataError(line) from None
            found.problems.append(line)
    if not found.items:
        raise DataError(
            f"{path} holds no usable step{': ' + found.problems[0] if found.problems else ''}"
        )
    return found


def _episode(record: bytes, level: str, found: Read[GuiStep]) -> None:
    features = example(record)
    name = str(features.get("episode_id", ["?"])[0])
    goal = _texts(features, "goal")[0]
    asked = _texts(features, "step_instructions")
    screens = cast("list[bytes]", features.get("screenshots", []))
    widths = cast("list[int]", features.get("screenshot_widths", []))
    heights = cast("list[int]", features.get("screenshot_heights", []))
    actions = _texts(features, "actions")
    if len(screens) < len(actions) or len(asked) < len(actions):
        raise Malformed(
            f"episode {name} has {len(actions)} actions, {len(screens)} screens and "
            f"{len(asked)} instructions"
        )
    for index, text in enumerate(actions):
        try:
            gold = json.loads(text)
        except json.JSONDecodeError as problem:
            raise Malformed(f"episode {name}, action {index}: {problem.msg}") from None
        if not isinstance(gold, dict):
            raise Malformed(f"episode {name}, action {index} is no object: {text!r:.80}")
        sized = index < min(len(widths), len(heights))
        found.items.append(
            action_step(
                f"{name}.{index}",
                goal if level == "high" else asked[index],
                screens[index],
                cast("Mapping[str, Any]", gold),
                size=(widths[index], heights[index]) if sized else (0, 0),
            )
        )


def _texts(features: Mapping[str, Feature], key: str) -> list[str]:
    values = features.get(key, [])
    if not values or not all(isinstance(each, bytes) for each in values):
        raise Malformed(f"`{key}` holds no texts")
    try:
        return [cast("bytes", each).decode() for each in values]
    except UnicodeDecodeError:
        raise Malformed(f"`{key}` is not UTF-8") from None


# ---------------------------------------------------------------- TFRecord


def records(path: str | Path) -> Iterator[bytes]:
    """The records of a TFRecord file, gzipped or not. Raises `DataError`.

    Only the checksum of a length is verified: a screen's own PNG checksums cover the data.
    """
    try:
        with Path(path).open("rb") as raw:
            zipped = raw.read(2) == b"\x1f\x8b"
        with cast("IO[bytes]", gzip.open(path) if zipped else Path(path).open("rb")) as file:
            number = 1
            while head := file.read(12):
                yield _record(file, head, path, number)
                number += 1
    except (OSError, EOFError, zlib.error) as problem:
        reason = getattr(problem, "strerror", None) or problem
        raise DataError(f"cannot read {path}: {reason}") from None


def _record(file: IO[bytes], head: bytes, path: str | Path, number: int) -> bytes:
    if len(head) < 12:
        raise DataError(f"{path} is cut off in record {number}")
    (length,), (check,) = struct.unpack("<Q", head[:8]), struct.unpack("<I", head[8:])
    if check != masked_crc(head[:8]) or length > _MOST:
        raise DataError(f"{path} is no TFRecord file, or damaged in record {number}")
    data = file.read(length)
    if len(data) < length or len(file.read(4)) < 4:
        raise DataError(f"{path} is cut off in record {number}")
    return data


def _table() -> list[int]:
    found: list[int] = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        found.append(value)
    return found


_CRC = _table()


def crc32c(data: bytes) -> int:
    """Castagnoli's checksum.

    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    value = 0xFFFFFFFF
    for byte in data:
        value = _CRC[(value ^ byte) & 0xFF] ^ (value >> 8)
    return value ^ 0xFFFFFFFF


def masked_crc(data: bytes) -> int:
    """The checksum as TFRecord writes it: rotated right by 15 bits, plus a constant."""
    value = crc32c(data)
    return (((value >> 15) | (value << 17)) + 0xA282EAD8) & 0xFFFFFFFF


# ---------------------------------------------------------------- protobuf


def example(record: bytes) -> dict[str, Feature]:
    """The features of a `tf.train.Example`, by name. Raises `Malformed`."""
    found: dict[str, Feature] = {}
    for _, features in _only(record, 1):
        for _, entry in _only(features, 1):
            parts = dict(_only(entry, 1, 2))
            found[parts.get(1, b"").decode(errors="replace")] = _feature(parts.get(2, b""))
    return found


def _feature(data: bytes) -> Feature:
    for kind, values in _only(data, 1, 2, 3):
        if kind == 1:
            return [value for _, value in _only(values, 1)]
        packed = [(wire, value) for number, wire, value in _fields(values) if number == 1]
        if kind == 2:
            floats = b"".join(cast("bytes", value) for _, value in packed)
            return [each for (each,) in struct.iter_unpack("<f", floats[: len(floats) // 4 * 4])]
        numbers: list[int] = []
        for wire, value in packed:
            numbers += [cast("int", value)] if wire == 0 else _varints(cast("bytes", value))
        return [each - (1 << 64) if each >> 63 else each for each in numbers]
    return []


def _only(data: bytes, *wanted: int) -> Iterator[tuple[int, bytes]]:
    for number, _, value in _fields(data):
        if number in wanted and isinstance(value, bytes):
            yield number, value


def _fields(data: bytes) -> Iterator[tuple[int, int, int | bytes]]:
    """(field number, wire type, value) of a message."""
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, place = _varint(data, place)
            yield number, wire, value
            continue
        if wire == 2:
            size, place = _varint(data, place)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise Malformed(f"no tf.train.Example: wire type {wire}")
        if place + size > len(data):
            raise Malformed("no tf.train.Example: a field runs over its end")
        yield number, wire, data[place : place + size]
        place += size


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(data) and shift < 64:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
    raise Malformed("no tf.train.Example: a number runs over its end")


def _varints(data: bytes) -> list[int]:
    found: list[int] = []
    place = 0
    while place < len(data):
        value, place = _varint(data, place)
        found.append(value)
    return found
