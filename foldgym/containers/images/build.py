"""From a recipe to what a box is made of: a tag for Docker, a folder for bubblewrap."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from foldgym.containers.images import engine, tree
from foldgym.containers.images.builtin import BASE
from foldgym.containers.images.furnish import Tell, furnish
from foldgym.containers.images.recipe import Debian, Recipe, grounded, tag
from foldgym.containers.images.store import half_made, locked, place
from foldgym.errors import UnknownName, UserError

BACKENDS = ("docker", "bubblewrap")


def build(recipe: Recipe, backend: str = "docker", progress: Tell | None = None) -> str:
    """What to give as `BoxSpec.image`: a tag (docker) or a folder (bubblewrap); made if missing.

        image = build(Recipe("toolz", base=PYTHON_TESTS, files={...}), "docker")
        spec = BoxSpec(image=image, environment=recipe.variables)

    Its base is made first. `progress` is told in a few words what is being done. A build that is
    interrupted leaves nothing that would be taken for an image, and several processes may ask for
    the same one. Raises `UserError` where something is missing on this machine, with what to do.
    """
    if backend not in BACKENDS:
        raise UnknownName("image backend", backend, BACKENDS)
    recipe = grounded(recipe)
    if backend == "docker":
        _image(recipe, engine.connect(), progress or _silent)
        return tag(recipe)
    return str(_tree(recipe, progress or _silent))


def find(recipe: Recipe, backend: str = "docker") -> str:
    """What `build` would return if it is there already, else an empty string."""
    if backend == "docker":
        return tag(recipe) if engine.have(engine.connect(), tag(recipe)) else ""
    folder = place(tag(recipe)) / "root"
    return str(folder) if folder.is_dir() else ""


def unavailable(backend: str, recipe: Recipe = BASE) -> str:
    """Why a recipe cannot be built here for a backend; empty if it can, or is there already."""
    recipe = grounded(recipe)
    try:
        if backend == "docker":
            engine.connect()
        if find(recipe, backend):
            return ""
    except UserError as problem:
        return str(problem)
    if backend == "docker" and isinstance(recipe.root, str):
        return ""
    return tree.missing()


def _silent(_: str) -> None:
    return None


def _image(recipe: Recipe, client: Any, progress: Tell) -> None:
    with locked(tag(recipe)):
        if engine.have(client, tag(recipe)):
            return
        if isinstance(recipe.base, Debian):
            root = _tree_of(recipe, progress)
            progress(f"{recipe.name}: import into Docker")
            engine.load(recipe, root, client)
            return
        if isinstance(recipe.base, Recipe):
            _image(recipe.base, client, progress)
            base = tag(recipe.base)
        else:
            base = recipe.base
            progress(f"{recipe.name}: pull {base}")
            engine.fetch(base, client)
        engine.layer(recipe, base, client, lambda what: progress(f"{recipe.name}: {what}"))


def _tree(recipe: Recipe, progress: Tell) -> Path:
    with locked(tag(recipe)):
        return _tree_of(recipe, progress)


def _tree_of(recipe: Recipe, progress: Tell) -> Path:
    """Called under the lock of the recipe's tag."""
    final = place(tag(recipe)) / "root"
    if final.is_dir():
        return final

    def tell(what: str) -> None:
        progress(f"{recipe.name}: {what}")

    base = _tree(recipe.base, progress) if isinstance(recipe.base, Recipe) else None
    with half_made(recipe) as root:
        if isinstance(recipe.base, Debian):
            tree.bootstrap(recipe.base, recipe.debian, root, tell)
        elif base is not None:
            tell("copy its base")
            tree.copy(base, root)
        elif isinstance(recipe.base, str):
            client = engine.connect()
            tell(f"export {recipe.base}")
            engine.fetch(recipe.base, client)
            engine.save(recipe.base, root, client)
        furnish(recipe, tree.Tree(root), tell)
        root.chmod(0o755)
    return final


def missing(recipe: Recipe, backend: str = "docker") -> list[Recipe]:
    """The recipes that `build` would have to make, lowest first."""
    recipe = grounded(recipe)
    if find(recipe, backend):
        return []
    below = missing(recipe.base, backend) if isinstance(recipe.base, Recipe) else []
    return [*below, recipe]
