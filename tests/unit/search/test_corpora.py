from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foldgym.errors import DataError, UnknownName
from foldgym.search import Corpus, Document, Fields, build_index, open_index
from foldgym.search.corpora import MOST_PROBLEMS, split_contents

WIKI = (
    '{"id": "0", "contents": "\\"Ada Lovelace\\"\\nShe wrote \\"programs\\"."}\n'
    '{"id": 1, "contents": "No title here."}\n'
)
FOUND = [
    Document("0", "Ada Lovelace", 'She wrote "programs".'),
    Document("1", "", "No title here."),
]


def test_wiki_18(tmp_path: Path) -> None:
    path = tmp_path / "wiki.jsonl"
    path.write_text(WIKI)
    assert list(Corpus([path])) == FOUND
    rows = [json.loads(line)["contents"] for line in WIKI.splitlines()]
    assert [each.contents for each in FOUND] == rows


def test_gzip_and_the_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "wiki.jsonl.gz"
    path.write_bytes(gzip.compress(b"\xef\xbb\xbf" + WIKI.encode()))
    seen: list[int] = []
    corpus = Corpus([path], advance=seen.append)
    assert list(corpus) == FOUND
    assert sum(seen) == corpus.size == path.stat().st_size


def test_any_fields(tmp_path: Path) -> None:
    path = tmp_path / "rows.ndjson"
    path.write_text('{"_id": "a", "headline": "T", "body": "B", "more": [1]}\n')
    fields = Fields(id="_id", title="headline", text="body")
    assert list(Corpus([path], fields=fields)) == [Document("a", "T", "B")]


BAD = [
    ('{"id": "9"', "Expecting"),
    ("[1]", "not a JSON object but a list"),
    ('{"contents": "no id"}', "no id in the field 'id'; there are contents"),
    ('{"id": true, "contents": "no id"}', "no id"),
    ('{"id": "9", "txt": "x"}', "no field 'text'; there are id, txt"),
    ('{"id": "9", "contents": 5}', "contents must be a string, not 5"),
    ('{"id": "9", "text": null}', "must be strings, not '' and None"),
    ('{"id": "9", "text": " "}', "the document is empty"),
    ('{"id": "0", "text": "again"}', "the id '0' is taken"),
    ("\udcff\udcfe", "decode"),
    ("[" * 100_000, "recursion"),
]


@pytest.mark.parametrize(("line", "what"), BAD, ids=[what for _, what in BAD])
def test_a_bad_line_is_reported_and_loses_nothing_else(
    tmp_path: Path, line: str, what: str
) -> None:
    path = tmp_path / "wiki.jsonl"
    first, second = WIKI.splitlines()
    text = f"{first}\n\n{line}\n{second}\n"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    corpus = Corpus([path])
    assert list(corpus) == FOUND
    assert corpus.skipped == 1
    assert str(corpus.problems[0]).startswith(f"{path}, line 3: ")
    assert what in str(corpus.problems[0])
    with pytest.raises(DataError, match=r"wiki\.jsonl, line 3: "):
        list(Corpus([path], strict=True))


def test_reading_again_starts_again(tmp_path: Path) -> None:
    path = tmp_path / "wiki.jsonl"
    path.write_text(WIKI + "{\n" * (MOST_PROBLEMS + 5))
    corpus = Corpus([path])
    assert list(corpus) == list(corpus) == FOUND
    assert (corpus.skipped, len(corpus.problems)) == (MOST_PROBLEMS + 5, MOST_PROBLEMS)


def test_a_strict_build_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "wiki.jsonl"
    path.write_text(WIKI + "{\n")
    with pytest.raises(DataError, match="line 3"):
        build_index(tmp_path / "a", Corpus([path], strict=True))
    assert list(tmp_path.iterdir()) == [path]
    build_index(tmp_path / "a", Corpus([path]))
    assert open_index(tmp_path / "a").document("0") == FOUND[0]


def test_tables_with_names(tmp_path: Path) -> None:
    path = tmp_path / "passages.tsv"
    path.write_text('id\ttext\ttitle\n1\t"He said ""no""."\tTalk\n2\tPlain "words" here\tT\n3\tx\n')
    assert list(Corpus([path])) == [
        Document("1", "Talk", 'He said "no".'),
        Document("2", "T", 'Plain "words" here'),
        Document("3", "", "x"),
    ]


def test_tables_without_names(tmp_path: Path) -> None:
    path = tmp_path / "collection.tsv"
    path.write_text("7\tA passage.\r\n8\tAnother.\tTitle\n9\n10\ta\tb\tc\n")
    corpus = Corpus([path])
    assert list(corpus) == [Document("7", "", "A passage."), Document("8", "Title", "Another.")]
    assert [str(each) for each in corpus.problems] == [
        f"{path}, line 3: 1 columns, not 2 to 3",
        f"{path}, line 4: 4 columns, not 2 to 3",
    ]


def test_a_folder_of_texts(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    (folder / "b").mkdir(parents=True)
    (folder / "b" / "Ada.Lovelace.txt").write_text("She wrote.\n")
    (folder / "a.md.gz").write_bytes(gzip.compress(b"# Notes"))
    (folder / "c.txt").write_bytes(b"fine\nnot \xff fine")
    (folder / "d.txt").write_text(" ")
    (folder / "picture.png").write_bytes(b"\x89PNG")
    corpus = Corpus([folder])
    assert list(corpus) == [
        Document("a.md.gz", "a", "# Notes"),
        Document("b/Ada.Lovelace.txt", "Ada.Lovelace", "She wrote."),
    ]
    assert [each.line for each in corpus.problems] == [2, 1]
    assert "empty" in corpus.problems[1].what


def test_what_is_no_corpus_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_text(WIKI)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(WIKI.encode())[:-9])
    (tmp_path / "empty").mkdir()
    for path, what in (("none", "no file"), ("a.bin", "jsonl, text, tsv"), ("empty", "no .txt")):
        with pytest.raises(DataError, match=what):
            Corpus([tmp_path / path])
    with pytest.raises(DataError, match="no file to read"):
        Corpus([])
    with pytest.raises(DataError, match=r"cannot read .*b\.jsonl\.gz"):
        list(Corpus([tmp_path / "b.jsonl.gz"]))
    with pytest.raises(UnknownName, match="did you mean 'jsonl'"):
        Corpus([tmp_path / "a.bin"], form="json")
    assert list(Corpus([tmp_path / "a.bin"], form="jsonl")) == FOUND


@given(st.text())
def test_contents_are_never_changed(contents: str) -> None:
    assert Document("0", *split_contents(contents)).contents == contents
