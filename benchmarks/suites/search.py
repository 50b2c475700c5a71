"""Search engines on one generated corpus: build, disk, memory, and how long a query takes.

Each engine builds in a process of its own from the same JSON lines, and answers in another one.
Passages have about 100 words of a Zipf vocabulary, queries are 8 words of it, any of which may
match; k = 10. `python -m benchmarks.suites.search SIZE...` takes other sizes than the default.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from foldgym.console import note

SIZES = (50_000, 100_000, 1_000_000)
WORDS, VOCABULARY, QUERIES, SLOW_QUERIES, K = 100, 200_000, 300, 30, 10
MOST = {"foldgym bm25": 100_000}
"""The largest corpus that an engine is made for."""
Search = Callable[[str], list[str]]


def vocabulary() -> list[str]:
    """Pronounceable words, distinct, with the endings that a stemmer takes off; short ones first,
    since frequent words are short.
    """
    rng = np.random.default_rng(1)
    syllables = ["ba", "do", "ki", "lu", "mer", "ton", "sa", "ri", "vel", "go", "tan", "es", "qui"]
    endings = ["", "", "", "s", "ing", "ed", "er", "ation", "ness", "ly"]
    found: dict[str, None] = {}
    while len(found) < VOCABULARY:
        stem = "".join(rng.choice(syllables, size=rng.integers(1, 6)))
        found[stem + endings[rng.integers(len(endings))]] = None
    return sorted(found, key=len)


def texts(count: int, words: int, seed: int) -> Iterator[str]:
    """Words drawn with odds of 1 / (rank + 2)."""
    known = np.array(vocabulary(), dtype=object)
    edges = np.cumsum(1 / (np.arange(VOCABULARY) + 2.0))
    rng = np.random.default_rng(seed)
    for start in range(0, count, 10_000):
        rows = min(10_000, count - start)
        drawn = np.searchsorted(edges, rng.random((rows, words)) * edges[-1])
        for row in known[drawn]:
            yield " ".join(row)


def generate(folder: Path, size: int) -> tuple[Path, Path]:
    corpus, queries = folder / "corpus.jsonl", folder / "queries.json"
    with corpus.open("w") as file:
        for number, text in enumerate(texts(size, WORDS, 2)):
            file.write(f'{{"id": "{number}", "contents": "{text}."}}\n')
    queries.write_text(json.dumps(list(texts(QUERIES, 8, 3))))
    return corpus, queries


# ---------------------------------------------------------------- engines


def build_foldgym(engine: str, corpus: Path, folder: Path) -> None:
    from foldgym.search import Corpus, build_index

    build_index(folder, Corpus([corpus]), engine)


def open_foldgym(folder: Path) -> Search:
    from foldgym.search import open_index

    index = open_index(folder)
    return lambda query: [hit.id for hit in index.search([query], K)[0]]


def rows(corpus: Path) -> Iterator[tuple[str, str]]:
    with corpus.open() as file:
        for line in file:
            row = json.loads(line)
            yield row["id"], row["contents"]


def build_bm25s(corpus: Path, folder: Path) -> None:
    import bm25s

    tokens = bm25s.tokenize([text for _, text in rows(corpus)], show_progress=False)
    index = bm25s.BM25()
    index.index(tokens, show_progress=False)
    index.save(folder)


def open_bm25s(folder: Path) -> Search:
    import bm25s

    index = bm25s.BM25.load(folder, mmap=True)

    def search(query: str) -> list[str]:
        tokens = bm25s.tokenize([query], show_progress=False)
        found, _ = index.retrieve(tokens, k=K, show_progress=False)
        return [str(number) for number in found[0]]

    return search


def build_fts5(corpus: Path, folder: Path) -> None:
    folder.mkdir()
    with sqlite3.connect(folder / "fts5.db") as connection:
        connection.execute(
            "CREATE VIRTUAL TABLE passages USING fts5(id UNINDEXED, text, tokenize='porter')"
        )
        connection.executemany("INSERT INTO passages VALUES (?, ?)", rows(corpus))


def open_fts5(folder: Path) -> Search:
    connection = sqlite3.connect(folder / "fts5.db")
    asked = "SELECT id FROM passages WHERE passages MATCH ? ORDER BY rank LIMIT ?"

    def search(query: str) -> list[str]:
        return [id for (id,) in connection.execute(asked, (" OR ".join(query.split()), K))]

    return search


ENGINES: dict[str, tuple[Callable[[Path, Path], None], Callable[[Path], Search]]] = {
    "foldgym bm25": (lambda corpus, to: build_foldgym("bm25", corpus, to), open_foldgym),
    "foldgym tantivy": (lambda corpus, to: build_foldgym("tantivy", corpus, to), open_foldgym),
    "bm25s": (build_bm25s, open_bm25s),
    "SQLite FTS5": (build_fts5, open_fts5),
}


# ---------------------------------------------------------------- what is measured


def measure_build(engine: str, corpus: Path, folder: Path) -> dict[str, float]:
    """Seconds from JSON lines to files on disk, and the most memory that it took."""
    started, used = time.perf_counter(), time.process_time()
    ENGINES[engine][0](corpus, folder)
    seconds, processor = time.perf_counter() - started, time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    disk = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return {
        "build_seconds": round(seconds, 1),
        "build_processor_seconds": round(processor, 1),
        "build_peak_mb": round(peak / 1e6),
        "disk_mb": round(disk / 1e6),
    }


def measure_queries(engine: str, folder: Path, queries: list[str]) -> dict[str, float]:
    """Milliseconds a query after ten to warm up, and what then is in memory."""
    before = time.perf_counter()
    search = ENGINES[engine][1](folder)
    search(queries[0])
    first = time.perf_counter() - before
    asked = queries[10 : 10 + (SLOW_QUERIES if engine == "SQLite FTS5" else len(queries))]
    for query in queries[: 2 if engine == "SQLite FTS5" else 10]:
        search(query)
    taken: list[float] = []
    worked: list[float] = []
    read = _read_from_disk()
    for query in asked:
        started, used = time.perf_counter(), time.process_time()
        found = search(query)
        taken.append(time.perf_counter() - started)
        worked.append(time.process_time() - used)
        assert len(found) == K
    p50, p95 = np.percentile(taken, [50, 95])
    disk = _read_from_disk() - read
    return {
        "open_and_first_query_ms": round(first * 1e3, 1),
        "p50_ms": round(float(p50) * 1e3, 2),
        "p95_ms": round(float(p95) * 1e3, 2),
        # far below p50: the query waited, for the disk or for other programs
        "p50_processor_ms": round(float(np.median(worked)) * 1e3, 2),
        "read_from_disk_mb": round(disk / 1e6),
        "queries": len(asked),
        **_memory(),
    }


def measure_server(folder: Path, queries: list[str]) -> dict[str, float]:
    """Milliseconds over HTTP on this machine: a query a request, and a query of a batch of 64."""
    from foldgym.search import open_index
    from foldgym.search.server import Server

    with Server(open_index(folder), port=0) as server:
        client = open_index(server.url)
        client.search(queries[:10], K)
        taken: list[float] = []
        for query in queries:
            started = time.perf_counter()
            client.search([query], K)
            taken.append(time.perf_counter() - started)
        started = time.perf_counter()
        client.search(queries[:64], K)
        batch = time.perf_counter() - started
    p50, p95 = np.percentile(taken, [50, 95])
    return {
        "server_p50_ms": round(float(p50) * 1e3, 2),
        "server_p95_ms": round(float(p95) * 1e3, 2),
        "server_batch_ms": round(batch / 64 * 1e3, 2),
    }


def _read_from_disk() -> int:
    """Bytes that this process had to wait for; what the system has in memory does not count."""
    with open("/proc/self/io") as file:
        return int(dict(line.split(":", 1) for line in file)["read_bytes"])


def _memory() -> dict[str, float]:
    """Resident megabytes, and how many of them no other process can share."""
    with open("/proc/self/status") as file:
        status = dict(line.split(":", 1) for line in file)
    kilobytes = {name: int(status[name].split()[0]) for name in ("VmRSS", "RssAnon")}
    return {
        "resident_mb": round(kilobytes["VmRSS"] / 1e3),
        "private_mb": round(kilobytes["RssAnon"] / 1e3),
    }


def apart(*words: str) -> dict[str, float]:
    """A measurement in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.suites.search", *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def run(sizes: tuple[int, ...] = SIZES) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for size in sizes:
        with tempfile.TemporaryDirectory() as name:
            home = Path(name)
            corpus, queries = generate(home, size)
            found: dict[str, dict[str, float]] = {}
            for engine in ENGINES:
                if size > MOST.get(engine, size):
                    continue
                note(f"{engine}, {size} passages ...")
                folder = str(home / "index")
                load = {"load_before": round(os.getloadavg()[0], 1)}
                built = apart("build", engine, str(corpus), folder)
                found[engine] = {**load, **built, **apart("query", engine, folder, str(queries))}
                if engine == "foldgym tantivy":
                    found[engine] |= apart("server", engine, folder, str(queries))
                shutil.rmtree(folder)
            corpus_mb = round(corpus.stat().st_size / 1e6)
        result[f"{size} passages"] = {"corpus_mb": corpus_mb, **found, "ratios": ratios(found)}
    return result


def ratios(found: dict[str, dict[str, float]]) -> dict[str, float]:
    """How many times as much as tantivy the others need in the same run.

    Processor time says what an engine costs; the clock also says what else the machine did.
    """
    ours = found["foldgym tantivy"]
    compared = (
        *("build_seconds", "build_processor_seconds", "p50_ms", "p50_processor_ms", "p95_ms"),
        *("build_peak_mb", "disk_mb"),
    )
    return {
        f"{engine} / foldgym tantivy, {what}": round(figures[what] / ours[what], 2)
        for engine, figures in found.items()
        if engine != "foldgym tantivy"
        for what in compared
    }


def main(words: list[str]) -> None:
    if words[:1] == ["build"]:
        print(json.dumps(measure_build(words[1], Path(words[2]), Path(words[3]))))
    elif words[:1] in (["query"], ["server"]):
        queries = json.loads(Path(words[3]).read_text())
        if words[0] == "query":
            print(json.dumps(measure_queries(words[1], Path(words[2]), queries)))
        else:
            print(json.dumps(measure_server(Path(words[2]), queries)))
    else:
        print(json.dumps(run(tuple(map(int, words)) or SIZES), indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
