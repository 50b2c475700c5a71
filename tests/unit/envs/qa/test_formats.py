"""Every published format, on small files written here in exactly that format."""

from __future__ import annotations

import base64
import gzip
import json
from hashlib import sha256
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from foldgym.envs.qa.files import read_questions
from foldgym.envs.qa.formats import FORMATS, recognise
from foldgym.errors import DataError, UnknownName
from foldgym.search import Document

HOTPOT = {
    "_id": "5a8b57f25542995d1e6f1371",
    "question": "Were Ada and Bob born in the same town?",
    "answer": "yes",
    "type": "comparison",
    "level": "hard",
    "supporting_facts": [["Ada", 0], ["Bob", 1], ["Ada", 1]],
    "context": [["Ada", ["Ada is a clerk.", " She was born in Rome."]], ["Bob", ["Bob."]]],
}
WIKI2 = {
    **HOTPOT,
    "evidences": [["Ada", "born in", "Rome"], ["Rome", "country", "Italy"], ["Bob", "x", "y"]],
}
MUSIQUE = {
    "id": "3hop1__12_34_56",
    "question": "Where was the mother of the founder born?",
    "answer": "Rome",
    "answer_aliases": ["City of Rome", "Rome"],
    "answerable": True,
    "paragraphs": [
        {"idx": 0, "title": "Cat", "paragraph_text": "A cat.", "is_supporting": False},
        {"idx": 1, "title": "Ada", "paragraph_text": "Ada, of Rome.", "is_supporting": True},
    ],
    "question_decomposition": [
        {"id": 1, "question": "founder?", "answer": "x", "paragraph_support_idx": 1},
        {"id": 2, "question": "mother of #1?", "answer": "Ada", "paragraph_support_idx": 1},
    ],
}
FLASHRAG = {"id": "test_0", "question": "who sings it", "golden_answers": ["Cher", "Cher Bono"]}
SEARCH_R1 = {
    "data_source": "nq",
    "prompt": [
        {"role": "user", "content": "Answer ... <answer> Beijing </answer>. Question: who sings?\n"}
    ],
    "ability": "fact-reasoning",
    "reward_model": {"style": "rule", "ground_truth": {"target": ["Cher"]}},
    "extra_info": {"split": "train", "index": 7},
}
IGPO = {
    "prompt": [{"role": "user", "content": "who sings?"}],
    "reward_model": {"ground_truth": "Cher<|answer_split|>Cherilyn Sarkisian"},
    "data_source": "popqa",
    "extra_info": {"index": 3},
}
MASKSEARCH = {
    "query": "[mask] was born in [MASK] long ago.",
    "answer": "Ada, Rome",
    "ext": {"mask_num": 2, "masks": ["Ada", "Rome"], "entities": [], "source": "", "title": "Ada"},
}
BROWSECOMP = {
    "query_id": "769",
    "query": "Which paper?",
    "answer": "The paper",
    "gold_docs": [{"docid": "12", "text": "The paper itself.", "url": "u12"}],
    "evidence_docs": [
        {"docid": "12", "text": "The paper itself.", "url": "u12"},
        {"docid": "13", "text": "About it.", "url": "u13"},
    ],
    "negative_docs": [{"docid": "99", "text": "Another.", "url": "u99"}],
}


