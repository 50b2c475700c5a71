"""From a file of questions to `Question`s: recognise the format, decrypt, read."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from hashlib import sha256
from itertools import cycle
from pathlib import Path
from typing import Any, cast

from foldgym.envs.qa.formats import FORMATS, recognise
from foldgym.envs.qa.questions import Question
from foldgym.envs.qa.rows import Malformed, Read, Row, first_row, read_rows
from foldgym.errors import DataError, UnknownName

_PLAIN = frozenset(("query_id",))  # what BrowseComp-Plus leaves readable


def read_questions(
    path: str | Path, format: str = "auto", *, strict: bool = False, canary: str = ""
) -> Read[Question]:
    """The questions of a file, and one line for every row that could not be read.

    `format` is a key of `FORMATS`, or "auto". `canary` is the text that BrowseComp-Plus's rows are
    encrypted with. Raises `DataError` for a file that is unreadable or of no known format, with
    `strict` also at the first bad row.
    """
    if format == "auto":
        row = first_row(path)
        found = recognise(row)
        if found is None:
            raise DataError(
                f"{path}: its rows are of no known format "
                f"(keys: {', '.join(sorted(map(str, row)))}); "
                f"name one of: {', '.join(sorted(FORMATS))}"
            )
        format = found
    if format not in FORMATS:
        raise UnknownName("question format", format, FORMATS)
    build = FORMATS[format]
    if format != "browsecomp-plus":
        if canary:
            raise DataError(f"{path}: a canary has no effect on the format {format!r}; remove it")
        return read_rows(path, build, strict=strict)

    def secret(row: Row) -> Question:
        return build(decrypt(row, canary))

    return read_rows(path, secret if canary else build, strict=strict)


def decrypt(row: Row, canary: str) -> Row:
    """A row of BrowseComp-Plus in plain text: every text but `query_id` is base64 of the bytes
    combined by exclusive or with the SHA-256 of the canary, repeated.
    """
    key = sha256(canary.encode()).digest()
    return cast("Row", _decrypted(row, key))


def _decrypted(value: Any, key: bytes) -> Any:
    if isinstance(value, str):
        try:
            data = base64.b64decode(value, validate=True)
            return bytes(a ^ b for a, b in zip(data, cycle(key), strict=False)).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise Malformed("a text that this canary does not decrypt") from None
    if isinstance(value, Mapping):
        table = cast("Mapping[str, Any]", value)
        return {k: v if k in _PLAIN else _decrypted(v, key) for k, v in table.items()}
    if isinstance(value, list):
        return [_decrypted(item, key) for item in cast("list[Any]", value)]
    return value
