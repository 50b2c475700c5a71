from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from search_servers import serving

from foldgym.errors import DataError, UnknownName, UserError
from foldgym.listening import Refused
from foldgym.search import Bm25, Document, open_index
from foldgym.search.server import MOST_BYTES, Server, retrieve

DOCUMENTS = [
    Document("0", "Ada Lovelace", "She wrote the first program."),
    Document("a/b c?", "", "The program ran on an engine \ud800."),
    Document("two", "Charles Babbage", "He designed the engine."),
]
INDEX = Bm25.of(DOCUMENTS)
ADA = {
    "id": "0",
    "contents": '"Ada Lovelace"\nShe wrote the first program.',
    "title": "Ada Lovelace",
    "text": "She wrote the first program.",
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(INDEX, port=0) as running:
        yield running


def ask(
    server: Server, body: object, path: str = "/retrieve", method: str = "POST"
) -> tuple[int, Any]:
    parts = urlsplit(server.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    connection.request(method, path, data if method == "POST" else None)
    answer = connection.getresponse()
    found = answer.status, json.loads(answer.read())
    connection.close()
    return found


def test_search_r1s_dialect(server: Server) -> None:
    queries = ["who wrote", "engine", "nothing"]
    asked: Any = {"queries": queries, "topk": 2, "return_scores": True}
    status, answer = ask(server, asked)
    expected = INDEX.search(queries, 2)
    assert status == 200
    assert answer["result"][0] == [{"document": ADA, "score": expected[0][0].score}]
    assert [[hit["document"]["id"] for hit in hits] for hits in answer["result"]] == [
        [hit.id for hit in hits] for hits in expected
    ]
    assert [len(hits) for hits in answer["result"]] == [1, 2, 0]


def test_the_other_dialect(server: Server) -> None:
    asked = {"query": "who wrote", "topk": 2, "return_scores": True}
    score = INDEX.search(["who wrote"], 1)[0][0].score
    assert ask(server, asked) == (200, {"result": [[{"document": ADA, "score": score}]]})


def test_bare_documents_without_scores(server: Server) -> None:
    for asked in (
        {"query": "who wrote"},
        {"query": "who wrote", "queries": None, "topk": None, "return_scores": False},
        {"queries": ["who wrote"], "more": "is ignored"},
        {"query": ["who wrote"]},
    ):
        assert ask(server, asked) == (200, {"result": [[ADA]]})


def test_the_default_number_of_hits() -> None:
    index = Bm25.of([Document(str(number), "", "same") for number in range(9)])
    assert len(retrieve(index, {"query": "same"})["result"][0]) == 3
    assert len(retrieve(index, {"query": "same"}, topk=5)["result"][0]) == 5
    assert len(retrieve(index, {"query": "same", "topk": 7}, topk=5)["result"][0]) == 7


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"{", "the body is no JSON"),
        (b"\xff\xfe", "the body is no JSON"),
        (b"[" * 200_000, "the body is no JSON"),
        (b"[]", "must be a JSON object, not list"),
        ({}, 'give "queries", a list of texts, or "query", one text'),
        ({"query": "a", "queries": ["a"]}, 'give "queries"'),
        ({"query": ["a", 1]}, "query must be a text"),
        ({"query": 5}, "query must be a text, not 5"),
        ({"queries": "a"}, "queries must be a list of texts, not 'a'"),
        ({"queries": ["a", None]}, "queries must be a list of texts"),
        ({"query": "a", "topk": 0}, "topk must be a whole number from 1 to 1000, not 0"),
        ({"query": "a", "topk": "3"}, "topk must be a whole number"),
        ({"query": "a", "topk": True}, "topk must be a whole number"),
        ({"query": "a", "return_scores": 1}, "return_scores must be true or false, not 1"),
    ],
)
def test_what_is_not_understood_is_400_in_one_line(server: Server, body: object, what: str) -> None:
    status, answer = ask(server, body)
    assert status == 400
    assert what in answer["error"]
    assert "\n" not in answer["error"]


def test_other_paths(server: Server) -> None:
    assert ask(server, b"", "/health", "GET") == (200, {"status": "ok", "documents": 3})
    assert ask(server, b"", "/documents/0", "GET") == (200, ADA)
    assert ask(server, b"", "/documents/1", "GET")[0] == 404
    assert ask(server, b"", "/retrieve", "GET")[0] == 404
    assert ask(server, {"query": "a"}, "/search")[0] == 404
    assert ask(server, {"query": "a"}, "/retrieve/")[0] == 200


