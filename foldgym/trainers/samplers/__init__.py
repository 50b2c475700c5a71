"""Samplers: what is played, and which groups are kept; one page each, named here.

A sampler is made by a function `(envs, seed, group_size, **options)`, where `envs` maps a name to
its weight. `curriculum` puts together one member per slot (`SLOTS`); to add a member, write it and
a line in that table.
"""

from collections.abc import Callable

from foldgym.trainers.samplers.base import TaskSampler
from foldgym.trainers.samplers.curriculum import SLOTS, curriculum
from foldgym.trainers.samplers.dapo import dapo
from foldgym.trainers.samplers.settle import settle
from foldgym.trainers.samplers.uniform import uniform
from foldgym.types import Sampler

SAMPLERS: dict[str, Callable[..., Sampler]] = {
    "uniform": uniform,
    "dapo": dapo,
    "curriculum": curriculum,
}

__all__ = ["SAMPLERS", "SLOTS", "TaskSampler", "curriculum", "dapo", "settle", "uniform"]
