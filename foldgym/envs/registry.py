"""Names for environments: what exists, how it is made, and the same names inside Gymnasium."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from foldgym.envs.built_in import BUILT_IN, EnvSpec
from foldgym.errors import DataError, MissingExtra, UnknownName, UserError
from foldgym.loading import file_of, load_file

if TYPE_CHECKING:
    from foldgym.envs.base import Env
    from foldgym.envs.transforms import Layer

GROUP = "foldgym.envs"
"""Entry point group of plug-ins: each names an `EnvSpec`, or a function that registers some."""


@dataclass(frozen=True, slots=True)
class Maker:
    """Makes one environment per call. Picklable, so that it also works in another process.

    `layers` are the transforms around it, the innermost first. A keyword with a dot is an option
    of one of them: `{"objectives.k": 4}`.
    """

    spec: EnvSpec
    kwargs: Mapping[str, Any] = field(default_factory=dict[str, Any])
    layers: tuple[Layer, ...] = ()

    def __call__(self) -> Env:
        """A new environment."""
        own = {key: value for key, value in self.kwargs.items() if "." not in key}
        env = _build(self.spec, own)
        if not self.layers and len(own) == len(self.kwargs):
            return env
        from foldgym.envs.transforms import build, title

        names = [title(use) for use, _ in self.layers]
        over: dict[str, dict[str, Any]] = {}
        for key in self.kwargs.keys() - own.keys():
            name, _, option = key.partition(".")
            if name not in names:
                raise UnknownName(f"transform of {self.spec.name}", name, names)
            over.setdefault(name, {})[option] = self.kwargs[key]
        for name, layer in zip(names, self.layers, strict=True):
            env = build(env, layer, over.get(name))
        return env

    def turns(self, unlimited: int) -> int:
        """The limit on turns of a rollout: the spec's (or this one), as the transforms stretch it.

        Makes the environment once, so that a wrong option is found before anything is played.
        """
        from foldgym.envs.transforms.base import stretched

        env = self()
        env.close()
        return stretched(env, self.spec.max_turns or unlimited)

    def only_measuring(self) -> list[str]:
        """The transforms among its layers that are for evaluation only."""
        from foldgym.envs.transforms import class_of

        return [use for use, _ in self.layers if not getattr(class_of(use), "trains", True)]


_specs: dict[str, EnvSpec] = {each.name: each for each in BUILT_IN}
_loaded: list[bool] = []  # not empty once plug-ins were looked for


def register(
    spec: EnvSpec | str, entry: str | Callable[..., Env] | None = None, **more: Any
) -> EnvSpec:
    """Give an environment a name: `register("acme/Maze-v0", Maze, max_turns=20)`.

    Takes an `EnvSpec` or its fields. Registering the same again changes nothing; a different
    environment under a taken name raises `UserError`.
    """
    if isinstance(spec, str):
        if entry is None:
            raise UserError(f"register({spec!r}, ...) needs the class or its import path")
        try:
            spec = EnvSpec(spec, entry, **more)
        except TypeError:
            known = [each for each in EnvSpec.__slots__ if each not in ("name", "entry")]
            wrong = next(each for each in more if each not in known)
            raise UnknownName("option of register", wrong, known) from None
    elif entry is not None or more:
        raise UserError("register takes an EnvSpec alone, or a name with its fields")
    _check_name(spec.name)
    spec = replace(spec, entry=_importable(spec.entry))
    there = _specs.get(spec.name)
    if there is not None and there != spec:
        raise UserError(
            f"environment {spec.name!r} is already registered, with another definition "
            f"({there.entry}); choose another name or raise its version"
        )
    _specs[spec.name] = spec
    if "gymnasium.envs.registration" in sys.modules:
        _tell_gymnasium(spec)
    return spec


def make(name: str, /, **kwargs: Any) -> Env:
    """Make an environment by its registered name, `"module:Class"` or `"path/to/file.py:Class"`.

    `transforms=[{"use": "objectives", "k": 4}, "faults"]` wraps it, the first one innermost. Raises
    `UnknownName` for a name or keyword that nothing answers to, `MissingExtra` when an optional
    dependency is missing.
    """
    return maker(name, **kwargs)()


def maker(name: str, /, transforms: Sequence[str | Mapping[str, Any]] = (), **kwargs: Any) -> Maker:
    """What `open_worker` wants: a picklable function that makes this environment."""
    if not transforms:
        return Maker(spec(name), kwargs)
    from foldgym.envs.transforms import layers

    return Maker(spec(name), kwargs, layers(transforms))


def spec(name: str) -> EnvSpec:
    """The definition behind a name. For import paths and files one is made up on the spot."""
    if name in _specs:
        return _specs[name]
    if ":" in name:
        return EnvSpec(name, _importable(name))
    load_plugins()
    if name in _specs:
        return _specs[name]
    hint = 'Your own: "path/to/file.py:Class" or "module:Class"'
    raise UnknownName("environment", name, _specs, hint)


def at_once(asked: int, played: Iterable[EnvSpec]) -> int:
    """Episodes at a time: where one plays in a browser, as many as it has contexts at most.

    An engine may wait for all that play before it answers any, and those without a context would
    never ask.
    """
    if not any(each.browser for each in played):
        return asked
    from foldgym.containers.browser import most_contexts

    return min(asked, most_contexts())


def specs(ready: bool = False) -> tuple[EnvSpec, ...]:
    """Every registered environment, plug-ins included, in the order of their names.

    With `ready`, without those that need what is not installed.
    """
    load_plugins()
    found = tuple(_specs[name] for name in sorted(_specs))
    return tuple(each for each in found if _ready(each)) if ready else found


def _ready(spec: EnvSpec) -> bool:
    if spec.sandbox:
        from foldgym.containers import BACKENDS, available

        if all(available(name) for name in BACKENDS if name != "process"):
            return False
    if spec.browser:
        from foldgym.containers.browser import unavailable

        if unavailable():
            return False
    return not spec.needs or importlib.util.find_spec(spec.needs) is not None


def load_plugins() -> None:
    """Load the entry points of group `foldgym.envs`, once; a broken one is only a warning."""
    if _loaded:
        return
    _loaded.append(True)
    from importlib.metadata import entry_points

    for point in sorted(entry_points(group=GROUP), key=lambda each: each.name):
        try:
            found = point.load()
            if isinstance(found, EnvSpec):
                register(found)
            elif callable(found):
                found()
            else:
                raise TypeError(f"{point.value} is neither an EnvSpec nor a function")
        except Exception as problem:
            warnings.warn(
                f"plug-in {point.name!r} ({point.value}) was left out: "
                f"{type(problem).__name__}: {problem}",
                stacklevel=2,
            )


def load_module(target: str) -> ModuleType:
    """Import `"package.module"` or run `"path/to/file.py"` once per process.

    Raises `DataError` for a file or module that is not there; its own exceptions propagate.
    """
    if not target.endswith(".py"):
        try:
            return importlib.import_module(target)
        except ModuleNotFoundError as problem:
            if problem.name and (target == problem.name or target.startswith(problem.name + ".")):
                raise DataError(f"there is no module {target!r} to import") from problem
            raise
    return load_file(target)


# ---------------------------------------------------------------- making


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[\w-]+/[\w.-]+", name):
        raise UserError(f"environment name {name!r} must look like 'acme/Maze-v0'")


def _importable(entry: str | Callable[..., Env]) -> str | Callable[..., Env]:
    """The import path of a class where there is one, since a path travels between processes."""
    if isinstance(entry, str):
        where, _, attribute = entry.rpartition(":")
        return f"{Path(where).resolve()}:{attribute}" if where.endswith(".py") else entry
    module, name = getattr(entry, "__module__", ""), getattr(entry, "__qualname__", "<")
    if "<" in name:
        return entry
    if file := file_of(module):
        return f"{file}:{name}"
    if module == "__main__":
        file = getattr(sys.modules["__main__"], "__file__", None)
        return f"{Path(file).resolve()}:{name}" if file and file.endswith(".py") else entry
    return f"{module}:{name}"


def _entry(spec: EnvSpec) -> Callable[..., Env]:
    if not isinstance(spec.entry, str):
        return spec.entry
    where, colon, attribute = spec.entry.rpartition(":")
    if not colon:
        raise UserError(f"environment {spec.name}: entry {spec.entry!r} must be 'module:Class'")
    try:
        found: Any = load_module(where)
    except ModuleNotFoundError as problem:
        if spec.extra:
            raise MissingExtra(spec.name, spec.extra) from problem
        raise
    for part in attribute.split("."):
        if not hasattr(found, part):
            known = [name for name, each in vars(found).items() if _is_env(each)]
            raise UnknownName(f"environment of {where}", attribute, known)
        found = getattr(found, part)
    return found


def _is_env(candidate: Any) -> bool:
    from foldgym.envs.base import Env, ToolEnv

    return isinstance(candidate, type) and issubclass(candidate, Env) and candidate is not ToolEnv


def _build(spec: EnvSpec, kwargs: Mapping[str, Any]) -> Env:
    create = _entry(spec)
    merged = {**spec.kwargs, **kwargs}
    accepted, open_ended = _accepted(create)
    render_mode = None
    if "render_mode" in merged and "render_mode" not in accepted and not open_ended:
        render_mode = merged.pop("render_mode")
    for name in merged:
        if name not in accepted and not open_ended:
            known = [each for each in accepted if each != "render_mode"]
            raise UnknownName(f"option of {spec.name}", name, known)
    env = create(**merged)
    if render_mode is not None:
        env.render_mode = render_mode
    return env


def _accepted(create: Callable[..., Any]) -> tuple[list[str], bool]:
    """Keyword names a class or function takes, and whether it takes any others as well.

    A class that hands `**kwargs` to its base takes what the base takes.
    """
    steps: list[Any] = [create]
    if isinstance(create, type):
        steps = [vars(base)["__init__"] for base in create.__mro__ if "__init__" in vars(base)]
    names: list[str] = []
    for step in steps:
        if step is object.__init__:
            return names, False
        parameters = list(inspect.signature(step).parameters.values())
        if isinstance(create, type):
            parameters = parameters[1:]
        plain = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        names += [each.name for each in parameters if each.kind in plain]
        if not any(each.kind is each.VAR_KEYWORD for each in parameters):
            return names, False
    return names, True


# ---------------------------------------------------------------- Gymnasium


def create(*, foldgym_name: str, **kwargs: Any) -> Env:
    """Gymnasium's way in: `gymnasium.make("foldgym/GuessNumber-v0")` ends up here."""
    return make(foldgym_name, **kwargs)