def test_a_connection_survives_a_mistake(server: Server) -> None:
    parts = urlsplit(server.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    statuses: list[int] = []
    for body in (b"{", b'{"query": "a"}', b"nothing", b'{"query": "a"}'):
        connection.request("POST", "/retrieve" if body != b"nothing" else "/nowhere", body)
        answer = connection.getresponse()
        answer.read()
        statuses.append(answer.status)
    connection.close()
    assert statuses == [400, 200, 404, 200]


@pytest.mark.parametrize(
    ("size", "status"), [(None, 411), ("-1", 411), ("much", 411), (str(MOST_BYTES + 1), 413)]
)
def test_a_body_of_unknown_or_great_size_is_not_read(
    server: Server, size: str | None, status: int
) -> None:
    parts = urlsplit(server.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    connection.putrequest("POST", "/retrieve")
    if size is not None:
        connection.putheader("Content-Length", size)
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == status
    assert "error" in json.loads(answer.read())
    connection.close()


KEYS = st.sampled_from(["query", "queries", "topk", "return_scores", "x"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner),
)


@settings(max_examples=60)
@given(JSON | st.dictionaries(KEYS, JSON))
def test_any_json_is_answered_or_refused(body: object) -> None:
    with suppress(Refused):
        assert set(json.loads(json.dumps(retrieve(INDEX, body)))) == {"result"}


def test_many_at_once(server: Server) -> None:
    expected = ask(server, {"query": "engine", "return_scores": True})
    found: list[Any] = []
    threads = [
        threading.Thread(
            target=lambda: found.append(ask(server, {"query": "engine", "return_scores": True}))
        )
        for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 16


def test_a_failing_index_is_500_and_the_server_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    class Failing(Bm25):
        def _search(self, query: str, k: int) -> Any:
            if query == "bug":
                raise RuntimeError("secret")
            if query == "down":
                raise DataError("the server behind is down")
            return super()._search(query, k)

    index = Failing.of(DOCUMENTS)
    with Server(index, port=0) as running:
        status, answer = ask(running, {"query": "bug"})
        assert status == 500
        assert "secret" not in answer["error"]
        assert "RuntimeError: secret" in capsys.readouterr().err
        assert ask(running, {"query": "down"}) == (502, {"error": "the server behind is down"})
        assert ask(running, {"query": "engine"})[0] == 200


def test_a_taken_port_is_one_line(server: Server) -> None:
    port = urlsplit(server.url).port or 0
    with pytest.raises(DataError, match=rf"cannot listen on 127\.0\.0\.1:{port}"):
        Server(INDEX, port=port)
    with pytest.raises(DataError, match="cannot listen"):
        Server(INDEX, port=70_000)
    with pytest.raises(UserError, match="topk"):
        Server(INDEX, port=0, topk=0)


@pytest.mark.parametrize("dialect", ["queries", "query"])
def test_our_client_finds_what_the_index_finds(server: Server, dialect: str) -> None:
    client = open_index(server.url, dialect=dialect)
    queries = ["who wrote", "engine program", "nothing", "same \udc00"]
    assert client.search(queries, 2) == INDEX.search(queries, 2)
    assert client.search([], 2) == []
    assert client.search(["engine"], 0) == [[]]
    fresh = open_index(server.url)
    assert [fresh.document(each.id) for each in DOCUMENTS] == DOCUMENTS
    assert fresh.document("nobody") is None
    assert len(client) == 3
    client.close()
    assert len(client) == 3  # a closed connection opens again


def test_other_servers_of_the_protocol() -> None:
    answers: dict[str, Any] = {
        "bare": {"result": [[{"id": 7, "contents": '"T"\nx'}, {"contents": "no id"}]]},
        "scored": {"result": [[{"document": {"id": "9", "contents": "y"}, "score": -3}]]},
    }
    asked: list[Any] = []

    def route(method: str, path: str, body: bytes, headers: Any) -> tuple[int, Any]:
        if method == "GET":
            return 404, {"detail": "Not Found"}
        asked.append(json.loads(body))
        return 200, answers[path.rpartition("/")[2]]

    with serving(route) as address:
        bare = open_index(f"{address}/v1/bare")
        (hits,) = bare.search(["q"], 2)
        assert [hit.score for hit in hits] == [1.0, 0.5]
        assert bare.document("7") == Document("7", "T", "x")
        assert bare.document(hits[1].id) == Document(hits[1].id, "", "no id")
        assert bare.document("nobody") is None
        (hits,) = open_index(f"{address}/scored").search(["q"], 1)
        assert (hits[0].id, hits[0].score) == ("9", -3.0)
    assert asked[0] == {"queries": ["q"], "topk": 2, "return_scores": True}


@pytest.mark.parametrize(
    ("status", "answer", "what"),
    [
        (500, b"boom\nboom", "answers 500: boom boom"),
        (200, b"<html>", "answers no JSON: '<html>'"),
        (200, {"results": []}, "answers without 'result'"),
        (200, {"result": []}, "does not answer 1 queries"),
        (200, {"result": [[5]]}, "something that is no document: 5"),
        (200, {"result": [[{"document": {"id": 1}}]]}, "something that is no document"),
    ],
)
def test_a_broken_server_is_one_line(status: int, answer: Any, what: str) -> None:
    def broken(*request: Any) -> tuple[int, Any]:
        return status, answer

    with serving(broken) as address:
        with pytest.raises(DataError, match=what):
            open_index(f"{address}/retrieve").search(["q"], 3)


def test_no_server_and_no_address() -> None:
    with Server(INDEX, port=0) as stopped:
        url = stopped.url
        client = open_index(url)
        assert len(client) == 3
    with pytest.raises(DataError, match=r"cannot reach http://127\.0\.0\.1:\d+/retrieve"):
        open_index(url).search(["q"], 3)
    for address in ("http://", "http://host:port/x", "http://host:0/x"):
        with pytest.raises(UserError, match="is no address"):
            open_index(address)
    with pytest.raises(UnknownName, match="kind of search server 'solr'"):
        open_index("solr://host/x")
    with pytest.raises(UnknownName, match="did you mean 'query'"):
        open_index(url, dialect="quer")
    with pytest.raises(UnknownName, match="option of the client for http 'k1'"):
        open_index(url, k1=1.0)
