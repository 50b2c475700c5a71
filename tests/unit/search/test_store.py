from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foldgym.errors import DataError, UnknownName, UserError
from foldgym.search import Bm25, Document, build_index, open_index, read_manifest, shared_index
from foldgym.search.documents import OnDisk, Writer
from foldgym.search.keys import Keys, digest

DOCUMENTS = [
    Document("0", "Ada Lovelace", "She wrote the first program."),
    Document("1", "", "Dogs run; \u00e9t\u00e9 \u2028 \ud800 ends."),
    Document("two", "Charles Babbage", "He designed the engine that the program was for."),
]


def test_an_index_on_disk_is_the_one_in_memory(tmp_path: Path) -> None:
    manifest = build_index(tmp_path / "a.index", DOCUMENTS)
    assert (manifest.engine, manifest.documents) == ("bm25", 3)
    assert read_manifest(tmp_path / "a.index") == manifest
    index, memory = open_index(tmp_path / "a.index"), Bm25.of(DOCUMENTS)
    queries = ["first programs", "the dog", "été", "nothing known", "ada's engine program"]
    assert index.search(queries, k=2) == memory.search(queries, k=2)
    assert [index.document(each.id) for each in DOCUMENTS] == DOCUMENTS
    assert index.document("3") is None
    assert len(index) == 3
    index.close()
    index.close()


def test_weights_may_change_when_opened(tmp_path: Path) -> None:
    build_index(tmp_path / "a", DOCUMENTS, k1=1.2, b=0.75)
    for options, weights in (({}, (1.2, 0.75)), ({"k1": 0.5, "b": 0.0}, (0.5, 0.0))):
        index = open_index(tmp_path / "a", **options)
        assert index.search(["program"], 3) == Bm25.of(DOCUMENTS, *weights).search(["program"], 3)


def test_equal_corpora_have_equal_content(tmp_path: Path) -> None:
    build = lambda name, rows: build_index(tmp_path / name, rows).content  # noqa: E731
    assert build("a", DOCUMENTS) == build("b", list(DOCUMENTS))
    assert build("c", DOCUMENTS[:2]) != build("d", DOCUMENTS[1::-1])


def test_an_index_is_never_overwritten(tmp_path: Path) -> None:
    build_index(tmp_path / "a", DOCUMENTS[:1])
    with pytest.raises(DataError, match=r"a exists and is left alone"):
        build_index(tmp_path / "a", DOCUMENTS)
    assert len(open_index(tmp_path / "a")) == 1


@pytest.mark.parametrize("rows", [[], [DOCUMENTS[0], DOCUMENTS[1], DOCUMENTS[0]]])
def test_a_failed_build_leaves_nothing(tmp_path: Path, rows: list[Document]) -> None:
    with pytest.raises(DataError, match=r"no document|same id '0'"):
        build_index(tmp_path / "a", rows)
    assert list(tmp_path.iterdir()) == []


def test_a_killed_build_leaves_no_index_and_does_not_block_the_next(tmp_path: Path) -> None:
    script = (
        "import sys, time\n"
        "from foldgym.search import Document, build_index\n"
        "def rows():\n"
        "    yield Document('0', '', 'cat')\n"
        "    print('under way', flush=True)\n"
        "    time.sleep(60)\n"
        "build_index(sys.argv[1], rows())\n"
    )
    words = [sys.executable, "-c", script, str(tmp_path / "a")]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "under way\n"
    with pytest.raises(UserError, match="another build"):
        build_index(tmp_path / "a", DOCUMENTS)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert not (tmp_path / "a").exists()
    with pytest.raises(DataError, match="no index"):
        open_index(tmp_path / "a")
    assert build_index(tmp_path / "a", DOCUMENTS).documents == 3
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_what_cannot_be_opened_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="foldgym index build"):
        open_index(tmp_path / "nowhere")
    build_index(tmp_path / "a", DOCUMENTS)
    path = tmp_path / "a" / "manifest.json"
    table = json.loads(path.read_text())
    path.write_text(json.dumps({**table, "schema": 2}))
    with pytest.raises(DataError, match="schema 2, this foldgym reads 1"):
        open_index(tmp_path / "a")
    path.write_text("{")
    with pytest.raises(DataError, match=r"manifest\.json is damaged"):
        open_index(tmp_path / "a")
    path.write_text(json.dumps({**table, "engine": "bm52"}))
    with pytest.raises(UnknownName, match="did you mean 'bm25'"):
        open_index(tmp_path / "a")
    path.write_text(json.dumps(table))
    rows = tmp_path / "a" / "documents.jsonl"
    whole = rows.read_bytes()
    rows.write_bytes(whole[:-1])
    with pytest.raises(DataError, match=f"is damaged: .* has {len(whole) - 1} bytes"):
        open_index(tmp_path / "a")
    rows.write_bytes(whole)
    assert len(open_index(tmp_path / "a")) == 3
    (tmp_path / "a" / "postings.starts.npy").write_bytes(b"")
    with pytest.raises(DataError, match="is damaged"):
        open_index(tmp_path / "a")


def test_unknown_engines_and_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="did you mean 'bm25'"):
        build_index(tmp_path / "a", DOCUMENTS, engine="bm26")
    with pytest.raises(UnknownName, match=r"unknown option of the engine 'bm25' 'k2'.*'k1'"):
        build_index(tmp_path / "a", DOCUMENTS, k2=1.0)
    assert list(tmp_path.iterdir()) == []


def test_a_process_shares_one_open_index(tmp_path: Path) -> None:
    build_index(tmp_path / "a", DOCUMENTS)
    where, found = str(tmp_path / "a"), []
    threads = [Thread(target=lambda: found.append(shared_index(where))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(index) for index in found}) == 1
    assert found[0].search(["program"], 3) == Bm25.of(DOCUMENTS).search(["program"], 3)


def test_many_processes_read_the_same_files(tmp_path: Path) -> None:
    build_index(tmp_path / "a", DOCUMENTS)
    script = (
        "import sys; from foldgym.search import open_index\n"
        "print(open_index(sys.argv[1]).search(['first program'], 2))"
    )
    words = [sys.executable, "-c", script, str(tmp_path / "a")]
    expected = f"{open_index(tmp_path / 'a').search(['first program'], 2)}\n"
    processes = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate()[0] for process in processes] == [expected] * 2


def test_keys_find_the_first_of_equals() -> None:
    keys = Keys.of([digest(each) for each in ("b", "a", "b", "c")])
    assert [keys.find(each) for each in ("a", "b", "c", "d", "")] == [1, 0, 3, -1, -1]


def test_a_digest_is_the_same_everywhere() -> None:
    # BLAKE2b of no bytes, eight bytes long, read from the least significant
    assert digest("") == int.from_bytes(bytes.fromhex("e4a6a0577479b2b4"), "little")


@settings(max_examples=12)
@given(
    st.lists(st.tuples(st.text(), st.text(), st.text()), min_size=1, unique_by=lambda row: row[0])
)
def test_documents_survive_as_they_are(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str]]
) -> None:
    folder = tmp_path_factory.mktemp("documents")
    writer = Writer(folder)
    documents = [Document(*row) for row in rows]
    for document in documents:
        writer.add(document)
    writer.finish()
    found = OnDisk(folder)
    assert [found[number] for number in range(len(found))] == documents
    assert [found.find(each.id) for each in documents] == documents
    found.close()
