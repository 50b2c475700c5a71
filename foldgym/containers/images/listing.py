"""The images that were made on this machine, and their removal."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from foldgym.containers.images import engine
from foldgym.containers.images.store import discard, images_folder, locked, place
from foldgym.errors import UnknownName, UserError


@dataclass(frozen=True, slots=True)
class Made:
    """`Made("foldgym/base:3f09...", "docker", "foldgym/base:3f09...", 290_000_000, {...})`.

    `image` is what a box is given; `size` is in bytes, of an image with the layers below it;
    `recipe` is all that went in.
    """

    tag: str
    backend: str
    image: str
    size: int
    recipe: dict[str, Any]


def made() -> list[Made]:
    """Trees, then images of the engine if one answers, by name."""
    return [*_trees(), *_images()]


def _trees() -> list[Made]:
    found: list[Made] = []
    for folder in sorted(images_folder().iterdir()):
        try:
            facts = json.loads((folder / "recipe.json").read_text())
        except (OSError, ValueError):
            continue
        image = str(folder / "root")
        found.append(Made(facts["tag"], "bubblewrap", image, facts["size"], facts["recipe"]))
    return found


def _images() -> list[Made]:
    try:
        client = engine.connect()
    except UserError:
        return []
    found: list[Made] = []
    for image in client.images.list(filters={"label": engine.LABEL}):
        recipe = json.loads(image.labels[engine.LABEL])
        found += [
            Made(name, "docker", name, int(image.attrs["Size"]), recipe)
            for name in image.tags
            if name.startswith("foldgym/")
        ]
    return sorted(found, key=lambda each: each.tag)


def remove(name: str, backend: str = "") -> list[Made]:
    """Remove images by recipe name or tag, on one backend or both; those removed are returned.

    Raises `UnknownName` if there is none, and `UserError` if the engine keeps it.
    """
    everything = made()
    chosen = [
        each
        for each in everything
        if name in (each.tag, each.tag.removeprefix("foldgym/").partition(":")[0])
        and backend in ("", each.backend)
    ]
    if not chosen:
        raise UnknownName("image", name, {each.tag for each in everything})
    for each in chosen:
        with locked(each.tag):
            if each.backend == "docker":
                _remove_image(each.tag)
            else:
                folder = place(each.tag)
                gone = folder.with_name(f".{folder.name}.half")
                discard(gone)
                folder.rename(gone)
                discard(gone)
    return chosen


def _remove_image(name: str) -> None:
    from docker.errors import DockerException

    try:
        engine.connect().images.remove(name)
    except DockerException as problem:
        said = " ".join(str(problem).split())[-300:]
        raise UserError(f"{name} was not removed: {said} (is a box of it open?)") from None
