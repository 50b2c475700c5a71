from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foldgym.search.analysis import STOP_WORDS, English
from foldgym.search.porter import stem
from foldgym.search.words import MOST_CHARACTERS, words


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("can't stop, won't", ["can't", "stop", "won't"]),
        ("'quoted' U.S.A. a.b. c", ["quoted", "U.S.A", "a.b", "c"]),
        ("3.14 1,000;5 1.a a.1 2:3", ["3.14", "1,000;5", "1", "a", "a", "1", "2", "3"]),
        ("foo_bar __init__ ____ -x-", ["foo_bar", "__init__", "x"]),
        ("x\u00b7y a:b", ["x\u00b7y", "a:b"]),
        ("naïve cafe\u0301 co\u00adop", ["naïve", "cafe\u0301", "co\u00adop"]),
        ("漢字かなカタカナ", ["漢", "字", "か", "な", "カタカナ"]),
        ("한국어 ไทย", ["한국어", "ไทย"]),
        ("スター・ウォーズ 〆", ["スター", "ウォーズ"]),
        ('צה"ל א"', ['צה"ל', "א"]),
        ("😀👍🏽🇩🇪1️⃣", ["😀", "👍🏽", "🇩🇪", "1️⃣"]),
        ("👨\u200d👩\u200d👧!", ["👨\u200d👩\u200d👧"]),
        ("", []),
        (" \t\n...", []),
    ],
)
def test_words_end_where_unicode_ends_them(text: str, found: list[str]) -> None:
    assert words(text) == found


def test_a_long_word_is_cut() -> None:
    assert [len(word) for word in words("a" * 600)] == [MOST_CHARACTERS, MOST_CHARACTERS, 90]


def test_a_line_of_joiners_takes_no_longer_than_its_length() -> None:
    assert words("_" * 200_000) == []  # quadratic matching would take minutes


@given(st.text())
def test_words_come_in_order_and_hold_no_space(text: str) -> None:
    at = 0
    for word in words(text):
        at = text.index(word, at) + len(word)
        assert not any(char.isspace() for char in word)


@given(st.text(st.sampled_from("abZ019_ .:,;'\"-#*\n"), max_size=30))
def test_plain_text_is_read_as_any_other(text: str) -> None:
    # a character of another script takes the way that all scripts share
    assert [*words(text), "漢"] == words(f"{text} 漢")


@pytest.mark.parametrize(
    ("word", "found"),
    [
        # the examples of Porter's paper, step by step, carried through the later steps by hand
        *[("caresses", "caress"), ("ponies", "poni"), ("ties", "ti"), ("caress", "caress")],
        *[("cats", "cat"), ("feed", "feed"), ("agreed", "agre"), ("plastered", "plaster")],
        *[("bled", "bled"), ("motoring", "motor"), ("sing", "sing"), ("conflated", "conflat")],
        *[("troubled", "troubl"), ("sized", "size"), ("hopping", "hop"), ("tanned", "tan")],
        *[("falling", "fall"), ("hissing", "hiss"), ("fizzed", "fizz"), ("failing", "fail")],
        *[("filing", "file"), ("happy", "happi"), ("sky", "sky"), ("relational", "relat")],
        *[("conditional", "condit"), ("rational", "ration"), ("valenci", "valenc")],
        *[("digitizer", "digit"), ("operator", "oper"), ("feudalism", "feudal")],
        *[("decisiveness", "decis"), ("hopefulness", "hope"), ("callousness", "callous")],
        *[("formaliti", "formal"), ("sensitiviti", "sensit"), ("sensibiliti", "sensibl")],
        *[("triplicate", "triplic"), ("formative", "form"), ("formalize", "formal")],
        *[("electrical", "electr"), ("hopeful", "hope"), ("goodness", "good")],
        *[("revival", "reviv"), ("allowance", "allow"), ("inference", "infer")],
        *[("airliner", "airlin"), ("adjustable", "adjust"), ("replacement", "replac")],
        *[("adjustment", "adjust"), ("adoption", "adopt"), ("communism", "commun")],
        *[("effective", "effect"), ("bowdlerize", "bowdler"), ("probate", "probat")],
        *[("rate", "rate"), ("cease", "ceas"), ("controll", "control"), ("roll", "roll")],
        # his program: "bli" for "abli", and "logi"
        *[("possibly", "possibl"), ("analogi", "analog"), ("is", "is"), ("", "")],
    ],
)
def test_porter(word: str, found: str) -> None:
    assert stem(word) == found


def test_the_order_of_the_filters() -> None:
    analyse = English()
    assert analyse("The Dog's bowl; dogs' bowls") == ["dog", "bowl", "dog", "bowl"]
    assert analyse("It's a\u2019s b\uff07S 's") == ["b", "s"]  # "it" and "a" go once 's is gone
    assert analyse("ΑΣ İ") == ["ασ", "i"]  # letter by letter: no final sigma, one letter for one
    assert analyse(" ".join(sorted(STOP_WORDS))) == []
    assert analyse("Thes these") == ["the"]  # stop words are taken before stems
    assert len(STOP_WORDS) == 33


def test_an_analyzer_remembers_without_changing_its_mind() -> None:
    analyse = English()
    text = "Running runners' runs the relational naïveté of U.S.A.'s 3.5 ponies"
    assert analyse(text) == analyse(text) == English()(text)
