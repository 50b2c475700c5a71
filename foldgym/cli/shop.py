"""`foldgym shop make|index|serve`: catalogues of the shop, and the shop as a web site."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

from foldgym import console
from foldgym.cli.options import at_least
from foldgym.errors import UserError


def run_shop(parser: argparse.ArgumentParser, words: list[str]) -> int:
    """Dispatches to the subcommand."""
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, run: Callable[[Any], int], what: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=what, description=what[0].upper() + what[1:] + ".")
        made.set_defaults(run=run)
        return made

    make = command("make", _make, "invent a catalogue and write it as the official files")
    make.add_argument("count", metavar="N", type=at_least(1), help="products")
    make.add_argument("--seed", type=int, default=0, help="decides everything in it (0)")
    make.add_argument("--style", default="full", help="full (default) or terse")
    make.add_argument("--output", metavar="FOLDER", required=True, help="where the files go")
    index = command("index", _index, "turn official files into an index that processes share")
    index.add_argument("catalogue", metavar="CATALOGUE", help="a folder, or one items file")
    index.add_argument("--output", metavar="FOLDER", required=True, help="must not exist")
    index.add_argument("--limit", type=at_least(1), help="only the first so many rows")
    serve = command("serve", _serve, "serve the shop as a web site")
    what = "files or an index; without it a catalogue is invented"
    serve.add_argument("catalogue", metavar="CATALOGUE", nargs="?", help=what)
    what = "products to invent (1000)"
    serve.add_argument("--products", metavar="N", type=at_least(1), default=1000, help=what)
    serve.add_argument("--seed", type=int, default=0, help="of what is invented and drawn (0)")
    serve.add_argument("--goals", default="synthetic", help="synthetic (default) or human")
    serve.add_argument("--goal", type=at_least(0), help="the place of the only goal")
    serve.add_argument("--host", default="127.0.0.1", help="to listen on (127.0.0.1: this machine)")
    serve.add_argument("--port", type=at_least(0), default=3000, help="to listen on (3000); 0: any")
    args = parser.parse_args(words)
    return args.run(args)


def _make(args: argparse.Namespace) -> int:
    from foldgym.envs.shop.invent import write_catalogue

    folder = Path(args.output)
    write_catalogue(folder, args.count, args.seed, args.style)
    console.say(f"{folder}: {args.count} products")
    return 0


def _index(args: argparse.Namespace) -> int:
    from foldgym.envs.shop.catalogue import write_index
    from foldgym.envs.shop.reading import find_files, read_products

    files = find_files(Path(args.catalogue))
    started = perf_counter()
    count = write_index(Path(args.output), read_products(files, args.limit))
    console.say(f"{args.output}: {count} products, {perf_counter() - started:.1f} s")
    return 0


def _serve(args: argparse.Namespace) -> int:
    from foldgym.envs.shop.invent import invented
    from foldgym.envs.shop.reading import open_catalogue
    from foldgym.envs.shop.site import Site, SiteServer

    if args.goals not in ("synthetic", "human"):
        raise UserError(f"--goals must be synthetic or human, not {args.goals!r}")
    if args.catalogue:
        catalogue = open_catalogue(Path(args.catalogue).resolve())
    else:
        catalogue = invented(args.products, args.seed)
    goals = catalogue.goals(args.goals, args.seed)
    if not goals or (args.goal is not None and args.goal >= len(goals)):
        raise UserError(f"the catalogue has {len(goals)} {args.goals} goals, which are not enough")
    site = Site(catalogue, goals, args.goal, args.seed)
    server = SiteServer(site, args.host, args.port)
    console.note(f"{len(catalogue)} products at {server.url}/; Ctrl-C stops it")
    server.run()
    return 0
