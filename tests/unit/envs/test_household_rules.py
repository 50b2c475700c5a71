"""The household by hand: its rules, and ALFWorld's words for them."""

from __future__ import annotations

import pytest

from foldgym.envs.household.goals import NEVER, All
from foldgym.envs.household.pddl import read_problem, read_tree
from foldgym.envs.household.rules import after, won
from foldgym.envs.household.tasks import KINDS, described, formula, sentence
from foldgym.envs.household.texts import DIALECTS, HELP, NOTHING, admissible, feedback, opening
from foldgym.envs.household.world import World, build
from foldgym.errors import DataError

PROBLEM = """
(define (problem small)   ; a kitchen, written by hand
  (:domain alfred)
  (:metric minimize (total-cost))
  (:objects
    agent1 - agent
    Apple_bar_1 Apple_bar_2 Mug_bar_1 Knife_bar_1 DeskLamp_bar_1 - object
    Fridge_bar_1 Microwave_bar_1 CounterTop_bar_1 Toaster_bar_1 - receptacle
    Sink_bar_1_bar_SinkBasin - receptacle
    loc_bar_0 loc_bar_1 loc_bar_2 loc_bar_3 loc_bar_4 - location
    AppleType MugType KnifeType ButterKnifeType DeskLampType - otype
    FridgeType MicrowaveType SinkBasinType CounterTopType ToasterType - rtype)
  (:init
    (= (total-cost) 0)
    (= (distance loc_bar_0 loc_bar_1) 5)
    (atLocation agent1 loc_bar_0)
    (receptacleAtLocation Fridge_bar_1 loc_bar_1) (receptacleType Fridge_bar_1 FridgeType)
    (receptacleAtLocation Microwave_bar_1 loc_bar_2)
    (receptacleType Microwave_bar_1 MicrowaveType)
    (receptacleAtLocation CounterTop_bar_1 loc_bar_3)
    (receptacleType CounterTop_bar_1 CounterTopType)
    (receptacleAtLocation Toaster_bar_1 loc_bar_3) (receptacleType Toaster_bar_1 ToasterType)
    (receptacleAtLocation Sink_bar_1_bar_SinkBasin loc_bar_4)
    (receptacleType Sink_bar_1_bar_SinkBasin SinkBasinType)
    (openable Fridge_bar_1) (openable Microwave_bar_1)
    (objectType Apple_bar_1 AppleType) (objectType Apple_bar_2 AppleType)
    (objectType Mug_bar_1 MugType) (objectType Knife_bar_1 KnifeType)
    (objectType DeskLamp_bar_1 DeskLampType)
    (pickupable Apple_bar_1) (pickupable Apple_bar_2) (pickupable Mug_bar_1)
    (pickupable Knife_bar_1) (isReceptacleObject Mug_bar_1) (toggleable DeskLamp_bar_1)
    (cleanable Apple_bar_1) (heatable Apple_bar_1) (coolable Apple_bar_1) (sliceable Apple_bar_1)
    (canContain CounterTopType AppleType) (canContain ToasterType AppleType)
    (canContain FridgeType AppleType) (canContain CounterTopType KnifeType)
    (inReceptacle Apple_bar_1 CounterTop_bar_1) (objectAtLocation Apple_bar_1 loc_bar_3)
    (inReceptacle Apple_bar_2 Fridge_bar_1) (objectAtLocation Apple_bar_2 loc_bar_1)
    (inReceptacle Mug_bar_1 Fridge_bar_1) (objectAtLocation Mug_bar_1 loc_bar_1)
    (inReceptacle Knife_bar_1 CounterTop_bar_1) (objectAtLocation Knife_bar_1 loc_bar_3)
    (inReceptacle DeskLamp_bar_1 Toaster_bar_1) (objectAtLocation DeskLamp_bar_1 loc_bar_3))
  (:goal (and (exists (?r - receptacle) (exists (?o - object) (and
    (heatable ?o) (objectType ?o AppleType) (receptacleType ?r FridgeType)
    (isHot ?o) (inReceptacle ?o ?r)))))))
"""


