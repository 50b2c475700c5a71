"""Lucene itself judges: the jar in the wheel of pyserini, on a corpus made here."""

from __future__ import annotations

import json
import random
import shutil
import string
import struct
import subprocess
from itertools import accumulate
from pathlib import Path

import pytest
from oracles import oracle_python

from foldgym.search import Bm25, Document, Hit
from foldgym.search.analysis import English
from foldgym.search.similarity import ANSERINI, LUCENE
from foldgym.seeding import generator

pytestmark = [pytest.mark.oracle, pytest.mark.slow]

ROOTS = (
    *("run", "stop", "agree", "relat", "oper", "nation", "hope", "care", "walk", "plan", "adapt"),
    *("dog", "pony", "city", "wife", "box", "church", "story", "leaf", "create", "general", "sing"),
    *("motor", "organ", "inform", "valley", "citizen", "theory", "history", "control", "fall"),
)
ENDINGS = (
    *("", "s", "es", "ed", "ing", "er", "ation", "ational", "ness", "ful", "ly", "'s", "s'"),
    *("\u2019s", "ize", "ization", "ment", "able", "ive", "ies", "y", "al", "ity", "logi", "bli"),
)
ODD = (
    *("naïve", "Zoë's", "3.14", "1,000", "U.S.A.", "e-mail", "foo_bar", "a.b.c", "C++", "AT&T"),
    *(
        "漢字",
        "日本語",
        "カタカナ",
        "Москва",
        "Ελλάδας",
        "한국어",
        "😀",
        "👍🏽",
        "coöperate",
        "don't",
    ),
    *("o'clock", "1984", "2,3.5", "x\u00b7y", "½", "“quoted”", "re\u00adgion", "e\u0301te\u0301"),
    *("http://x.org/a?b=c", "10%", "#tag", "@me", "İzmir", "STRASSE", "straße", "ไทย", 'צה"ל'),
)
STOPS = ("the", "of", "and", "in", "a", "is", "to", "The")
BETWEEN = (*[" "] * 12, ", ", ". ", "; ", "! ", " - ", " (", ") ", ' "', "\n", "/", "…", "'")


def jar() -> str:
    """Anserini in one file, inside the wheel of pyserini."""
    if shutil.which("javac") is None:
        pytest.skip("needs a JDK")
    script = "import importlib.util as u; print(u.find_spec('pyserini').origin)"
    words = [oracle_python("pyserini"), "-c", script]
    home = Path(subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip())
    (found,) = home.parent.glob("resources/jars/anserini-*-fatjar.jar")
    return str(found)


def java(*words: str, texts: list[str] | None = None) -> list[str]:
    """The lines that a program says."""
    data = "".join(text + "\0" for text in texts or ()).encode()
    command = [
        "java",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-Xmx1g",
        "-cp",
        jar(),
        *words,
    ]
    done = subprocess.run(command, input=data, capture_output=True, timeout=280)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    return done.stdout.decode().split("\n")[:-1]


def judge(*words: str, texts: list[str]) -> list[list[str]]:
    source = str(Path(__file__).parents[2] / "support" / "lucene" / "Judge.java")
    lines = java("-Dfile.encoding=UTF-8", source, *words, texts=texts)
    assert len(lines) == len(texts)
    return [line.split("\t") if line else [] for line in lines]


class Writer:
    """Sentences over a vocabulary in which few words are frequent and most are rare."""

    def __init__(self) -> None:
        self._rng = generator("lucene")
        words = [root + ending for root in ROOTS for ending in ENDINGS] + [*ODD, *STOPS] * 3
        words += [self.invent() + self._rng.choice(ENDINGS) for _ in range(3000)]
        self._rng.shuffle(words)
        self._words = words
        self._weights = list(accumulate(1 / (rank + 2) for rank in range(len(words))))

    def invent(self) -> str:
        letters = self._rng.choices(string.ascii_lowercase, k=self._rng.randint(2, 8))
        return "".join(letters)

    def text(self, size: int) -> str:
        parts: list[str] = []
        for word in self._rng.choices(self._words, cum_weights=self._weights, k=size):
            shouted = word.upper() if self._rng.random() < 0.03 else word
            parts += [shouted, self._rng.choice(BETWEEN)]
        return "".join(parts)

    def documents(self, count: int) -> list[Document]:
        sizes = (3, 10, 30, 60, 120, 400)
        return [
            Document(f"d{number:05}", "", self.text(self._rng.choice(sizes)))
            for number in range(count)
        ]

    def queries(self, count: int) -> list[str]:
        return [" ".join(self.text(self._rng.randint(1, 9)).split()) for _ in range(count)]


