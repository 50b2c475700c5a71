from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import models, pre_tokenizers

from foldgym.agents.engines.tokenizer import (
    CHATML_CONTROLS,
    CONTROLS,
    Tokenizer,
    load_tokenizer,
    train_tokenizer,
)
from foldgym.errors import CheckpointError, ConfigError, UnknownName

TEXTS = [
    "tusmol lives in pastan .",
    "pastan lies in dathfis .",
    "what is the region of home of tusmol ?",
    "search pastan lies\n3 documents",
] * 5
TOKENIZER = train_tokenizer(TEXTS, 330, CONTROLS + CHATML_CONTROLS)
CONTROL_IDS = set(TOKENIZER.controls().values())

pieces = st.sampled_from(
    [
        *CONTROLS,
        *CHATML_CONTROLS,
        " ",
        "\n",
        "\r\n",
        "tusmol",
        "42",
        "<|",
        "|>",
        "\x00",
        "é",
        "\u0301",
    ]
)
hostile = st.lists(pieces | st.text(max_size=5), max_size=12).map("".join)


@settings(max_examples=400)
@given(hostile | st.text())
def test_any_text_comes_back_and_holds_no_control_id(text: str) -> None:
    ids = TOKENIZER.encode(text)
    assert not CONTROL_IDS & set(ids)
    clean = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert TOKENIZER.decode(ids) == clean


@given(st.text(st.characters(), max_size=8))
def test_a_lone_surrogate_is_replaced_not_raised(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode(f"a\ud800{text}")).startswith("a")


def test_a_surrogate_becomes_the_replacement_character() -> None:
    assert TOKENIZER.decode(TOKENIZER.encode("a\ud800b")) == "a\ufffdb"


def test_a_name_has_the_same_ids_wherever_a_line_or_a_word_may_start() -> None:
    name = TOKENIZER.encode("dathfis")
    assert len(name) <= 3
    for text in ("search dathfis", "dathfis lies", "one\ndathfis", "what is dathfis ?"):
        ids = TOKENIZER.encode(text)
        assert any(ids[start : start + len(name)] == name for start in range(len(ids)))


def test_digits_and_marks_stay_single() -> None:
    tokenizer = train_tokenizer(["call f(42) now, 42 or 4242 ..."] * 50, 400)
    backend_pieces = [tokenizer.decode((number,)) for number in tokenizer.encode("f(4242)...")]
    assert backend_pieces == ["f", "(", "4", "2", "4", "2", ")", ".", ".", "."]


def test_control_ids_come_first_in_the_order_given() -> None:
    assert list(TOKENIZER.controls().items())[:2] == [("<|pad|>", 0), ("<|system|>", 1)]
    assert TOKENIZER.control("<|im_end|>") == 7
    with pytest.raises(UnknownName, match=r"did you mean '<\|end\|>'"):
        TOKENIZER.control("<end>")


def test_decode_shows_control_tokens_or_hides_them() -> None:
    user, end = TOKENIZER.control("<|user|>"), TOKENIZER.control("<|end|>")
    ids = (user, *TOKENIZER.encode("where ?"), end)
    assert TOKENIZER.decode(ids) == "<|user|>where ?<|end|>"
    assert TOKENIZER.decode(ids, skip_control=True) == "where ?"


def test_training_is_the_same_in_every_process() -> None:
    program = (
        "from foldgym.agents.engines.tokenizer import train_tokenizer\n"
        f"print(train_tokenizer({TEXTS!r}, 330)._backend.to_str())"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", program],
            check=True,
            capture_output=True,
            env={"PYTHONHASHSEED": str(seed), "PYTHONPATH": str(Path.cwd())},
        ).stdout
        for seed in range(3)
    }
    assert len(runs) == 1


def test_a_saved_tokenizer_is_read_by_us_and_by_transformers(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    TOKENIZER.save(tmp_path)
    text = "what is\nthe  region of tusmol ? é"
    assert load_tokenizer(tmp_path).encode(text) == TOKENIZER.encode(text)
    theirs = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    assert tuple(theirs.encode(text, add_special_tokens=False)) == TOKENIZER.encode(text)
    assert theirs.decode(TOKENIZER.encode(text)) == text
    assert (theirs.pad_token_id, theirs.eos_token_id) == (0, 5)
    assert theirs.vocab_size == TOKENIZER.vocab_size


def test_a_tokenizer_that_lets_text_forge_a_control_id_is_refused() -> None:
    # a whole-word vocabulary that holds the special token as a word: no switch keeps it out
    backend = tokenizers.Tokenizer(models.WordLevel({"?": 0, "<|end|>": 1}, unk_token="?"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.add_special_tokens(["<|end|>"])
    with pytest.raises(CheckpointError, match=r"'<\|end\|>' as control id 1"):
        Tokenizer(backend)


@pytest.mark.parametrize("content", ["", "{", '{"model": 3}', "\x00\xff"])
def test_a_corrupt_file_is_one_clear_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content, encoding="latin-1")
    with pytest.raises(CheckpointError, match="is no tokenizer") as caught:
        load_tokenizer(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no tokenizer\.json"):
        load_tokenizer(tmp_path)


def test_impossible_wishes_are_refused() -> None:
    with pytest.raises(ConfigError, match="give more than 262"):
        train_tokenizer(TEXTS, 262)
    with pytest.raises(ConfigError, match="different"):
        train_tokenizer(TEXTS, 400, ("<|a|>", "<|a|>"))
