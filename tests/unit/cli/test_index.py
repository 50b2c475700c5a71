"""`foldgym index` from a corpus to a server."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from foldgym.cli.main import main
from foldgym.search import Document, build_index, open_index

ROWS = [
    {"id": "0", "contents": '"Ada Lovelace"\nShe wrote the first program.'},
    {"id": "1", "contents": '"Charles Babbage"\nHe designed the engine.'},
]


@pytest.fixture
def corpus(tmp_path: Path) -> str:
    path = tmp_path / "wiki.jsonl"
    path.write_text("\n".join([json.dumps(ROWS[0]), "{", json.dumps(ROWS[1])]))
    return str(path)


@pytest.fixture
def index(tmp_path: Path) -> str:
    documents = [Document("0", "Ada Lovelace", "She wrote the first program. " + "word " * 40)]
    documents.append(Document("1", "", "He designed the engine."))
    build_index(tmp_path / "wiki.index", documents)
    return str(tmp_path / "wiki.index")


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[str, str]:
    assert main(["index", *words]) == 0, capsys.readouterr().err
    return capsys.readouterr()


def test_build_reports_what_it_skipped(
    capsys: pytest.CaptureFixture[str], corpus: str, tmp_path: Path
) -> None:
    out, err = run(capsys, "build", corpus, "--output", str(tmp_path / "a"))
    assert re.fullmatch(r"\S+/a: 2 documents, bm25, 0\.0 MB, \d+\.\d s\n", out)
    assert f"skipped {corpus}, line 2: " in err
    assert "indexing, MB 1/1" in err
    assert open_index(tmp_path / "a").search(["programs"], 3)[0][0].id == "0"


def test_build_as_json_with_options(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "rows.txt"
    path.write_text('{"docid": 4, "body": "cat"}\n')
    words = ("--form", "jsonl", "--field", "id=docid", "--field", "text=body", "--set", "k1=1.5")
    out, _ = run(capsys, "build", str(path), "--output", str(tmp_path / "a"), *words, "--json")
    sheet: dict[str, Any] = json.loads(out)
    assert (sheet["engine"], sheet["documents"], sheet["skipped"]) == ("bm25", 1, 0)
    assert sheet["options"]["k1"] == 1.5
    assert open_index(tmp_path / "a").document("4") == Document("4", "", "cat")


def test_many_problems_are_counted(
    capsys: pytest.CaptureFixture[str], corpus: str, tmp_path: Path
) -> None:
    Path(corpus).write_text(json.dumps(ROWS[0]) + "\n" + "{\n" * 9)
    _, err = run(capsys, "build", corpus, "--output", str(tmp_path / "a"))
    assert err.count("skipped ") == 5
    assert "and 4 more lines that could not be read\n" in err


def test_query(capsys: pytest.CaptureFixture[str], index: str) -> None:
    out, _ = run(capsys, "query", index, "who wrote programs?", "no such thing", "-k", "1")
    lines = out.splitlines()
    assert lines[0] == "who wrote programs?"
    assert lines[1].split() == ["rank", "score", "id", "title", "text"]
    assert lines[2].lstrip().startswith("1")
    assert lines[2].endswith("…")
    assert lines[3] == "no such thing: nothing found"
    out, _ = run(capsys, "query", index, "engine", "--json")
    (hit,) = json.loads(out)[0]["hits"]
    assert (hit["id"], hit["title"], hit["text"]) == ("1", "", "He designed the engine.")
    assert hit["score"] == open_index(index).search(["engine"], 1)[0][0].score


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["build", "CORPUS", "--output", "INDEX"], ["exists and is left alone"]),
        (["build", "CORPUS", "--output", "NEW", "--strict"], ["wiki.jsonl, line 2: "]),
        (["build", "nowhere.jsonl", "--output", "NEW"], ["there is no file 'nowhere.jsonl'"]),
        (["build", "CORPUS", "--output", "NEW", "--engine", "bm26"], ["did you mean 'bm25'"]),
        (["build", "CORPUS", "--output", "NEW", "--set", "k2=1"], ["'k2'", "k1"]),
        (["build", "CORPUS", "--output", "NEW", "--set", "k1=-1"], ["k1 of at least 0"]),
        (["build", "CORPUS", "--output", "NEW", "--field", "body=x"], ["field 'body'", "text"]),
        (["build", "CORPUS", "--output", "NEW", "--form", "xml"], ["form of a corpus 'xml'"]),
        (["build", "CORPUS"], ["--output"]),
        (["query", "NEW", "x"], ["no index", "foldgym index build"]),
        (["query", "INDEX", "x", "-k", "0"], ["0 is too small"]),
        (["query", "http://127.0.0.1:9/retrieve", "x"], ["cannot reach http://127.0.0.1:9"]),
        (["serve", "NEW"], ["no index"]),
        (["serve", "INDEX", "--port", "99999"], ["cannot listen on 127.0.0.1:99999"]),
    ],
)
def test_mistakes_are_one_line_with_the_mend(
    capsys: pytest.CaptureFixture[str],
    corpus: str,
    index: str,
    tmp_path: Path,
    words: list[str],
    parts: list[str],
) -> None:
    names = {"CORPUS": corpus, "INDEX": index, "NEW": str(tmp_path / "new")}
    before = sorted(tmp_path.rglob("*"))
    assert main(["index", *(names.get(word, word) for word in words)]) == 2
    err = capsys.readouterr().err
    lines = [line for line in err.splitlines() if not line.startswith("indexing")]
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    for part in parts:
        assert part in lines[0]
    assert sorted(tmp_path.rglob("*")) == before


def test_serve_until_interrupted(index: str) -> None:
    # a suite started in the background inherits an ignored SIGINT, which Python then leaves alone
    heard = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        words = [sys.executable, "-m", "foldgym", "index", "serve", index, "--port", "0"]
        process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, heard)
    assert process.stderr is not None
    line = process.stderr.readline()
    found = re.search(r"at http://127\.0\.0\.1:(\d+)/retrieve", line)
    assert found is not None, line
    connection = http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=30)
    connection.request("POST", "/retrieve", json.dumps({"query": "engine"}))
    answer = json.loads(connection.getresponse().read())
    connection.close()
    assert [each["id"] for each in answer["result"][0]] == ["1"]
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert process.stderr.read() == "interrupted\n"
    process.stderr.close()