def kitchen(goal: str = "", extra: str = "", without: str = "") -> World:
    text = PROBLEM.replace("(= (total-cost) 0)", extra)
    if without:
        assert without in text
        text = text.replace(without, "")
    if goal:
        text = f"{text[: text.index('(:goal')]}(:goal {goal}))"
    return build(read_problem(text))


def play(world: World, *commands: str, dialect: str = "move") -> list[str]:
    """What is said to each command, from the beginning."""
    state, said = world.start, list[str]()
    for command in commands:
        act = admissible(DIALECTS[dialect], world, state).get(command.strip())
        if act is None:
            said.append(NOTHING)
            continue
        state = after(world, state, act)
        said.append(feedback(DIALECTS[dialect], world, state, act))
        if won(world, state):
            said.append("won")
    return said


# ---------------------------------------------------------------- rules and words


def test_the_opening_and_the_middle_of_the_room() -> None:
    world = kitchen()
    assert opening(world, sentence("pick_heat_then_place_in_recep", "apple", "fridge", 1)) == (
        "-= Welcome to TextWorld, ALFRED! =-\n\nYou are in the middle of a room. Looking quickly "
        "around you, you see a countertop 1, a fridge 1, a microwave 1, a sinkbasin 1, and a "
        "toaster 1.\n\nYour task is to: heat some apple and put it in fridge."
    )
    assert play(world, "look", "inventory", "dance", "take apple 2 from countertop 1") == [
        "You are in the middle of a room. Looking quickly around you, you see nothing.",
        "You are not carrying anything.",
        "Nothing happens.",
        "Nothing happens.",
    ]
    started = kitchen(
        extra="(atLocation agent1 loc_bar_1)", without="(atLocation agent1 loc_bar_0)"
    )
    assert "\n\nYou are facing the fridge 1. Next to it, you see nothing.\n\n" in opening(
        started, ""
    )
    bare = read_problem(
        "(define (problem x) (:objects a - agent l - location) "
        "(:init (atlocation a l)) (:goal (and)))"
    )
    assert "you see nothing.\n\nx" in opening(build(bare), "x")


def test_a_whole_task() -> None:
    assert play(
        kitchen(),
        "go to countertop 1",
        "take apple 2 from countertop 1",
        "go to microwave 1",
        "heat apple 2 with microwave 1",
        "examine apple 2",
        "go to fridge 1",
        "move apple 2 to fridge 1",
        "open fridge 1",
        "inventory",
        "move apple 2 to fridge 1",
    ) == [
        "You arrive at countertop 1. On the countertop 1, you see a apple 2, and a knife 1.",
        "You pick up the apple 2 from the countertop 1.",
        "You arrive at microwave 1. The microwave 1 is closed.",
        "You heat the apple 2 using the microwave 1.",  # closed as it is
        "This is a hot apple 2.",
        "You arrive at fridge 1. The fridge 1 is closed.",
        "Nothing happens.",
        "You open the fridge 1. The fridge 1 is open. In it, you see a apple 1, and a mug 1.",
        "You are carrying: a apple 2.",
        "You move the apple 2 to the fridge 1.",
        "won",
    ]


def test_what_can_be_done() -> None:
    world = kitchen()
    start = admissible(DIALECTS["move"], world, world.start)
    assert list(start) == [
        "go to countertop 1",
        "go to fridge 1",
        "go to microwave 1",
        "go to sinkbasin 1",
        "go to toaster 1",
        "help",
        "inventory",
        "look",
    ]
    state = after(world, world.start, start["go to countertop 1"])
    assert list(admissible(DIALECTS["put"], world, state)) == [
        "examine countertop 1",
        "examine toaster 1",
        "go to fridge 1",
        "go to microwave 1",
        "go to sinkbasin 1",  # and not to the toaster, which is here
        "inventory",
        "look",
        "take apple 2 from countertop 1",
        "take knife 1 from countertop 1",
        "use desklamp 1",
    ]


