"""Trajectories as JSON lines: exact both ways, numbered by schema, appended without torn lines."""

from foldgym.records.groups import group_table, read_group, read_groups
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
    "group_table",
    "loads",
    "read_group",
    "read_groups",
    "to_table",
]
