"""What houses are made of: rooms, their furniture, and things with their abilities and places."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

OPENABLE = frozenset(("cabinet", "drawer", "fridge", "microwave", "safe"))
PARTS = {"sinkbasin": "sink", "bathtubbasin": "bathtub"}
"""Receptacles that are part of something else, by which their ids begin."""

ROOMS: Mapping[str, Mapping[str, tuple[int, int]]] = {
    "kitchen": {
        "cabinet": (2, 8),
        "drawer": (1, 6),
        "countertop": (1, 3),
        "fridge": (1, 1),
        "microwave": (1, 1),
        "sinkbasin": (1, 1),
        "stoveburner": (1, 4),
        "coffeemachine": (0, 1),
        "toaster": (0, 1),
        "diningtable": (0, 2),
        "shelf": (0, 3),
        "garbagecan": (1, 1),
    },
    "livingroom": {
        "sofa": (1, 2),
        "armchair": (0, 2),
        "coffeetable": (1, 2),
        "sidetable": (1, 3),
        "tvstand": (0, 1),
        "drawer": (1, 6),
        "shelf": (0, 4),
        "cabinet": (0, 4),
        "dresser": (0, 1),
        "desk": (0, 1),
        "safe": (0, 1),
        "garbagecan": (1, 1),
    },
    "bedroom": {
        "bed": (1, 1),
        "desk": (1, 2),
        "drawer": (1, 8),
        "shelf": (1, 6),
        "sidetable": (0, 2),
        "dresser": (0, 1),
        "armchair": (0, 1),
        "safe": (0, 1),
        "laundryhamper": (0, 1),
        "garbagecan": (1, 1),
    },
    "bathroom": {
        "sinkbasin": (1, 2),
        "bathtubbasin": (0, 1),
        "toilet": (1, 1),
        "countertop": (0, 2),
        "cabinet": (1, 4),
        "drawer": (0, 4),
        "shelf": (0, 3),
        "towelholder": (0, 1),
        "handtowelholder": (0, 2),
        "garbagecan": (1, 1),
    },
}
"""The fewest and the most receptacles of each kind in a room."""

_TABLES = "countertop diningtable coffeetable sidetable desk dresser shelf"
_STORES = "cabinet drawer"
_COOKING = "microwave fridge sinkbasin countertop diningtable garbagecan"
_DISHES = "cabinet sinkbasin countertop diningtable shelf sidetable"
_SMALL = f"{_TABLES} drawer safe sofa armchair bed tvstand"


@dataclass(frozen=True, slots=True)
class Thing:
    """A kind of object: the rooms it is found in, what can be done with it, where it can lie."""

    rooms: frozenset[str]
    able: frozenset[str]
    places: frozenset[str]


_ABILITIES = {
    "p": "pickupable",
    "c": "cleanable",
    "h": "heatable",
    "k": "coolable",
    "s": "sliceable",
    "v": "isreceptacleobject",
    "t": "toggleable",
}
_ROOM_LETTERS = {"K": "kitchen", "L": "livingroom", "B": "bedroom", "W": "bathroom"}


def _thing(rooms: str, able: str, places: str) -> Thing:
    return Thing(
        frozenset(_ROOM_LETTERS[each] for each in rooms),
        frozenset(_ABILITIES[each] for each in able),
        frozenset(places.split()),
    )


THINGS: Mapping[str, Thing] = {
    "apple": _thing("K", "pchks", _COOKING),
    "potato": _thing("K", "pchks", _COOKING),
    "tomato": _thing("K", "pchks", _COOKING),
    "egg": _thing("K", "pchks", _COOKING),
    "bread": _thing("K", "phks", f"{_COOKING} toaster".replace("sinkbasin ", "")),
    "lettuce": _thing("K", "pcks", "fridge sinkbasin countertop diningtable garbagecan"),
    "mug": _thing("KLB", "pchkv", f"{_DISHES} coffeemachine microwave fridge desk coffeetable"),
    "cup": _thing("K", "pchkv", f"{_DISHES} microwave fridge"),
    "plate": _thing("KL", "pchkv", f"{_DISHES} microwave fridge coffeetable"),
    "bowl": _thing("KLB", "pckv", f"{_DISHES} microwave fridge coffeetable desk dresser"),
    "pan": _thing("K", "pckv", "stoveburner fridge cabinet countertop diningtable sinkbasin"),
    "pot": _thing("K", "pckv", "stoveburner fridge cabinet countertop diningtable sinkbasin"),
    "kettle": _thing("K", "pc", "stoveburner cabinet countertop diningtable shelf sinkbasin"),
    "knife": _thing("K", "pc", "drawer countertop diningtable sinkbasin"),
    "butterknife": _thing("K", "pc", "drawer countertop diningtable sinkbasin"),
    "fork": _thing("K", "pc", "drawer countertop diningtable sinkbasin"),
    "spoon": _thing("K", "pc", "drawer countertop diningtable sinkbasin"),
    "ladle": _thing("K", "pc", f"{_STORES} countertop diningtable sinkbasin"),
    "spatula": _thing("K", "pc", "drawer countertop diningtable sinkbasin"),
    "saltshaker": _thing("K", "p", f"{_STORES} countertop diningtable shelf"),
    "peppershaker": _thing("K", "p", f"{_STORES} countertop diningtable shelf"),
    "dishsponge": _thing("KW", "pc", f"{_STORES} countertop sinkbasin toilet garbagecan"),
    "winebottle": _thing("K", "p", "cabinet fridge countertop diningtable shelf garbagecan"),
    "soapbottle": _thing("KW", "p", f"{_STORES} countertop sinkbasin toilet garbagecan shelf"),
    "soapbar": _thing("W", "pc", f"{_STORES} countertop sinkbasin bathtubbasin toilet garbagecan"),
    "spraybottle": _thing("W", "p", f"{_STORES} countertop toilet shelf garbagecan"),
    "toiletpaper": _thing("W", "p", f"{_STORES} countertop toilet shelf garbagecan"),
    "cloth": _thing("W", "pc", f"{_STORES} countertop sinkbasin bathtubbasin shelf"),
    "handtowel": _thing("W", "p", "handtowelholder countertop cabinet"),
    "towel": _thing("W", "p", "towelholder"),
    "candle": _thing("W", "p", f"{_STORES} countertop toilet shelf"),
    "tissuebox": _thing("LW", "p", f"{_TABLES} {_STORES} toilet"),
    "newspaper": _thing("L", "p", f"{_SMALL} garbagecan toilet"),
    "book": _thing("LB", "p", _SMALL),
    "remotecontrol": _thing("LB", "p", _SMALL),
    "laptop": _thing("LB", "p", "desk coffeetable diningtable sofa armchair bed tvstand dresser"),
    "pillow": _thing("LB", "p", "bed sofa armchair"),
    "box": _thing("L", "pv", "sofa armchair coffeetable diningtable desk dresser"),
    "vase": _thing("L", "p", f"{_TABLES} cabinet safe tvstand"),
    "statue": _thing("L", "p", f"{_TABLES} safe tvstand"),
    "watch": _thing("LB", "p", f"{_TABLES} drawer safe tvstand"),
    "keychain": _thing("LB", "p", _SMALL),
    "creditcard": _thing("LB", "p", _SMALL),
    "cellphone": _thing("LB", "p", _SMALL),
    "cd": _thing("B", "p", f"{_TABLES} drawer safe garbagecan"),
    "pen": _thing("B", "p", f"{_TABLES} drawer garbagecan"),
    "pencil": _thing("B", "p", f"{_TABLES} drawer garbagecan"),
    "alarmclock": _thing("B", "p", "desk dresser sidetable shelf"),
    "basketball": _thing("B", "p", "bed armchair laundryhamper"),
    "teddybear": _thing("B", "p", "bed armchair"),
    "desklamp": _thing("LB", "t", "desk sidetable dresser"),
}
LAMP = "desklamp"
