from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import encoding
import numpy as np
import pytest

from foldgym.errors import DataError, MissingExtra, UnknownName, UserError
from foldgym.search import Bm25, Document, Hit, build_index, open_index, read_manifest
from foldgym.search.hybrid import Hybrid

DOCUMENTS = [
    Document("0", "Ada Lovelace", "She wrote the first program."),
    Document("1", "", "Dogs run \ud800 home."),
    Document("two", "Charles Babbage", "He designed the engine."),
    *[Document(f"s{number}", "", "same words for all of us") for number in range(40)],
]
DENSE = {"encoder": "encoding:pairs"}
ENGINES: list[tuple[str, dict[str, Any]]] = [
    ("bm25", {}),
    ("tantivy", {}),
    ("dense", DENSE),
    ("hybrid", DENSE),
    ("hybrid", {**DENSE, "lexical": "tantivy"}),
]


def needs(engine: str, options: dict[str, Any]) -> None:
    if engine == "tantivy" or options.get("lexical") == "tantivy":
        pytest.importorskip("tantivy")
    if engine in ("dense", "hybrid"):
        pytest.importorskip("usearch")


def ids(hits: Sequence[Hit]) -> list[str]:
    return [hit.id for hit in hits]


@pytest.mark.parametrize(("engine", "options"), ENGINES, ids=lambda each: str(each))
def test_every_engine_keeps_the_contract(
    tmp_path: Path, engine: str, options: dict[str, Any]
) -> None:
    needs(engine, options)
    for name in ("a", "b"):
        manifest = build_index(tmp_path / name, DOCUMENTS, engine, **options)
    assert read_manifest(tmp_path / "a") == manifest
    assert (manifest.engine, manifest.documents) == (engine, len(DOCUMENTS))
    index, again = open_index(tmp_path / "a"), open_index(tmp_path / "b")
    queries = ["who wrote the first program", "Babbage's engines", "same words", "same \udc00"]
    found = index.search(queries, k=5)
    assert found == index.search(queries, k=5) == again.search(queries, k=5)
    assert [hits[0].id for hits in found] == ["0", "two", "s0", "s0"]
    assert all(len(hits) <= 5 for hits in found)
    for hits in found:
        scores = [hit.score for hit in hits]
        assert scores == sorted(scores, reverse=True)
        assert all(math.isfinite(score) for score in scores)
    assert found[0] == index.search(queries[:1], k=5)[0]  # a batch is its queries
    assert len(index.search(["same"], k=1000)[0]) <= len(DOCUMENTS)
    assert index.search(["same"], k=0) == [[]]
    assert index.search([], k=5) == []
    assert [index.document(each.id) for each in DOCUMENTS] == DOCUMENTS
    assert index.document("3") is None
    assert len(index) == len(DOCUMENTS)
    index.close()
    index.close()


def test_tantivy_gives_ties_in_corpus_order(tmp_path: Path) -> None:
    pytest.importorskip("tantivy")
    build_index(tmp_path / "a", DOCUMENTS, "tantivy", threads=2, heap=32)
    (hits,) = open_index(tmp_path / "a").search(["same words"], k=12)
    assert ids(hits) == [f"s{number}" for number in range(12)]


def test_tantivy_scores_by_hand(tmp_path: Path) -> None:
    pytest.importorskip("tantivy")
    # 2 documents of 3 and 1 terms: idf = ln 1.2, norms 1.2 (0.25 + 0.75 L / 2); it keeps the
    # factor k1 + 1 = 2.2 that Lucene dropped
    rows = [Document("a", "", "cat cat dog"), Document("b", "", "the cat")]
    build_index(tmp_path / "a", rows, "tantivy")
    (hits,) = open_index(tmp_path / "a").search(["Cats"], k=2)
    expected = [2.2 * math.log(1.2) * 1 / (1 + 0.75), 2.2 * math.log(1.2) * 2 / (2 + 1.65)]
    expected = sorted(expected, reverse=True)
    assert [hit.score for hit in hits] == pytest.approx(expected, rel=1e-5)


def test_tantivy_takes_any_query(tmp_path: Path) -> None:
    pytest.importorskip("tantivy")
    build_index(tmp_path / "a", DOCUMENTS, "tantivy")
    index = open_index(tmp_path / "a")
    odd = ['"', "a:b", "text:[* TO *]", "+ - (", "the of", "", "same same same AND words", "\0"]
    assert [bool(hits) for hits in index.search(odd, 3)] == [False] * 6 + [True, False]
    once, twice = index.search(["program", "program program"], 1)
    assert twice[0].score == pytest.approx(2 * once[0].score, rel=1e-6)


def test_dense_finds_the_nearest_as_brute_force_does(tmp_path: Path) -> None:
    pytest.importorskip("usearch")
    rows = [Document(str(n), "", f"word{n * 37 % 101} thing{n}") for n in range(120)]
    build_index(tmp_path / "a", rows, "dense", encoder="encoding:pairs", precision="f32")
    table = encoding.pairs([row.contents for row in rows])
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    index = open_index(tmp_path / "a", exact=True)
    for query in ("word5 thing", "thing77", "zebra"):
        asked = encoding.pairs([query])[0]
        near = table @ (asked / np.linalg.norm(asked))
        (hits,) = index.search([query], k=7)
        assert [hit.score for hit in hits] == pytest.approx(
            sorted(near, reverse=True)[:7], abs=1e-4
        )
        assert [hit.score for hit in hits] == pytest.approx(
            [near[int(hit.id)] for hit in hits], abs=1e-4
        )


