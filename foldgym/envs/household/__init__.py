"""A household as in ALFWorld: rooms to search, things to clean, heat, cool and put away."""

from __future__ import annotations

from foldgym.envs.household.env import Household
from foldgym.envs.household.games import read_game, write_game
from foldgym.envs.household.houses import furnish

__all__ = ["Household", "furnish", "read_game", "write_game"]
