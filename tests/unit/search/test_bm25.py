from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foldgym.errors import DataError, UserError
from foldgym.search import Bm25, Document, Hit
from foldgym.search.bm25 import top
from foldgym.search.similarity import LUCENE, byte_of, length_of


def made(*texts: str) -> list[Document]:
    return [Document(f"d{number}", "", text) for number, text in enumerate(texts)]


def ids(hits: list[Hit]) -> list[str]:
    return [hit.id for hit in hits]


def test_lengths_in_one_byte() -> None:
    assert [length_of(byte_of(length)) for length in range(41)] == [*range(41)]
    # 41 - 24 = 17 = 0b10001 keeps four bits: 16, so 40; 100 - 24 = 76 = 0b1001100: 72, so 96
    assert [length_of(byte_of(length)) for length in (41, 100, 96)] == [40, 96, 96]
    assert byte_of(2**31 - 1) == 255
    assert [byte_of(length_of(byte)) for byte in range(256)] == [*range(256)]


@given(st.integers(0, 2**31 - 1))
def test_a_kept_length_is_at_most_a_seventeenth_too_short(length: int) -> None:
    kept = length_of(byte_of(length))
    assert kept <= length
    assert (length - kept) * 8 <= max(length - 24, 0)


def test_a_score_by_hand() -> None:
    # 2 documents of 3 and 1 terms, mean 2; "cat" is in both, twice in the first
    # idf = ln(1 + 0.5 / 2.5) = ln 1.2; norms 0.9 (0.6 + 0.4 * 3 / 2) = 1.08, 0.9 (0.6 + 0.2) = 0.72
    index = Bm25.of(made("cat cat dog", "cat"))
    (hits,) = index.search(["cat"], k=5)
    expected = {"d0": math.log(1.2) * 2 / (2 + 1.08), "d1": math.log(1.2) * 1 / (1 + 0.72)}
    assert {hit.id: hit.score for hit in hits} == pytest.approx(expected, rel=1e-6)
    assert ids(hits) == ["d0", "d1"]
    # Lucene's own: 1.2 (0.25 + 0.75 * 1.5) = 1.65 and 1.2 (0.25 + 0.375) = 0.75
    (hits,) = Bm25.of(made("cat cat dog", "cat"), *LUCENE).search(["cat"], k=5)
    expected = {"d0": math.log(1.2) * 2 / (2 + 1.65), "d1": math.log(1.2) * 1 / (1 + 0.75)}
    assert {hit.id: hit.score for hit in hits} == pytest.approx(expected, rel=1e-6)
    assert ids(hits) == ["d1", "d0"]


def test_a_word_asked_twice_counts_twice() -> None:
    index = Bm25.of(made("cat", "dog dog bird", "bird"))
    once, twice = index.search(["cat", "cats cat"], k=1)
    assert twice[0].score == pytest.approx(2 * once[0].score, rel=1e-6)


def test_ties_keep_the_order_of_the_corpus() -> None:
    index = Bm25.of(made(*["same words"] * 9, "same words words"))
    assert ids(index.search(["same"], k=4)[0]) == ["d0", "d1", "d2", "d3"]


def test_nothing_known_finds_nothing() -> None:
    index = Bm25.of(made("cat", "dog"))
    assert index.search(["", "the", "bird", "!?"], k=3) == [[], [], [], []]
    assert index.search([], k=3) == []
    assert index.search(["cat"], k=0) == [[]]
    assert Bm25.of([]).search(["cat"], k=3) == [[]]
    assert Bm25.of(made("the", "")).search(["the cat"], k=3) == [[]]


def test_documents_without_words_do_not_count() -> None:
    # Lucene counts documents that have the field at all: N = 2, mean length 1
    index = Bm25.of(made("cat", "dog", "", "the"))
    (hits,) = index.search(["cat"], k=5)
    assert hits[0].score == pytest.approx(math.log(1 + 1.5 / 1.5) / (1 + 0.9), rel=1e-6)


def test_titles_are_searched() -> None:
    index = Bm25.of([Document("a", "Ada Lovelace", "She wrote."), Document("b", "", "lace")])
    assert ids(index.search(["lovelace"], k=2)[0]) == ["a"]


def test_documents_are_found_by_id() -> None:
    documents = made("cat", "dog")
    index = Bm25.of(documents)
    assert (index.document("d1"), index.document("d2"), len(index)) == (documents[1], None, 2)
    with pytest.raises(DataError, match="'d0'"):
        Bm25.of([*documents, documents[0]])


def test_an_index_in_memory_travels_to_other_processes() -> None:
    index = Bm25.of(made("cat dog", "dog"), *LUCENE)
    copy = pickle.loads(pickle.dumps(index))
    assert copy.search(["cat", "dog"], 2) == index.search(["cat", "dog"], 2)
    assert copy.document("d1") == index.document("d1")


@pytest.mark.parametrize(("k1", "b"), [(-0.1, 0.4), (0.9, 1.1), (math.nan, 0.4), (math.inf, 0)])
def test_impossible_weights_are_refused(k1: float, b: float) -> None:
    with pytest.raises(UserError, match="BM25 takes k1"):
        Bm25.of([], k1, b)


def test_without_k1_only_rarity_counts() -> None:
    index = Bm25.of(made("cat cat cat", "cat dog"), k1=0.0)
    (hits,) = index.search(["cat"], k=2)
    assert [hit.score for hit in hits] == pytest.approx([math.log(1.2)] * 2, rel=1e-6)


WORDS = st.lists(st.sampled_from(["cat", "dog", "bird", "fish", "the"]), max_size=6).map(" ".join)


@settings(max_examples=60)
@given(st.lists(WORDS, max_size=12), WORDS, st.integers(1, 6))
def test_search_is_the_formula(texts: list[str], query: str, k: int) -> None:
    index = Bm25.of(made(*texts))
    rows = [[word for word in text.split() if word != "the"] for text in texts]
    counted = sum(bool(row) for row in rows)
    mean = sum(map(len, rows)) / max(counted, 1)
    scores: dict[str, float] = {}
    for number, row in enumerate(rows):
        for word in query.split():
            if word not in row:
                continue
            holders = sum(word in other for other in rows)
            rarity = math.log(1 + (counted - holders + 0.5) / (holders + 0.5))
            often = row.count(word)
            norm = 0.9 * (0.6 + 0.4 * len(row) / mean)
            scores[f"d{number}"] = scores.get(f"d{number}", 0.0) + rarity * often / (often + norm)
    (hits,) = index.search([query], k)
    assert len(hits) == min(k, len(scores))
    assert [hit.score for hit in hits] == pytest.approx(
        sorted(scores.values(), reverse=True)[:k], rel=1e-5
    )
    assert {hit.id: hit.score for hit in hits} == pytest.approx(
        {hit.id: scores[hit.id] for hit in hits}, rel=1e-5
    )


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0]), max_size=20), st.integers(0, 8))
def test_top_is_a_stable_sort(values: list[float], k: int) -> None:
    best, scores = top(np.array(values, dtype=np.float32), k)
    order = sorted((-value, at) for at, value in enumerate(values) if value > 0)[:k]
    assert list(zip(best, scores, strict=True)) == [(at, -value) for value, at in order]
