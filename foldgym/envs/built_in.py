"""The worlds that come with foldgym: their names, where they are, what they need."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from foldgym.envs.base import Env


@dataclass(frozen=True, slots=True)
class EnvSpec:
    """`EnvSpec("acme/Maze-v0", "acme.maze:Maze", {"size": 5}, "Find the way out.")`.

    `entry` is "module:attribute", "path/to/file.py:attribute" or the class itself. `budget` is in
    seconds of wall clock per call; `max_turns` is a default limit for rollouts, 0 for none;
    `extra` names the optional dependency group the environment needs, and `needs` the module that
    comes with it. `sandbox`: whether it needs a sandbox that isolates; `browser`: a Chromium.
    """

    name: str
    entry: str | Callable[..., Env]
    kwargs: Mapping[str, Any] = field(default_factory=dict[str, Any])
    description: str = ""
    isolation: Literal["thread", "process"] = "thread"
    budget: float = 30.0
    splits: tuple[str, ...] = ("train", "val", "test")
    extra: str = ""
    max_turns: int = 0
    needs: str = ""
    sandbox: bool = False
    browser: bool = False


_GAMES = "foldgym.envs.games"
BUILT_IN = (
    EnvSpec(
        "foldgym/Grounding-v0",
        "foldgym.envs.grounding.world:Grounding",
        description="One screen, one instruction: click the right place or take the right action.",
        extra="browser",
        max_turns=1,
        needs="PIL",
    ),
    EnvSpec(
        "foldgym/GuessNumber-v0",
        f"{_GAMES}:GuessNumber",
        description="Find a secret number; every guess is answered by higher or lower.",
        max_turns=12,
    ),
    EnvSpec(
        "foldgym/KeyDoor-v0",
        f"{_GAMES}:KeyDoor",
        description="Walk through rooms, find the key, open the door that hides the treasure.",
        max_turns=30,
    ),
    EnvSpec(
        "foldgym/Arithmetic-v0",
        f"{_GAMES}:Arithmetic",
        description="Work out an expression with a calculator that does one step at a time.",
        max_turns=10,
    ),
    EnvSpec(
        "foldgym/FictionalSearch-v0",
        "foldgym.envs.fictional:FictionalSearch",
        description="Answer questions of several hops about an invented world by searching it.",
        max_turns=12,
    ),
    EnvSpec(
        "foldgym/FictionalChain-v0",
        "foldgym.envs.fictional_chain:FictionalChain",
        description="Search the answers to linked questions one by one, then report them all.",
        max_turns=32,
    ),
    EnvSpec(
        "foldgym/PyDocsSearch-v0",
        "foldgym.envs.pydocs:PyDocsSearch",
        description="Answer questions about Python's standard library by searching its docs.",
        budget=120.0,
        max_turns=12,
    ),
    EnvSpec(
        "foldgym/FictionalQA-v0",
        "foldgym.envs.qa.fictional_qa:FictionalQA",
        description="Search, open and look through the pages of an invented world of any size.",
        max_turns=16,
    ),
    EnvSpec(
        "foldgym/PyDocsQA-v0",
        "foldgym.envs.qa.pydocs_qa:PyDocsQA",
        description="Search, open and look through pages about Python's standard library.",
        budget=120.0,
        max_turns=16,
    ),
    EnvSpec(
        "foldgym/ReasoningGym-v0",
        "foldgym.envs.reasoning:ReasoningGym",
        description="One question of a reasoning-gym dataset, scored by its own checker.",
        extra="reasoning",
        max_turns=3,
        needs="reasoning_gym",
    ),
    EnvSpec(
        "foldgym/RunningSum-v0",
        "foldgym.envs.long.running_sum:RunningSum",
        description="Add the values of the words of each turn to a sum, for many turns.",
    ),
    EnvSpec(
        "foldgym/Saturn-v0",
        "foldgym.envs.long.saturn:Saturn",
        description="Find an assignment that satisfies every clause; the size sets the difficulty.",
        max_turns=3,
    ),
    EnvSpec(
        "foldgym/HiddenGrid-v0",
        "foldgym.envs.long.hidden_grid:HiddenGrid",
        description="Walk over letters with hidden effects, commit the effects, predict outcomes.",
    ),
    EnvSpec(
        "foldgym/HiddenSequence-v0",
        "foldgym.envs.long.hidden_sequence:HiddenSequence",
        description="Feed strings to a machine, commit its hidden rules, predict its outcomes.",
    ),
    EnvSpec(
        "foldgym/HiddenGenetics-v0",
        "foldgym.envs.long.hidden_genetics:HiddenGenetics",
        description="Breed organisms with hidden laws, commit the laws, predict organisms.",
    ),
    EnvSpec(
        "foldgym/FunctionOperator-v0",
        "foldgym.envs.long.rule_functions:FunctionOperator",
        description="Find the hidden coefficients of functions by feeding numbers to them.",
    ),
    EnvSpec(
        "foldgym/EscapeRoom-v0",
        "foldgym.envs.long.rule_gallery:EscapeRoom",
        description="Find the rule behind a door's code among the paintings of a gallery.",
    ),
    EnvSpec(
        "foldgym/Reactor-v0",
        "foldgym.envs.long.rule_reactor:Reactor",
        description="Make a string from letters that combine by a hidden rule.",
    ),
    EnvSpec(
        "foldgym/Sokoban-v0",
        "foldgym.envs.long.sokoban:Sokoban",
        description="Push boxes onto targets, where a wrong push cannot be undone.",
    ),
    EnvSpec(
        "foldgym/Household-v0",
        "foldgym.envs.household.env:Household",
        description="Find, clean, heat, cool and put away things by commands, as in ALFWorld.",
    ),
    EnvSpec(
        "foldgym/Swe-v0",
        "foldgym.envs.swe.world:Swe",
        description="Repair a project in a sandbox; hidden tests decide, in another one.",
        budget=4000.0,
        max_turns=60,
        sandbox=True,
    ),
    EnvSpec(
        "foldgym/Sites-v0",
        "foldgym.envs.web.sites.world:Sites",
        description="Chores on a forum, a tracker, a file manager and a calendar, in a browser.",
        budget=120.0,
        extra="browser",
        max_turns=30,
        needs="playwright",
        browser=True,
    ),
    EnvSpec(
        "foldgym/Shop-v0",
        "foldgym.envs.shop.env:Shop",
        description="Find what a customer wants, choose its options and buy it, as in WebShop.",
        budget=120.0,
        extra="shop",
        max_turns=15,
        needs="rapidfuzz",
    ),
    EnvSpec(
        "foldgym/MiniWoB-v0",
        "foldgym.envs.web.miniwob:MiniWoB",
        description="One of 130 small tasks on web pages, in a real browser.",
        budget=120.0,
        extra="browser",
        max_turns=20,
        needs="miniwob",
        browser=True,
    ),
)
