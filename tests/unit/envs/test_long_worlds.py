"""Every long-horizon world: its oracle never fails, whoever does nothing gets nothing."""

from __future__ import annotations

import pytest

from foldgym.envs.registry import specs
from foldgym.testing.validate import validate

WORLDS = [each.name for each in specs() if str(each.entry).startswith("foldgym.envs.long.")]


@pytest.mark.parametrize("name", WORLDS)
def test_the_oracle_solves_200_of_200(name: str) -> None:
    optimal, *others, at_random, nobody = validate(name, 200)
    assert (optimal.player, optimal.score, optimal.success) == ("optimal", 1.0, 1.0)
    assert nobody.score <= 0.02
    assert at_random.score <= 0.1
    for each in others:
        assert each.score < 1.0
