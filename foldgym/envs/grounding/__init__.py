"""GUI grounding offline: one screen, one instruction, one action, scored without a device."""

from foldgym.envs.grounding.formats import FORMATS, read_steps
from foldgym.envs.grounding.steps import Box, GuiStep, Point, Verdict, judge
from foldgym.envs.grounding.world import Grounding
from foldgym.rewards.voting import Consensus, region_vote

__all__ = [
    "FORMATS",
    "Box",
    "Consensus",
    "Grounding",
    "GuiStep",
    "Point",
    "Verdict",
    "judge",
    "read_steps",
    "region_vote",
]
