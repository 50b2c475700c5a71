"""`foldgym images build|list|remove|doctor`: what the boxes of this machine are made of."""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

from foldgym import console
from foldgym.cli.options import add_json, write_json
from foldgym.errors import UnknownName, UserError

if TYPE_CHECKING:
    from foldgym.containers.images import Recipe

_BACKENDS = ("docker", "bubblewrap")


def run_images(parser: argparse.ArgumentParser, words: list[str]) -> int:
    """Dispatches to the subcommand."""
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, run: Any, what: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=what, description=what[0].upper() + what[1:] + ".")
        made.set_defaults(run=run)
        add_json(made)
        return made

    build = command("build", _build, "make images that are missing, with what they stand on")
    build.add_argument(
        "names", nargs="*", metavar="RECIPE", help="a built-in one or FILE.py:NAME (base)"
    )
    build.add_argument(
        "--backend",
        choices=_BACKENDS,
        help="docker makes an image, bubblewrap a folder (docker if an engine answers)",
    )
    build.add_argument(
        "--from",
        dest="image",
        metavar="IMAGE",
        help="stand on this image of a registry instead of a Debian made here",
    )
    command("list", _list, "show the images that were made here")
    remove = command("remove", _remove, "remove images")
    remove.add_argument("name", metavar="RECIPE|TAG", help="a recipe's name, or one tag")
    remove.add_argument("--backend", choices=_BACKENDS, default="", help="only of this one")
    command("doctor", _doctor, "say what can be built here, and what mends the rest")
    args = parser.parse_args(words)
    return args.run(args)


def _recipe(name: str, image: str | None) -> Recipe:
    from foldgym.containers.images import RECIPES, Recipe
    from foldgym.loading import load_file

    file, colon, attribute = name.rpartition(":")
    if colon:
        found = getattr(load_file(file), attribute, None)
        if not isinstance(found, Recipe):
            raise UserError(f"{attribute!r} in {file} is no Recipe, but {found!r}")
    elif name in RECIPES:
        found = RECIPES[name]
    else:
        raise UnknownName("recipe", name, RECIPES, "Or give FILE.py:NAME")
    return _standing_on(found, image) if image is not None else found


def _standing_on(recipe: Recipe, image: str) -> Recipe:
    from foldgym.containers.images import Recipe

    base = recipe.base
    return replace(recipe, base=_standing_on(base, image) if isinstance(base, Recipe) else image)


def _build(args: argparse.Namespace) -> int:
    from foldgym.containers.images import build, missing, tag, unavailable

    recipes = [_recipe(name, args.image) for name in args.names or ["base"]]
    sheets: list[dict[str, Any]] = []
    for recipe in recipes:
        backend = args.backend
        if backend is None:
            backend = "bubblewrap" if unavailable("docker", recipe) else "docker"
        began = perf_counter()
        layers = missing(recipe, backend)
        with console.progress(len(layers), recipe.name) as advance:

            def tell(what: str, advance: console.Advance = advance) -> None:
                advance(0, what)

            for layer in layers:
                build(layer, backend, tell)
                advance(1, f"{layer.name} is made")
        sheets.append(
            {
                "recipe": recipe.name,
                "tag": tag(recipe),
                "backend": backend,
                "image": build(recipe, backend),
                "made": [layer.name for layer in layers],
                "seconds": round(perf_counter() - began, 2),
            }
        )
    if write_json(args.json, sheets):
        for each in sheets:
            how = f"made in {each['seconds']:.1f} s" if each["made"] else "was there"
            console.say(f"{each['image']}  {how}")
    return 0


def _list(args: argparse.Namespace) -> int:
    from foldgym.containers.images import made

    found = made()
    if write_json(args.json, [asdict(each) for each in found]):
        if not found:
            console.say("no images (foldgym images build makes one)")
            return 0
        rows = [(each.tag, each.backend, each.size // 1_000_000, each.image) for each in found]
        console.table("", ("tag", "backend", "MB", "for BoxSpec.image"), rows)
    return 0


def _remove(args: argparse.Namespace) -> int:
    from foldgym.containers.images import remove

    gone = remove(args.name, args.backend)
    if write_json(args.json, [asdict(each) for each in gone]):
        for each in gone:
            console.say(f"removed {each.tag} ({each.backend})")
    return 0


def _doctor(args: argparse.Namespace) -> int:
    from foldgym.containers.images import BASE, find, unavailable

    sheet: list[dict[str, Any]] = []
    for backend in _BACKENDS:
        why = unavailable(backend)
        there = "" if why else find(BASE, backend)
        detail = why or (f"base is {there}" if there else "base can be built")
        sheet.append({"backend": backend, "ok": not why, "detail": detail})
    if write_json(args.json, sheet):
        rows = [("ok" if row["ok"] else "--", row["backend"], row["detail"]) for row in sheet]
        console.table("", ("", "backend", "found"), rows)
    return int(not any(row["ok"] for row in sheet))
