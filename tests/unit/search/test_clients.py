from __future__ import annotations

import json
from typing import Any

import pytest
from search_servers import FakeOpenSearch, FakeQdrant, serving

from foldgym.errors import DataError, UserError
from foldgym.search import Bm25, Document, open_index
from foldgym.search.clients.remembered import Remembered

DOCUMENTS = [
    Document("0", "Ada Lovelace", "She wrote the first program."),
    Document("a/b", "", "The program ran on an engine."),
    Document("two", "Charles Babbage", "He designed the engine."),
]
QUERIES = ["who wrote the program", "engines", "nothing known"]


def test_opensearch() -> None:
    fake = FakeOpenSearch(DOCUMENTS)
    with serving(fake) as address:
        with_user = address.replace("http://", "opensearch+http://ada:p%40ss@")
        index = open_index(f"{with_user}/wiki")
        assert index.search(QUERIES, 2) == Bm25.of(DOCUMENTS).search(QUERIES, 2)
        rows = [json.loads(line) for line in fake.bodies[0].splitlines()]
        assert len(rows) == 6
        assert rows[1]["query"]["multi_match"]["fields"] == ["title", "text", "contents"]
        fresh = open_index(f"{with_user}/wiki")
        assert [fresh.document(each.id) for each in DOCUMENTS] == DOCUMENTS
        assert fresh.document("nobody") is None
        assert len(index) == 3
        with pytest.raises(DataError, match=r"cannot answer: .*index_not_found_exception"):
            open_index(f"{with_user}/wikis").search(["q"], 1)
        with pytest.raises(DataError, match="answers 401: Unauthorized"):
            open_index(f"opensearch+{address}/wiki").search(["q"], 1)
        index.close()


def test_opensearch_with_other_fields() -> None:
    rows = [Document("0", "Contents", '"Ada"\nShe wrote.'), Document("1", "T", "x")]
    with serving(FakeOpenSearch(rows)) as address:
        where = f"{address}/wiki".replace("http://", "opensearch+http://ada:p%40ss@")
        assert open_index(where).document("0") == Document("0", "Ada", "She wrote.")
        index = open_index(where, title="", text="body")
        with pytest.raises(DataError, match="no text in the field 'body'; there are title, text"):
            index.document("1")


def test_qdrant() -> None:
    fake = FakeQdrant(DOCUMENTS)
    options: dict[str, Any] = {"encoder": "encoding:pairs", "vector": "text", "api_key": "k"}
    with serving(fake) as address:
        where = f"qdrant+{address}/wiki"
        index = open_index(where, id="docid", **options)
        found = index.search(["She wrote the first program", "Babbage designed the engine"], 2)
        assert [hits[0].id for hits in found] == ["0", "two"]
        assert all(hits[0].score > hits[1].score for hits in found)
        fresh = open_index(where, id="docid", **options)
        assert [fresh.document(each.id) for each in DOCUMENTS] == DOCUMENTS
        assert fresh.document("nobody") is None
        assert len(index) == 3
        assert set(fake.keys) == {"k"}
        by_point = open_index(where, **options)
        assert [hit.id for hit in by_point.search(["Lovelace wrote"], 1)[0]] == ["0"]
        assert by_point.document("2") == Document("2", "Charles Babbage", "He designed the engine.")
        assert by_point.document("9") is None
        assert by_point.document("no point id") is None
        with pytest.raises(DataError, match=r"answers 404: .*doesn't exist"):
            open_index(f"qdrant+{address}/wikis", **options).search(["q"], 1)


def test_qdrant_needs_what_makes_vectors() -> None:
    with pytest.raises(UserError, match="needs a model"):
        open_index("qdrant+http://127.0.0.1:1/wiki")


@pytest.mark.parametrize("path", ["", "/", "/a/b"])
@pytest.mark.parametrize(("kind", "port"), [("opensearch", "9200"), ("qdrant", "6333")])
def test_an_address_names_one_index(kind: str, port: str, path: str) -> None:
    options = {"encoder": "encoding:pairs"} if kind == "qdrant" else {}
    with pytest.raises(UserError, match=f"write it as http://host:{port}/"):
        open_index(f"{kind}+http://host{path}", **options)


def test_what_is_remembered_is_what_was_met_last() -> None:
    remembered = Remembered(most=2)
    for document in (DOCUMENTS[0], DOCUMENTS[1], DOCUMENTS[0], DOCUMENTS[2]):
        remembered.add(document)
    assert [remembered.find(each.id) for each in DOCUMENTS] == [DOCUMENTS[0], None, DOCUMENTS[2]]
