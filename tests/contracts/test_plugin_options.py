"""Every registered plug-in: its options are checked when a run file is read."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from foldgym.config.plugins import bind
from foldgym.errors import ConfigError
from foldgym.rewards import REWARDS
from foldgym.rewards.rubric import needs
from foldgym.trainers.advantages import ADVANTAGES
from foldgym.trainers.losses import LOSSES

TABLES: dict[str, Any] = {"advantage": ADVANTAGES, "reward": REWARDS, "loss": LOSSES}
NAMES = [(kind, name) for kind, table in TABLES.items() for name in table]


def options(fn: Any) -> list[str]:
    return [
        parameter.name
        for parameter in inspect.signature(fn).parameters.values()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    ]


@pytest.mark.parametrize(("kind", "name"), NAMES)
def test_a_value_of_the_wrong_type_is_refused(kind: str, name: str) -> None:
    fn = TABLES[kind][name]
    for option in options(fn):
        with pytest.raises(ConfigError, match=rf"{option}.*is not allowed"):
            bind(kind, fn, {option: {"of": ["the wrong type"]}})


@pytest.mark.parametrize(("kind", "name"), NAMES)
def test_what_a_run_fills_is_no_option(kind: str, name: str) -> None:
    fn = TABLES[kind][name]
    for given in needs(fn):
        with pytest.raises(ConfigError, match=rf"{given}: unknown option"):
            bind(kind, fn, {given: 1})