def test_dense_prefixes_reach_the_encoder(tmp_path: Path) -> None:
    pytest.importorskip("usearch")
    heard: list[str] = []

    def listen(texts: Sequence[str]) -> Any:
        heard.extend(texts)
        return encoding.pairs(texts)

    options: dict[str, Any] = {"query_prefix": "query: ", "passage_prefix": "passage: "}
    build_index(tmp_path / "a", [Document("0", "T", "x")], "dense", encoder=listen, **options)
    with pytest.raises(UserError, match="open it with encoder="):
        open_index(tmp_path / "a")
    index = open_index(tmp_path / "a", encoder=listen)
    index.search(["q"], 1)
    assert heard == ['passage: "T"\nx', "query: q"]


@pytest.mark.parametrize(
    ("options", "kind", "what"),
    [
        ({}, UserError, "needs a model .* or an encoder"),
        ({"model": "m", "encoder": "e:e"}, UserError, "not both"),
        ({**DENSE, "metric": "l2"}, UnknownName, "unknown metric 'l2'"),
        ({**DENSE, "precision": "f8"}, UnknownName, "did you mean 'i8'"),
        ({**DENSE, "device": "cpu"}, UserError, "device is for a model"),
        ({"encoder": "encoding:pears"}, UnknownName, "did you mean 'pairs'"),
        ({"encoder": "encoding:wrong_shape"}, UserError, r"shape \(43,\), not \(43, D\)"),
        ({"encoder": "encoding:not_finite"}, UserError, "not finite"),
        ({**DENSE, "k1": 1.2}, UnknownName, "option of the engine 'dense' 'k1'"),
    ],
)
def test_dense_mistakes_leave_nothing(
    tmp_path: Path, options: dict[str, Any], kind: type[UserError], what: str
) -> None:
    pytest.importorskip("usearch")
    with pytest.raises(kind, match=what):
        build_index(tmp_path / "a", DOCUMENTS, "dense", **options)
    assert list(tmp_path.iterdir()) == []


def test_fusion_by_hand() -> None:
    # first index: x, y, z; second: z, w. x 1/61, y 1/62, z 1/63 + 1/61, w 1/62: z, x, y, w
    class Fixed:
        def __init__(self, *found: str) -> None:
            self._found = found

        def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
            return [[Hit(id, 9.0) for id in self._found][:k] for _ in queries]

        def document(self, id: str) -> Document | None:
            return Document(id, "", id) if id in self._found else None

        def __len__(self) -> int:
            return 4

        def close(self) -> None:
            pass

    index = Hybrid([Fixed("x", "y", "z"), Fixed("z", "w")])
    (hits,) = index.search(["?"], k=3)
    assert ids(hits) == ["z", "x", "y"]
    assert [hit.score for hit in hits] == pytest.approx([1 / 63 + 1 / 61, 1 / 61, 1 / 62])
    assert index.document("w") == Document("w", "", "w")
    assert index.document("v") is None
    assert ids(Hybrid([Fixed("x", "y"), Fixed("y")], depth=1).search(["?"], 1)[0]) == ["x"]
    with pytest.raises(UserError, match="at least 2 indexes"):
        Hybrid([Fixed()])


def test_a_missing_extra_names_the_command(tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules['tantivy'] = None\n"
        "from foldgym.search import Document, build_index\n"
        "from foldgym.errors import MissingExtra\n"
        "try:\n    build_index(sys.argv[1], [Document('0', '', 'x')], 'tantivy')\n"
        "except MissingExtra as problem:\n    print(problem)\n"
    )
    words = [sys.executable, "-c", script, str(tmp_path / "a")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout == (
        "the search engine 'tantivy' needs the extra [search]: pip install 'foldgym[search]'\n"
    )
    with pytest.raises(MissingExtra, match="pip install"):
        raise MissingExtra("x", "search")


def test_search_needs_no_torch() -> None:
    script = "import sys, foldgym.search, foldgym.search.server; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_an_engine_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from foldgym.search import Bm25\n"
        "from foldgym.search.engines import Engine\n"
        "class Nothing:\n"
        "    version = '3'\n"
        "    def __init__(self, folder): pass\n"
        "    def add(self, document): pass\n"
        "    def finish(self): return {'told': 1}\n"
        "def open(folder, documents, recorded):\n"
        "    return Bm25.of(documents[number] for number in range(len(documents)))\n"
        "ENGINE = Engine(Nothing, open)\n"
    )
    engine = f"{tmp_path / 'mine.py'}:ENGINE"
    manifest = build_index(tmp_path / "a", DOCUMENTS[:3], engine)
    assert (manifest.version, manifest.options) == ("3", {"told": 1})
    index = open_index(tmp_path / "a")
    assert index.search(["engine"], 2) == Bm25.of(DOCUMENTS[:3]).search(["engine"], 2)


def test_a_damaged_graph_is_not_opened(tmp_path: Path) -> None:
    pytest.importorskip("usearch")
    build_index(tmp_path / "a", DOCUMENTS, "dense", **DENSE)
    (tmp_path / "a" / "vectors.usearch").write_bytes(b"")
    with pytest.raises(DataError, match="is damaged"):
        open_index(tmp_path / "a")
