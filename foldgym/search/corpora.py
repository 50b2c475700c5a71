"""Corpora as they lie on disk: JSON lines, tables and folders of text, plain or gzipped.

    corpus = Corpus(["wiki-18.jsonl.gz"])
    build_index("wiki.index", corpus)
    corpus.problems        # lines that could not be read; the rest is indexed

Forms, told by the name unless `form` says: "jsonl" (also .json, .ndjson; wiki-18's id and contents,
or any fields), "tsv" (id, text and perhaps a title; a first row of names is understood) and "text"
(every .txt and .md file of a folder is a document).
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from foldgym.errors import DataError, UnknownName
from foldgym.search.base import Document

FORMS = {
    **dict.fromkeys((".jsonl", ".json", ".ndjson"), "jsonl"),
    **dict.fromkeys((".tsv",), "tsv"),
    **dict.fromkeys((".txt", ".md"), "text"),
}
MOST_PROBLEMS = 100
"""Problems that are kept; `skipped` counts all."""


@dataclass(frozen=True, slots=True)
class Fields:
    """Where a row keeps what. A row without `text` is read from `contents`, as in wiki-18."""

    id: str = "id"
    title: str = "title"
    text: str = "text"
    contents: str = "contents"


@dataclass(frozen=True, slots=True)
class Problem:
    """A line that is no document; `str(problem)` is what to show."""

    path: str
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.path}, line {self.line}: {self.what}"


class Corpus:
    """Iterates over the documents of files and folders, in the order given.

    Args:
        paths: files, and folders of text files; `.gz` is unpacked on the fly
        form: "jsonl", "tsv" or "text"; empty to tell by each file's name
        fields: the names of a row's fields, or of a table's columns
        strict: raise `DataError` at the first line that cannot be read, instead of skipping it
        advance: called with how many bytes were read since the last call
    """

    def __init__(
        self,
        paths: Iterable[str | Path],
        *,
        form: str = "",
        fields: Fields | None = None,
        strict: bool = False,
        advance: Callable[[int], None] = lambda size: None,
    ) -> None:
        known = sorted(set(FORMS.values()))
        if form and form not in known:
            raise UnknownName("form of a corpus", form, known)
        self._files = [file for path in paths for file in _files(Path(path), form)]
        if not self._files:
            raise DataError("no file to read a corpus from")
        self._fields, self._strict, self._advance = fields or Fields(), strict, advance
        self.problems: list[Problem] = []
        self.skipped = 0

    @property
    def size(self) -> int:
        """Bytes of all files as they lie on disk."""
        return sum(file.path.stat().st_size for file in self._files)

    def __iter__(self) -> Iterator[Document]:
        self.problems, self.skipped = [], 0
        seen: set[str] = set()
        for file in self._files:
            for line, found in self._read(file):
                if isinstance(found, Document):
                    if found.id not in seen:
                        seen.add(found.id)
                        yield found
                        continue
                    found = f"the id {found.id!r} is taken; the first document keeps it"
                self._refuse(Problem(str(file.path), line, found))

    def _read(self, file: _File) -> Iterator[tuple[int, Document | str]]:
        """Each line's number with its document, or with what is wrong with it."""
        try:
            if file.form == "text":
                yield from self._text(file)
            else:
                yield from self._lines(file)
        except (OSError, EOFError) as problem:  # a truncated .gz is an EOFError
            why = getattr(problem, "strerror", None) or problem
            raise DataError(f"cannot read {file.path}: {why}") from None

    def _refuse(self, problem: Problem) -> None:
        if self._strict:
            raise DataError(str(problem))
        self.skipped += 1
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(problem)

    def _lines(self, file: _File) -> Iterator[tuple[int, Document | str]]:
        read = _table(self._fields) if file.form == "tsv" else _row(self._fields)
        done = 0
        with file.path.open("rb") as raw:
            unpacked = cast("IO[bytes]", gzip.GzipFile(fileobj=raw)) if file.packed else raw
            for number, line in enumerate(unpacked, 1):
                if number % 1000 == 0:
                    self._advance(raw.tell() - done)
                    done = raw.tell()
                if number == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")
                if not line.strip():
                    continue
                try:
                    found = read(line.decode("utf-8").rstrip("\r\n"))
                except (ValueError, RecursionError) as problem:
                    yield number, str(problem) or type(problem).__name__
                    continue
                if found is not None:
                    yield number, found
            self._advance(raw.tell() - done)

    def _text(self, file: _File) -> Iterator[tuple[int, Document | str]]:
        data = file.path.read_bytes()
        self._advance(len(data))
        text = gzip.decompress(data) if file.packed else data
        try:
            found = text.decode("utf-8-sig").strip()
        except UnicodeDecodeError as problem:
            yield text.count(b"\n", 0, problem.start) + 1, str(problem)
            return
        title = file.path.name.removesuffix(".gz").rpartition(".")[0]
        yield 1, Document(file.id, title, found) if found else "the file is empty"


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    form: str
    id: str  # of a text file
    packed: bool