def test_two_receptacles_at_one_place() -> None:
    """What was taken from one and put into the other is seen next to them, as in ALFWorld."""
    assert play(
        kitchen(),
        "go to toaster 1",
        "look",
        "take apple 2 from countertop 1",
        "move apple 2 to toaster 1",
        "look",
        "take apple 2 from toaster 1",
        "look",
        "move apple 2 to countertop 1",
        "look",
        "take apple 2 from countertop 1",
        "move apple 2 to countertop 1",
        "examine toaster 1",
    )[1:] == [
        "You are facing the countertop 1, and toaster 1. Next to it, you see nothing.",
        "You pick up the apple 2 from the countertop 1.",
        "You move the apple 2 to the toaster 1.",
        "You are facing the countertop 1, and toaster 1. Next to it, you see a apple 2.",
        "You pick up the apple 2 from the toaster 1.",
        "You are facing the countertop 1, and toaster 1. Next to it, you see nothing.",
        "You move the apple 2 to the countertop 1.",
        "You are facing the countertop 1, and toaster 1. Next to it, you see a apple 2.",
        "You pick up the apple 2 from the countertop 1.",
        "You move the apple 2 to the countertop 1.",
        "On the toaster 1, you see a desklamp 1.",
    ]


def test_states_of_objects() -> None:
    fetch = ("go to countertop 1", "take apple 2 from countertop 1")
    wash = ("go to sinkbasin 1", "clean apple 2 with sinkbasin 1")
    heat = ("go to microwave 1", "heat apple 2 with microwave 1")
    cool = ("go to fridge 1", "cool apple 2 with fridge 1")
    look = ("examine apple 2",)
    world = kitchen()
    assert play(world, *fetch, *look)[-1] == "There's nothing special about apple 2."
    assert play(world, *fetch, *wash, *look)[-1] == "This is a clean apple 2."
    assert play(world, *fetch, *cool, *look)[-1] == "This is a cold apple 2."
    assert play(world, *fetch, *heat, *cool, *look)[-1] == "This is a cold apple 2."
    assert play(world, *fetch, *cool, *heat, *look)[-1] == "This is a hot apple 2."
    assert play(world, *fetch, *wash, *heat, *look)[-1] == "This is a hot and clean apple 2."
    assert play(world, *fetch, *wash, *cool, *look)[-1] == "This is a cool and clean apple 2."
    sliced = kitchen(extra="(isSliced Apple_bar_1)")
    assert play(sliced, *fetch, *look)[-1] == "This is a sliced apple 2."
    assert play(sliced, *fetch, *wash, *look)[-1] == "This is a clean sliced apple 2."
    assert play(sliced, *fetch, *heat, *look)[-1] == "This is a hot sliced apple 2."
    assert play(sliced, *fetch, *cool, *look)[-1] == "This is a cool sliced apple 2."
    assert (
        play(sliced, *fetch, *wash, *cool, *look)[-1] == "This is a cool and clean sliced apple 2."
    )
    assert (
        play(sliced, *fetch, *wash, *heat, *look)[-1] == "This is a hot and clean sliced apple 2."
    )