@pytest.fixture(scope="module")
def corpus() -> list[Document]:
    return Writer().documents(2500)


@pytest.fixture(scope="module")
def queries() -> list[str]:
    return Writer().queries(500)


@pytest.fixture(scope="module")
def anserini(corpus: list[Document], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index that Anserini built, with its own defaults."""
    home = tmp_path_factory.mktemp("anserini")
    (home / "documents").mkdir()
    rows = [json.dumps({"id": each.id, "contents": each.contents}) for each in corpus]
    (home / "documents" / "rows.jsonl").write_text("\n".join(rows))
    java(
        "io.anserini.index.IndexCollection",
        *("-collection", "JsonCollection", "-input", str(home / "documents")),
        *("-generator", "DefaultLuceneDocumentGenerator", "-index", str(home / "index")),
        *("-threads", "1"),
    )
    return home


def test_anserini_ranks_as_we_do(
    anserini: Path, corpus: list[Document], queries: list[str]
) -> None:
    topics, run = anserini / "topics.tsv", anserini / "run.txt"
    topics.write_text("".join(f"{number}\t{query}\n" for number, query in enumerate(queries)))
    java(
        "io.anserini.search.SearchCollection",
        *("-index", str(anserini / "index"), "-topics", str(topics), "-topicreader", "TsvInt"),
        *("-output", str(run), "-bm25", "-bm25.k1", "0.9", "-bm25.b", "0.4"),
        *("-hits", "10", "-threads", "1"),
    )
    theirs: dict[int, list[tuple[str, float]]] = {}
    for line in run.read_text().splitlines():
        number, _, found, _, score, _ = line.split()
        theirs.setdefault(int(number), []).append((found, float(score)))
    ours = Bm25.of(corpus).search(queries, 10)
    assert len(theirs) > 450
    overlaps = [
        _overlap([hit.id for hit in hits], [found for found, _ in theirs.get(number, [])])
        for number, hits in enumerate(ours)
    ]
    assert sum(overlaps) / len(overlaps) >= 0.999
    for number, hits in enumerate(ours):  # Anserini rounds to four digits and parts ties by 1e-6
        for hit, (_, score) in zip(hits, theirs.get(number, []), strict=True):
            assert abs(hit.score - score) < 1e-4


def _overlap(ours: list[str], theirs: list[str]) -> float:
    most = max(len(ours), len(theirs))
    return len(set(ours) & set(theirs)) / most if most else 1.0


@pytest.mark.parametrize(("k1", "b"), [ANSERINI, LUCENE])
def test_lucene_scores_to_the_last_bit(
    anserini: Path, corpus: list[Document], queries: list[str], k1: float, b: float
) -> None:
    words = ("search", str(anserini / "index"), str(k1), str(b), "10")
    theirs = judge(*words, texts=queries)
    ours = Bm25.of(corpus, k1, b).search(queries, 10)
    assert sum(map(len, theirs)) > 4000
    assert [[_exactly(hit) for hit in hits] for hits in ours] == theirs


def _exactly(hit: Hit) -> str:
    """The id, and the bits of the score as a 32-bit number."""
    return f"{hit.id} {struct.unpack('<i', struct.pack('<f', hit.score))[0]}"


def test_lucene_analyses_as_we_do() -> None:
    rng = generator("analysis")
    signs = [*"abzAB019 _.:,;'\"-#*\u2019\u00b7\u00e9/&\n", "漢", "か", "カ", "한", "א", "ไ", "😀"]
    texts = [_letters(rng, signs, 2, 14) for _ in range(8000)]
    letters = [*"abcdeeiiloousltrnmpwxyz"]
    texts += [
        _letters(rng, letters, 1, 7) + "".join(rng.choices(ENDINGS, k=rng.randint(0, 3)))
        for _ in range(40_000)
    ]
    texts += [Writer().text(300), "a" * 600, "The dogs' and the dog's o'clock \u2018s"]
    analyse = English()
    wrong = [
        (text, ours, theirs)
        for text, theirs in zip(texts, judge("tokens", texts=texts), strict=True)
        if (ours := analyse(text)) != theirs
    ]
    assert wrong == []


def _letters(rng: random.Random, signs: list[str], least: int, most: int) -> str:
    return "".join(rng.choices(signs, k=rng.randint(least, most)))