def _tell_gymnasium(spec: EnvSpec) -> None:
    from gymnasium.envs.registration import register as register_there
    from gymnasium.envs.registration import registry

    if spec.name not in registry:
        register_there(
            spec.name,
            entry_point=f"{__name__}:create",
            vector_entry_point="foldgym.envs.vector:create",
            max_episode_steps=spec.max_turns or None,
            kwargs={"foldgym_name": spec.name},
        )


def register_with_gymnasium() -> None:
    """Make every registered environment known to Gymnasium, now or when it is first imported.

    Gymnasium 1.x looks for no plug-ins, so `import foldgym` calls this. It costs nothing until
    Gymnasium itself is imported, before or after foldgym.
    """
    if "gymnasium.envs.registration" in sys.modules:
        for each in specs():
            _tell_gymnasium(each)
    elif not any(isinstance(finder, _Watch) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Watch())


class _Watch:
    """An import finder that waits for Gymnasium and then steps aside."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != "gymnasium":
            return None
        sys.meta_path.remove(self)
        found = importlib.util.find_spec(name)
        if found is not None and found.loader is not None:
            loader: Any = found.loader
            run = loader.exec_module

            def exec_module(module: ModuleType) -> None:
                run(module)
                register_with_gymnasium()

            loader.exec_module = exec_module
        return found