def lines(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def only(path: Path, **how: Any) -> Any:
    read = read_questions(path, **how)
    assert not read.problems
    assert len(read.items) == 1
    return read.items[0]


def test_hotpotqa_is_an_array_of_titled_sentences(tmp_path: Path) -> None:
    path = tmp_path / "hotpot_dev_distractor_v1.json"
    path.write_text(json.dumps([HOTPOT]), encoding="utf-8")
    found = only(path)
    assert found.id == HOTPOT["_id"]
    assert found.answers == ("yes",)
    assert found.passages[0] == Document("Ada", "Ada", "Ada is a clerk. She was born in Rome.")
    assert found.supporting == ("Ada", "Bob")
    assert (found.kind, found.hops, found.metadata["level"]) == ("comparison", 2, "hard")


def test_hotpotqa_as_hugging_face_stores_it(tmp_path: Path) -> None:
    row = {
        **{key: HOTPOT[key] for key in ("question", "answer", "type", "level")},
        "id": "x",
        "supporting_facts": {"title": ["Ada", "Bob"], "sent_id": [0, 0]},
        "context": {"title": ["Ada", "Bob"], "sentences": [["Ada."], ["Bob.", "Ben."]]},
    }
    found = only(lines(tmp_path / "rows.jsonl", row))
    assert found.supporting == ("Ada", "Bob")
    assert found.passages[1].text == "Bob. Ben."


def test_2wiki_counts_its_evidences(tmp_path: Path) -> None:
    assert only(lines(tmp_path / "dev.jsonl", WIKI2), format="2wiki").hops == 3


def test_musique_keeps_aliases_support_and_hops(tmp_path: Path) -> None:
    found = only(lines(tmp_path / "musique_ans_v1.0_dev.jsonl", MUSIQUE))
    assert found.answers == ("Rome", "City of Rome")
    assert found.supporting == ("1",)
    assert found.hops == 3
    assert found.kind == "3hop1"
    assert found.metadata["steps"] == ["founder?", "mother of #1?"]


def test_flashrag_has_golden_answers(tmp_path: Path) -> None:
    assert only(lines(tmp_path / "nq.jsonl", FLASHRAG)).answers == ("Cher", "Cher Bono")


def test_bamboogle_is_a_table(tmp_path: Path) -> None:
    path = tmp_path / "Bamboogle.csv"
    path.write_text('Question,Answer\n"Who, then?",Cher\n', encoding="utf-8")
    found = only(path)
    assert (found.text, found.answers, found.hops) == ("Who, then?", ("Cher",), 2)


@pytest.mark.parametrize(
    ("row", "answers", "name"),
    [
        (SEARCH_R1, ("Cher",), "nq-train-7"),
        (IGPO, ("Cher", "Cherilyn Sarkisian"), "popqa--3"),
    ],
)
def test_training_rows_in_parquet(
    tmp_path: Path, row: dict[str, Any], answers: tuple[str, ...], name: str
) -> None:
    arrow = pytest.importorskip("pyarrow", reason="needs pyarrow")
    import pyarrow.parquet as parquet

    path = tmp_path / "train.parquet"
    parquet.write_table(arrow.Table.from_pylist([row]), path)
    found = only(path)
    assert (found.text, found.answers, found.id) == ("who sings?", answers, name)


def test_masksearch_answers_in_the_order_of_the_blanks(tmp_path: Path) -> None:
    found = only(lines(tmp_path / "ramp.jsonl", MASKSEARCH))
    assert found.metadata["masks"] == ["Ada", "Rome"]
    assert found.hops == 2
    assert found.answers == ("Ada, Rome",)


def encrypt(value: Any, key: bytes) -> Any:
    if isinstance(value, str):
        data = bytes(a ^ b for a, b in zip(value.encode(), cycle(key), strict=False))
        return base64.b64encode(data).decode()
    if isinstance(value, dict):
        return {k: v if k == "query_id" else encrypt(v, key) for k, v in value.items()}
    return [encrypt(each, key) for each in value]


def test_browsecomp_plus_is_decrypted(tmp_path: Path) -> None:
    secret = encrypt(BROWSECOMP, sha256(b"a canary").digest())
    assert "paper" not in json.dumps(secret)
    path = lines(tmp_path / "browsecomp.jsonl", secret)
    found = only(path, canary="a canary")
    assert (found.id, found.text, found.answers) == ("769", "Which paper?", ("The paper",))
    assert found.supporting == ("12", "13")
    assert [passage.id for passage in found.passages] == ["12", "13", "99"]
    with pytest.raises(DataError, match=r"browsecomp\.jsonl:1: a text that this canary"):
        read_questions(path, canary="another")


def test_a_bad_line_is_named_and_costs_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "nq.jsonl"
    good = json.dumps(FLASHRAG)
    bad = json.dumps({"id": "x", "question": "", "golden_answers": ["a"]})
    path.write_text(f"{good}\nnot json\n\n{bad}\n[1]\n{good}\n", encoding="utf-8")
    read = read_questions(path)
    assert len(read.items) == 2
    where = [problem.split(": ")[0].rpartition("/")[2] for problem in read.problems]
    assert where == ["nq.jsonl:2", "nq.jsonl:4", "nq.jsonl:5"]
    assert "`question` must be a text" in read.problems[1]
    with pytest.raises(DataError, match=r"nq\.jsonl:2: not JSON"):
        read_questions(path, strict=True)


def test_gzip_and_its_torn_end(tmp_path: Path) -> None:
    path = tmp_path / "nq.jsonl.gz"
    whole = gzip.compress((json.dumps(FLASHRAG) + "\n").encode() * 200)
    path.write_bytes(whole)
    assert len(read_questions(path).items) == 200
    path.write_bytes(whole[:-12])
    with pytest.raises(DataError, match="cannot read"):
        read_questions(path)


def test_what_is_no_question_file_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"keys: colour"):
        read_questions(lines(tmp_path / "a.jsonl", {"colour": 1}))
    with pytest.raises(DataError, match="must end in one of"):
        read_questions(tmp_path / "a.txt")
    with pytest.raises(DataError, match="cannot read"):
        read_questions(tmp_path / "none.jsonl")
    with pytest.raises(UnknownName, match="did you mean 'musique'"):
        read_questions(lines(tmp_path / "b.jsonl", MUSIQUE), "musiq")
    with pytest.raises(DataError, match="no usable row; the first problem"):
        read_questions(lines(tmp_path / "c.jsonl", {"id": "1"}), "flashrag")
    with pytest.raises(DataError, match="canary has no effect"):
        read_questions(lines(tmp_path / "d.jsonl", FLASHRAG), canary="x")


@pytest.mark.parametrize(
    ("row", "name"),
    [
        (HOTPOT, "hotpotqa"),
        (MUSIQUE, "musique"),
        (FLASHRAG, "flashrag"),
        (SEARCH_R1, "search-r1"),
        (MASKSEARCH, "masksearch"),
        (BROWSECOMP, "browsecomp-plus"),
    ],
)
def test_formats_are_recognised_by_their_keys(row: dict[str, Any], name: str) -> None:
    assert recognise(row) == name
    assert name in FORMATS


@pytest.mark.parametrize("row", [HOTPOT, MUSIQUE, FLASHRAG, SEARCH_R1, MASKSEARCH, BROWSECOMP])
def test_no_damaged_row_is_more_than_a_problem(row: dict[str, Any], tmp_path: Path) -> None:
    format = str(recognise(row))
    for key in row:
        for value in (None, 3, "text", [], [None], {}, [["a", "b", "c"]], {"title": 3}):
            damaged = [{**row, key: value}, row]
            read = read_questions(lines(tmp_path / "rows.jsonl", *damaged), format)
            assert len(read.items) + len(read.problems) == 2