def test_vessels_lamps_and_knives() -> None:
    world = kitchen(extra="(inReceptacleObject Apple_bar_2 Mug_bar_1)")
    assert (
        play(world, "go to fridge 1", "open fridge 1", "take mug 1 from fridge 1", "examine mug 1")[
            -1
        ]
        == "This is a normal mug 1. In it, you see a apple 1."
    )
    assert play(world, "go to toaster 1", "use desklamp 1", "use desklamp 1")[1:] == [
        "You turn on the desklamp 1.",
        "You turn on the desklamp 1.",  # that it was ever toggled is what decides
    ]
    held = kitchen(extra="(pickupable DeskLamp_bar_1)")
    take = ("go to toaster 1", "use desklamp 1", "take desklamp 1 from toaster 1")
    assert play(held, *take, "examine desklamp 1")[-1] == "This desklamp 1 is on."
    assert play(held, take[0], take[2], "examine desklamp 1", "close fridge 1")[-2:] == [
        "There's nothing special about desklamp 1.",
        "Nothing happens.",
    ]
    assert play(
        world,
        "go to countertop 1",
        "slice apple 2 with knife 1",
        "take knife 1 from countertop 1",
        "slice apple 2 with knife 1",
        "move knife 1 to countertop 1",
        "take apple 2 from countertop 1",
        "examine apple 2",
    )[1:] == [
        "Nothing happens.",
        "You pick up the knife 1 from the countertop 1.",
        "You sliced the apple 2 with the knife 1.",
        "You move the knife 1 to the countertop 1.",
        "You pick up the apple 2 from the countertop 1.",
        "This is a sliced apple 2.",
    ]


def test_an_object_in_two_receptacles() -> None:
    """Some problems of ALFRED have them; what is taken from one stays in the other."""
    world = kitchen(extra="(inReceptacle Apple_bar_1 Toaster_bar_1)")
    assert (
        play(world, "go to toaster 1", "take apple 2 from countertop 1", "examine toaster 1")[-1]
        == "On the toaster 1, you see a apple 2, and a desklamp 1."
    )


def test_the_old_dialect() -> None:
    assert play(
        kitchen(),
        "help",
        "go to countertop 1",
        "take apple 2 from countertop 1",
        "move apple 2 to toaster 1",
        "put apple 2 in/on toaster 1",
        dialect="put",
    ) == [
        "Nothing happens.",
        "You arrive at loc 2. On the countertop 1, you see a apple 2, and a knife 1.",
        "You pick up the apple 2 from the countertop 1.",
        "Nothing happens.",
        "You put the apple 2 in/on the toaster 1.",
    ]
    assert play(kitchen(), " help\n") == [HELP]


@pytest.mark.parametrize(
    ("extra", "without", "said"),
    [
        ("", "(atLocation agent1 loc_bar_0)", "must be at one location, not 0"),
        ("(holds agent1 Mug_bar_1)", "", "holds and holdsAny must agree"),
        ("(holdsAny agent1)", "", "holds and holdsAny must agree"),
        ("(opened Fridge_bar_1 loc_bar_1)", "", "opened is said of 1, not of 2"),
        ("(receptacleAtLocation Fridge_bar_1 loc_bar_2)", "", "is at 2 locations, not at one"),
        ("", "agent1 - agent\n", "'agent1' is not among the objects"),
    ],
)
def test_problems_that_are_not_alfreds(extra: str, without: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        kitchen(extra=extra, without=without)


def test_goals_that_no_rule_keeps() -> None:
    with pytest.raises(DataError, match="no rule here keeps"):
        kitchen("(checked Fridge_bar_1)")
    with pytest.raises(DataError, match="opened is said of 1, not of 0"):
        kitchen("(opened)")
    assert kitchen("(opened CounterTop_bar_1)").goal == NEVER
    assert kitchen("(isHot Mug_bar_1)").goal == NEVER  # a mug that cannot be heated
    assert isinstance(kitchen("(and (opened Fridge_bar_1) (holdsAny agent1))").goal, All)
    assert (
        play(kitchen("(exists (?r - receptacle) (opened ?r))"), "go to fridge 1", "open fridge 1")[
            -1
        ]
        == "won"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_task_is_recognised(kind: str) -> None:
    assert described(formula(kind, "mug", "shelf")) == sentence(kind, "mug", "shelf")


def test_alfreds_own_way_to_write_a_goal() -> None:
    goal = read_problem(PROBLEM).goal
    assert described(goal) == "Your task is to: put a hot apple in fridge."
    with pytest.raises(DataError, match="none of ALFRED's six kinds"):
        described(read_tree("(and (opened fridge_1))"))
