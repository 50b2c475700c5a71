"""Likeness of texts, with numbers worked out by hand."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest

from foldgym.memory.retrieval import best, bm25, cosine, hashed, overlap, words


def test_bm25_is_okapis() -> None:
    """Three texts of 2, 2 and 4 words; "key" is in two of them, once and twice."""
    texts = ["red key", "blue box", "key key in here"]
    idf = math.log(1 + 1.5 / 2.5)
    mean = 8 / 3
    first = idf * 1 * 2.5 / (1 + 1.5 * (0.25 + 0.75 * 2 / mean))
    third = idf * 2 * 2.5 / (2 + 1.5 * (0.25 + 0.75 * 4 / mean))
    assert bm25("KEY key?", texts) == pytest.approx([first, 0.0, third])
    assert bm25("nothing", texts) == [0.0, 0.0, 0.0]
    assert bm25("key", []) == []
    assert bm25("key", ["", ""]) == [0.0, 0.0]


def test_the_rarer_word_counts_more() -> None:
    scores = bm25("red key", ["red door", "key one", "key two", "key red"])
    assert best(scores, 4) == [3, 0, 1, 2]
    assert best(scores, 2) == [3, 0]


def test_hashed_words_have_length_one_and_forget_their_order() -> None:
    a, b = hashed("look left then right"), hashed("Right, then left: look!")
    assert a == b
    assert math.fsum(x * x for x in a) == pytest.approx(1.0)
    assert cosine(a, a) == pytest.approx(1.0)
    assert 0 < cosine(a, hashed("look left")) < 1
    assert not any(hashed("?"))
    assert cosine(a, hashed("")) == 0.0


def test_hashed_words_are_the_same_in_every_process() -> None:
    code = "from foldgym.memory.retrieval import hashed; print(hashed('a red key'))"
    told = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert told[0] == told[1] == f"{hashed('a red key')}\n"


@pytest.mark.parametrize(
    ("text", "other", "share"),
    [
        ("look left", "left, look!", 1.0),
        ("key key", "key", 0.5),
        ("a b c d e", "a b c d", 0.8),
        ("!!", "??", 0.0),
        ("!!", "!!", 1.0),
    ],
)
def test_overlap_is_the_share_of_words_that_the_other_holds(
    text: str, other: str, share: float
) -> None:
    assert overlap(text, other) == share


def test_words_have_no_case() -> None:
    assert words("Straße, x_1 -- 2!") == ["strasse", "x_1", "2"]
