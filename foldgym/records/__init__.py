"""Trajectories as JSON lines: exact both ways, numbered by schema, appended without torn lines."""

from foldgym.records.lines import JsonlReader, JsonlWriter, dumps, loads
from foldgym.records.trajectories import (
    SCHEMA,
    NewerSchema,
    Record,
    RecordReader,
    from_table,
    to_table,
)

__all__ = [
    "SCHEMA",
    "JsonlReader",
    "JsonlWriter",
    "NewerSchema",
    "Record",
    "RecordReader",
    "dumps",
    "from_table",
    "loads",
    "to_table",
]
