"""Trajectories to JSON objects and back, exactly, with a schema number.

Pictures stand in messages whole; segments name them by digest, and `pictures` holds what no
message of the trajectory does. A trajectory without pictures looks as it always did.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, cast

from foldgym.errors import DataError
from foldgym.records.lines import JsonlReader
from foldgym.types import (
    Content,
    Finish,
    Image,
    Json,
    Message,
    Picture,
    Proposal,
    Reward,
    Segment,
    Stop,
    Task,
    ToolCall,
    Trajectory,
    Turn,
)

SCHEMA = 1


class NewerSchema(DataError):
    """The file was written by a newer foldgym."""


@dataclass(frozen=True, slots=True)
class Record:
    """One line: an episode, its reward if it was scored, and notes such as {"step": 3}."""

    trajectory: Trajectory
    reward: Reward | None = None
    notes: Mapping[str, Json] = field(default_factory=dict[str, Json])


class RecordReader:
    """Iterates over the records of a JSONL file; `skipped` counts bad lines when they may be.

    Raises `DataError` with file and line number on a bad line unless `skip_bad`, and
    `NewerSchema` in any case.
    """

    def __init__(self, path: str | Path, *, skip_bad: bool = False) -> None:
        self._lines = JsonlReader(path, skip_bad=skip_bad)
        self._unreadable = 0

    @property
    def skipped(self) -> int:
        """Bad lines passed over in the latest iteration."""
        return self._lines.skipped + self._unreadable

    def __iter__(self) -> Iterator[Record]:
        self._unreadable = 0
        for number, table in self._lines.numbered():
            try:
                record = from_table(table)
            except DataError as problem:
                if self._lines.skip_bad and not isinstance(problem, NewerSchema):
                    self._unreadable += 1
                    continue
                raise type(problem)(f"{self._lines.path}, line {number}: {problem}") from None
            yield record


def to_table(
    trajectory: Trajectory, reward: Reward | None = None, **notes: Json
) -> dict[str, Json]:
    """A trajectory as one JSON object. Raises `DataError` for facts that JSON cannot hold.

    Tuples inside facts, answers and metadata come back as lists; all else comes back equal.
    """
    where = f"trajectory {trajectory.id}"
    task = trajectory.task
    table: dict[str, Json] = {
        "schema": SCHEMA,
        "id": trajectory.id,
        "env": trajectory.env,
        "task": {
            "id": task.id,
            "prompt": [_message(message) for message in task.prompt],
            "answer": _json(task.answer, f"{where}: task.answer"),
            "metadata": _json(task.metadata, f"{where}: task.metadata"),
        },
        "seed": trajectory.seed,
        "turns": [turn_table(turn, where) for turn in trajectory.turns],
        "segments": [
            {
                "token_ids": list(segment.token_ids),
                "turn_ids": list(segment.turn_ids),
                "logprobs": list(segment.logprobs),
                "versions": list(segment.versions),
                "lineage": segment.lineage,
                "trainable": segment.trainable,
                **_seen(segment),
            }
            for segment in trajectory.segments
        ],
        "stop": trajectory.stop.value,
        "facts": _json(trajectory.facts, f"{where}: facts"),
        "error": trajectory.error,
        "counters": _json(trajectory.counters, f"{where}: counters"),
        "seconds": trajectory.seconds,
    }
    known = _images(trajectory.task.prompt, trajectory.turns)
    shown = {_digest(p.image): p.image for s in trajectory.segments for p in s.pictures}
    if unknown := {key: image for key, image in shown.items() if key not in known}:
        table["pictures"] = {key: _image(image) for key, image in unknown.items()}
    if (wants := trajectory.proposal) is not None:
        table["proposal"] = {
            "put": [list(pair) for pair in wants.put],
            "drop": list(wants.drop),
            "used": list(wants.used),
            "read": wants.read,
        }
    if reward is not None:
        table["reward"] = {
            "total": reward.total,
            "outcome": reward.outcome,
            "turns": list(reward.turns),
            "parts": dict(reward.parts),
        }
    if notes:
        table["notes"] = _json(notes, f"{where}: notes")
    return table


def from_table(table: Mapping[str, Json]) -> Record:
    """The inverse of `to_table`. Raises `DataError`, or `NewerSchema` for a newer file."""
    schema = table.get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        raise NewerSchema(
            f"written by a newer foldgym (schema {schema}; this one reads {SCHEMA}): "
            "pip install -U foldgym"
        )
    if schema != SCHEMA:
        raise DataError(f"not a trajectory: schema is {schema!r}, expected {SCHEMA}")
    try:
        return _record(table)
    except KeyError as problem:
        raise DataError(f"not a trajectory: {problem} is missing") from None
    except (TypeError, ValueError, AttributeError) as problem:
        raise DataError(f"not a trajectory: {problem}") from None


def _seen(segment: Segment) -> dict[str, Json]:
    """The pictures of a segment by digest, if it has any."""
    seen = [[picture.at, _digest(picture.image)] for picture in segment.pictures]
    return {"pictures": seen} if seen else {}


def _digest(image: Image) -> str:
    return blake2b(image.media_type.encode() + b"\n" + image.data, digest_size=16).hexdigest()


def _images(prompt: Sequence[Message], turns: Sequence[Turn]) -> dict[str, Image]:
    """The pictures in what was said, by digest."""
    said = [*prompt, *(message for turn in turns for message in turn.observation)]
    return {
        _digest(part): part
        for message in said
        if not isinstance(message.content, str)
        for part in message.content
        if isinstance(part, Image)
    }


def _pictures(table: Mapping[str, Json], known: Mapping[str, Image]) -> tuple[Picture, ...]:
    return tuple(Picture(at, known[key]) for at, key in table.get("pictures", ()))


def _record(table: Mapping[str, Json]) -> Record:
    task, reward = table["task"], table.get("reward")
    prompt = tuple(map(_read_message, task["prompt"]))
    turns = tuple(map(read_turn, table["turns"]))
    known = _images(prompt, turns)
    known |= {key: _read_image(part) for key, part in table.get("pictures", {}).items()}
    trajectory = Trajectory(
        id=table["id"],
        env=table["env"],
        task=Task(
            id=task["id"],
            prompt=prompt,
            answer=task["answer"],
            metadata=task["metadata"],
        ),
        seed=table["seed"],
        turns=turns,
        segments=tuple(
            Segment(
                token_ids=tuple(segment["token_ids"]),
                turn_ids=tuple(segment["turn_ids"]),
                logprobs=tuple(segment["logprobs"]),
                versions=tuple(segment["versions"]),
                lineage=segment["lineage"],
                trainable=segment["trainable"],
                pictures=_pictures(segment, known),
            )
            for segment in table["segments"]
        ),
        stop=Stop(table["stop"]),
        facts=table["facts"],
        error=table["error"],
        counters=table["counters"],
        seconds=table["seconds"],
        proposal=_read_proposal(table["proposal"]) if "proposal" in table else None,
    )
    if reward is not None:
        reward = Reward(reward["total"], reward["outcome"], tuple(reward["turns"]), reward["parts"])
    return Record(trajectory, reward, table.get("notes", {}))


def _read_proposal(table: Mapping[str, Json]) -> Proposal:
    put = tuple((str(key), str(text)) for key, text in table["put"])
    return Proposal(put, tuple(table["drop"]), tuple(table["used"]), table["read"])


def turn_table(turn: Turn, where: str) -> dict[str, Json]:
    """A turn as a JSON object; `where` names its place in the message of a `DataError`."""
    return {
        "index": turn.index,
        "message": _message(turn.message),
        "observation": [_message(message) for message in turn.observation],
        "reward": turn.reward,
        "purpose": turn.purpose,
        "lineage": turn.lineage,
        "problem": turn.problem,
        "finish": turn.finish.value,
        "prompt_tokens": turn.prompt_tokens,
        "sampled_tokens": turn.sampled_tokens,
        "info": _json(turn.info, f"{where}: info of turn {turn.index}"),
    }


def read_turn(table: Mapping[str, Json]) -> Turn:
    """The inverse of `turn_table`."""
    return Turn(
        index=table["index"],
        message=_read_message(table["message"]),
        observation=tuple(map(_read_message, table["observation"])),
        reward=table["reward"],
        purpose=table["purpose"],
        lineage=table["lineage"],
        problem=table["problem"],
        finish=Finish(table["finish"]),
        prompt_tokens=table["prompt_tokens"],
        sampled_tokens=table["sampled_tokens"],
        info=table["info"],
    )


def _message(message: Message) -> dict[str, Json]:
    content: Json = message.content
    if not isinstance(content, str):
        content = [part if isinstance(part, str) else _image(part) for part in content]
    table: dict[str, Json] = {"role": message.role, "content": content}
    if message.thinking:
        table["thinking"] = message.thinking
    if message.tool_calls:
        table["tool_calls"] = [
            {"name": call.name, "arguments": call.arguments, "id": call.id}
            for call in message.tool_calls
        ]
    if message.tool_call_id:
        table["tool_call_id"] = message.tool_call_id
    if message.name:
        table["name"] = message.name
    return table


def _image(image: Image) -> dict[str, Json]:
    return {"image": b64encode(image.data).decode(), "media_type": image.media_type}


def _read_image(table: Mapping[str, Json]) -> Image:
    return Image(b64decode(table["image"], validate=True), table["media_type"])


def _read_message(table: Mapping[str, Json]) -> Message:
    content: Content = table["content"]
    if not isinstance(content, str):
        content = tuple(
            part if isinstance(part, str) else _read_image(part)
            for part in cast("list[Any]", content)
        )
    return Message(
        role=table["role"],
        content=content,
        thinking=table.get("thinking", ""),
        tool_calls=tuple(
            ToolCall(call["name"], call["arguments"], call["id"])
            for call in table.get("tool_calls", ())
        ),
        tool_call_id=table.get("tool_call_id", ""),
        name=table.get("name", ""),
    )


def _json(value: Any, where: str) -> Json:
    """A copy that JSON holds exactly, or a `DataError` that names the place."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        wrong = [key for key in value if not isinstance(key, str)]
        if wrong:
            raise DataError(f"{where}: key {wrong[0]!r} is not text; JSON keys must be")
        return {key: _json(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = cast("Sequence[Any]", value)
        return [_json(item, f"{where}[{index}]") for index, item in enumerate(items)]
    raise DataError(
        f"{where} is a {type(value).__module__}.{type(value).__qualname__}, which JSON cannot "
        "hold; use None, bool, int, float, str, list or dict"
    )
