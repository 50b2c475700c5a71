"""Samplers: what is played, and which groups are kept; one page each, named here.

A sampler is made by a function `(envs, seed, group_size, **options)`, where `envs` maps a name to
its weight. `TaskSampler` composes it of slots; to add one, write the function and a line below.
"""

from collections.abc import Callable

from foldgym.trainers.samplers.base import TaskSampler
from foldgym.trainers.samplers.dapo import dapo
from foldgym.trainers.samplers.uniform import uniform
from foldgym.types import Sampler

SAMPLERS: dict[str, Callable[..., Sampler]] = {"uniform": uniform, "dapo": dapo}

__all__ = ["SAMPLERS", "TaskSampler", "dapo", "uniform"]
