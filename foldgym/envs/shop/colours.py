"""WebShop's names of colours, in the order in which it looks for them."""

from __future__ import annotations

from collections.abc import Container

_IN_ORDER = """
alabaster apricot aqua ash asphalt azure banana beige black blue blush bordeaux bronze brown
burgundy camel camo caramel champagne charcoal cheetah chestnut chocolate christmas coffee cognac
copper coral cranberry cream crystal dark denim eggplant elephant espresso fuchsia gold granite
grape graphite grass gray green grey heather indigo ivory ivy khaki lavender lemon leopard light
lilac lime magenta maroon mauve merlot midnight mint mocha multicolor mushroom mustard natural navy
nude olive orange peach pewter pink plum purple rainbow red rose royal rust sand sapphire seashell
silver skull slate steel stone stonewash sunflower tan taupe teal tiger turquoise violet walnut
wheat white wine yellow
"""
COLOURS = tuple(_IN_ORDER.split())


def normal_colour(option: Container[str]) -> object:
    """The first colour that is in an option, or the option itself.

    In a text a colour may be any part of a word; in a pair of name and value it must be one of the
    two.

    >>> normal_colour("dark blue"), normal_colour(("color", "dark blue"))
    ('blue', ('color', 'dark blue'))
    """
    return next((colour for colour in COLOURS if colour in option), option)
