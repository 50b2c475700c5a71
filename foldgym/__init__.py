"""foldgym: the gym in which language-model agents learn to use tools over long horizons.

Start with `foldgym.types`. Names below load when first used, so `import foldgym` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from foldgym.envs.base import Env as Env
    from foldgym.envs.base import ToolEnv as ToolEnv
    from foldgym.envs.registry import EnvSpec as EnvSpec
    from foldgym.envs.registry import make as make
    from foldgym.envs.registry import register as register
    from foldgym.tools import tool as tool
    from foldgym.types import Message as Message
    from foldgym.types import Task as Task
    from foldgym.types import ToolCall as ToolCall

__version__ = "0.1.0"

_HOMES = {
    "Env": "foldgym.envs.base",
    "ToolEnv": "foldgym.envs.base",
    "EnvSpec": "foldgym.envs.registry",
    "make": "foldgym.envs.registry",
    "register": "foldgym.envs.registry",
    "tool": "foldgym.tools",
    "Message": "foldgym.types",
    "Task": "foldgym.types",
    "ToolCall": "foldgym.types",
}
__all__ = [*_HOMES, "__version__"]  # pyright: ignore[reportUnsupportedDunderAll]


import_module("foldgym.envs")  # gymnasium.make then knows our names; imports nothing heavy


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'foldgym' has no attribute {name!r}")
