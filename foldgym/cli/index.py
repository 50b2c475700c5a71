"""`foldgym index build|query|serve|invent`: search indexes, on disk and over HTTP."""

from __future__ import annotations

import argparse
from dataclasses import asdict, fields
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from foldgym import console
from foldgym.cli.options import add_json, at_least, settings, write_json
from foldgym.errors import UnknownName

if TYPE_CHECKING:
    from collections.abc import Iterator

    from foldgym.search import Corpus, Document, Fields, Index

INDEX = "a folder, or an address such as http://host:8000/retrieve"
SHOWN_PROBLEMS = 5
SNIPPET = 90
MEGABYTE = 1_000_000


def run_index(parser: argparse.ArgumentParser, words: list[str]) -> int:
    """Dispatches to the subcommand."""
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, run: Any, what: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=what, description=what[0].upper() + what[1:] + ".")
        made.set_defaults(run=run)
        return made

    build = command("build", _build, "index a corpus into a new folder")
    what = "JSON lines, a table (.tsv) or a folder of .txt and .md; .gz too"
    build.add_argument("corpus", metavar="CORPUS", nargs="+", help=what)
    build.add_argument(
        "--output", metavar="FOLDER", required=True, help="the index; must not exist"
    )
    what = "bm25 (default), tantivy, dense or hybrid"
    build.add_argument("--engine", metavar="NAME", default="bm25", help=what)
    build.add_argument("--form", default="", help="jsonl, tsv or text, if names do not tell")
    what = "where a row keeps id, title, text or contents: --field text=body"
    build.add_argument("--field", action="append", default=[], metavar="WHAT=NAME", help=what)
    build.add_argument("--strict", action="store_true", help="stop at a line that cannot be read")
    query = command("query", _query, "search an index")
    query.add_argument("index", metavar="INDEX", help=INDEX)
    query.add_argument("query", metavar="QUERY", nargs="+", help="each is searched for itself")
    query.add_argument("-k", type=at_least(1), default=5, help="hits for each query (5)")
    serve = command("serve", _serve, "answer searches over HTTP, in Search-R1's protocol")
    serve.add_argument("index", metavar="INDEX", help=INDEX)
    serve.add_argument("--host", default="127.0.0.1", help="to listen on (127.0.0.1: this machine)")
    serve.add_argument("--port", type=at_least(0), default=8000, help="to listen on (8000); 0: any")
    what = "hits for a request that names no number (3)"
    serve.add_argument("--topk", type=at_least(1), default=3, help=what)
    invent = command("invent", _invent, "write the pages of an invented world as a corpus")
    what = "the world: people=100000 world=3 aliases=0.2 and others of FictionalQA"
    invent.add_argument("settings", metavar="KEY=VALUE", nargs="*", help=what)
    what = "JSON lines to write, .gz to pack them; must not exist"
    invent.add_argument("--output", metavar="FILE", required=True, help=what)
    for each in (build, query, serve):
        what = "an option of the engine or client: --set k1=1.2"
        each.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=what)
    for each in (build, query):
        add_json(each)
    args = parser.parse_args(words)
    return args.run(args)


def _build(args: argparse.Namespace) -> int:
    from foldgym.search import Corpus, build_index

    rest = 0

    def advance(size: int) -> None:
        nonlocal rest
        rest += size
        bar(rest // MEGABYTE)
        rest %= MEGABYTE

    corpus = Corpus(
        args.corpus, form=args.form, fields=_fields(args.field), strict=args.strict, advance=advance
    )
    started = perf_counter()
    with console.progress(-(-corpus.size // MEGABYTE), "indexing, MB") as bar:

        def documents() -> Iterator[Document]:
            yield from corpus
            bar(bool(rest), "everything is read; writing the index")

        manifest = build_index(args.output, documents(), args.engine, **settings(args.set))
    seconds = perf_counter() - started
    _report(corpus)
    folder = Path(args.output)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    sheet = {
        **asdict(manifest),
        "index": args.output,
        "bytes": size,
        "skipped": corpus.skipped,
        "problems": [str(each) for each in corpus.problems],
        "seconds": seconds,
    }
    if write_json(args.json, sheet):
        console.say(
            f"{args.output}: {manifest.documents} documents, {manifest.engine}, "
            f"{size / MEGABYTE:.1f} MB, {seconds:.1f} s"
        )
    return 0


def _fields(pairs: list[str]) -> Fields:
    from foldgym.search import Fields

    given = settings(pairs, "--field")
    known = [field.name for field in fields(Fields)]
    for name in given:
        if name not in known:
            raise UnknownName("field", name, known)
    return Fields(**{name: str(value) for name, value in given.items()})


def _report(corpus: Corpus) -> None:
    for problem in corpus.problems[:SHOWN_PROBLEMS]:
        console.note(f"skipped {problem}")
    more = corpus.skipped - SHOWN_PROBLEMS
    if more > 0:
        console.note(f"and {more} more lines that could not be read")


def _query(args: argparse.Namespace) -> int:
    index = _open(args)
    found: list[dict[str, Any]] = []
    try:
        for query, hits in zip(args.query, index.search(args.query, args.k), strict=True):
            rows: list[dict[str, Any]] = []
            for hit in hits:
                document = index.document(hit.id)
                title, text = (document.title, document.text) if document else ("", "")
                rows.append({"id": hit.id, "score": hit.score, "title": title, "text": text})
            found.append({"query": query, "hits": rows})
    finally:
        index.close()
    if write_json(args.json, found):
        for each in found:
            cells = [
                (rank, hit["score"], hit["id"], hit["title"], _snippet(hit["text"]))
                for rank, hit in enumerate(each["hits"], 1)
            ]
            if cells:
                console.table(each["query"], ("rank", "score", "id", "title", "text"), cells)
            else:
                console.say(f"{each['query']}: nothing found")
    return 0


def _snippet(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SNIPPET else line[: SNIPPET - 1] + "…"


def _serve(args: argparse.Namespace) -> int:
    from foldgym.search.server import Server

    index = _open(args)
    try:
        server = Server(index, args.host, args.port, args.topk)
        console.note(f"serving {args.index} at {server.url}; Ctrl-C stops it")
        server.run()
    finally:
        index.close()
    return 0


def _invent(args: argparse.Namespace) -> int:
    from foldgym.envs.qa.corpus import world_of, write_corpus

    world = world_of(settings(args.settings, "KEY=VALUE"))
    with console.progress(world.entities, "inventing, entities") as bar:
        pages = write_corpus(world, args.output, bar)
    console.say(f"{args.output}: {pages} pages about {world.entities} entities")
    return 0


def _open(args: argparse.Namespace) -> Index:
    from foldgym.search import open_index

    return open_index(args.index, **settings(args.set))