def _files(path: Path, form: str) -> Iterator[_File]:
    if path.is_dir():
        inside = sorted(each for each in path.rglob("*") if each.is_file())
        texts = [each for each in inside if _form(each) == "text"]
        if not texts:
            raise DataError(f"the folder {str(path)!r} holds no .txt or .md file")
        for each in texts:
            yield _File(each, "text", each.relative_to(path).as_posix(), each.suffix == ".gz")
        return
    if not path.is_file():
        raise DataError(f"there is no file {str(path)!r}")
    found = form or _form(path)
    if not found:
        raise DataError(
            f"{str(path)!r}: cannot tell the form of the corpus from the name; "
            f"name it: {', '.join(sorted(set(FORMS.values())))}"
        )
    yield _File(path, found, path.name, path.suffix == ".gz")


def _form(path: Path) -> str:
    return FORMS.get(Path(path.name.removesuffix(".gz")).suffix.lower(), "")


def _row(fields: Fields) -> Callable[[str], Document]:
    def read(line: str) -> Document:
        row = json.loads(line)
        if not isinstance(row, dict):
            raise ValueError(f"not a JSON object but a {type(row).__name__}")
        return _document(cast("dict[str, Any]", row), fields)

    return read


def _document(row: dict[str, Any], fields: Fields) -> Document:
    """The document of a row. Raises `ValueError` that says what is missing."""
    id = row.get(fields.id)
    if not isinstance(id, (str, int)) or isinstance(id, bool) or id == "":
        raise ValueError(f"no id in the field {fields.id!r}; there are {', '.join(row) or 'none'}")
    if fields.text in row:
        text, title = row[fields.text], row.get(fields.title) or ""
    elif fields.contents in row:
        title, text = split_contents(row[fields.contents])
    else:
        raise ValueError(f"no field {fields.text!r}; there are {', '.join(row)}")
    if not isinstance(text, str) or not isinstance(title, str):
        raise ValueError(f"title and text must be strings, not {title!r:.40} and {text!r:.40}")
    if not text.strip() and not title.strip():
        raise ValueError("the document is empty")
    return Document(str(id), title, text)


def split_contents(contents: object) -> tuple[str, str]:
    r"""Title and text of a passage whose first line is the title in quotes, as in wiki-18.

    >>> split_contents('"Ada"\nShe wrote.'), split_contents("She wrote.")
    (('Ada', 'She wrote.'), ('', 'She wrote.'))
    """
    if not isinstance(contents, str):
        raise ValueError(f"contents must be a string, not {contents!r:.40}")
    first, newline, rest = contents.partition("\n")
    if newline and len(first) > 2 and first[0] == first[-1] == '"':
        return first[1:-1], rest
    return "", contents


def _table(fields: Fields) -> Callable[[str], Document | None]:
    names: Sequence[str] = ()

    def read(line: str) -> Document | None:
        nonlocal names
        cells = [_cell(cell) for cell in line.split("\t")]
        if not names:
            header = fields.id in cells and fields.text in cells
            names = cells if header else (fields.id, fields.text, fields.title)
            if header:
                return None
        least = min(len(names), 2)
        if not least <= len(cells) <= len(names):
            raise ValueError(f"{len(cells)} columns, not {least} to {len(names)}")
        return _document(dict(zip(names, cells, strict=False)), fields)

    return read


def _cell(cell: str) -> str:
    """A cell without the quotes that some writers of tables put around it."""
    inner = cell[1:-1]
    quoted = len(cell) >= 2 and cell[0] == cell[-1] == '"' and '"' not in inner.replace('""', "")
    return inner.replace('""', '"') if quoted else cell
