"""Where vLLM is: an interpreter that has it, in this environment or one of its own."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

from foldgym.errors import ConfigError

VARIABLE = "FOLDGYM_VLLM_PYTHON"
_LOCAL = Path(".vllm/bin/python")


def find_python(named: str = "") -> str:
    """The interpreter that has vLLM: as named, $FOLDGYM_VLLM_PYTHON, .vllm/bin/python, or this one.

    Raises `ConfigError` that says how to get one.
    """
    for source, path in (("engine.python", named), (VARIABLE, os.environ.get(VARIABLE, ""))):
        if path and not os.access(path, os.X_OK):
            raise ConfigError(f"{source}: {path} is no program that could be run")
        if path:
            return path
    if os.access(_LOCAL, os.X_OK):
        return str(_LOCAL.absolute())
    if importlib.util.find_spec("vllm") is not None:
        return sys.executable
    raise ConfigError(
        "engine.use: vLLM is not installed: pip install 'foldgym[vllm]' where there is a GPU, or "
        f"give it a virtual environment of its own and name that with engine.python or {VARIABLE} "
        "(in a checkout: make vllm)"
    )
