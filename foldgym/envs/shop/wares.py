"""What an invented catalogue is made of: departments, kinds of things, what they can be."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ware:
    """A kind of thing: `Ware("desk lamp", "Home › Lighting › Lamps", (15, 90), ("color",))`."""

    name: str
    path: str
    prices: tuple[int, int]
    options: tuple[str, ...] = ()


def _wares(path: str, *rows: tuple[str, str, int, int, str]) -> tuple[Ware, ...]:
    return tuple(
        Ware(name, f"{path} › {leaf}", (low, high), tuple(options.split()))
        for name, leaf, low, high, options in rows
    )


DEPARTMENTS: dict[str, tuple[Ware, ...]] = {
    "beauty": _wares(
        "Beauty & Personal Care",
        ("shampoo", "Hair Care › Shampoos", 6, 30, "scent size"),
        ("hair mask", "Hair Care › Masks", 8, 40, "scent"),
        ("face cream", "Skin Care › Creams", 10, 80, "size"),
        ("lip balm", "Skin Care › Lips", 3, 15, "scent"),
        ("nail polish", "Nails › Polish", 4, 18, "color"),
        ("makeup brush set", "Tools › Brushes", 9, 50, "color size"),
    ),
    "fashion": _wares(
        "Clothing, Shoes & Jewelry",
        ("rain jacket", "Outerwear › Jackets", 30, 160, "color size"),
        ("running shoes", "Shoes › Athletic", 35, 140, "color size"),
        ("wool scarf", "Accessories › Scarves", 12, 60, "color"),
        ("leather belt", "Accessories › Belts", 14, 70, "color size"),
        ("linen shirt", "Tops › Shirts", 18, 75, "color size"),
        ("hiking socks", "Socks › Outdoor", 7, 26, "color size"),
    ),
    "electronics": _wares(
        "Electronics",
        ("bluetooth speaker", "Audio › Speakers", 20, 240, "color"),
        ("usb charger", "Accessories › Chargers", 9, 45, "style"),
        ("phone case", "Accessories › Cases", 6, 35, "color style"),
        ("security camera", "Cameras › Surveillance", 25, 320, "style"),
        ("wireless headphones", "Audio › Headphones", 25, 400, "color"),
        ("tablet stand", "Accessories › Stands", 10, 55, "color"),
    ),
    "garden": _wares(
        "Home & Garden",
        ("desk lamp", "Lighting › Lamps", 15, 110, "color"),
        ("storage basket", "Storage › Baskets", 10, 60, "color size"),
        ("throw pillow", "Bedding › Pillows", 9, 45, "color size"),
        ("patio chair", "Furniture › Chairs", 40, 480, "color"),
        ("area rug", "Decor › Rugs", 30, 700, "color size"),
        ("flower pot", "Outdoor › Pots", 8, 70, "color size"),
    ),
    "grocery": _wares(
        "Grocery & Gourmet Food",
        ("green tea", "Beverages › Tea", 5, 30, "flavor size"),
        ("trail mix", "Snacks › Nuts", 6, 35, "flavor size"),
        ("olive oil", "Pantry › Oils", 9, 60, "size"),
        ("dark chocolate", "Snacks › Chocolate", 4, 28, "flavor size"),
        ("coffee beans", "Beverages › Coffee", 8, 48, "flavor size"),
        ("fruit jam", "Pantry › Spreads", 4, 20, "flavor"),
    ),
}
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "beauty": (
        *("cruelty free", "paraben free", "fragrance free", "long lasting", "sulfate free"),
        *("natural ingredients", "sensitive skin", "dermatologist tested", "tea tree", "argan oil"),
    ),
    "fashion": (
        *("machine washable", "slim fit", "quick drying", "arch support", "water resistant"),
        *("hand sewn", "elastic waist", "non slip", "light weight", "winter warm"),
    ),
    "electronics": (
        *("fast charging", "noise cancelling", "water proof", "high definition", "easy install"),
        *("motion detection", "plug play", "carrying case", "stereo sound", "shock absorbing"),
    ),
    "garden": (
        *("easy clean", "space saving", "eco friendly", "assembly required", "spot clean"),
        *("solid wood", "fade resistant", "living room", "heavy duty", "stainless steel"),
    ),
    "grocery": (
        *("gluten free", "sugar free", "non gmo", "fair trade", "low sodium"),
        *("individually wrapped", "dairy free", "high protein", "cold pressed", "shelf stable"),
    ),
}
VALUES: dict[str, tuple[str, ...]] = {
    "color": (
        *("black", "white", "navy", "forest green", "brick red", "light gray", "mustard yellow"),
        *("teal", "burgundy", "sky blue", "charcoal", "ivory", "coral", "chestnut brown"),
    ),
    "scent": ("lavender", "vanilla", "citrus", "rose", "eucalyptus", "coconut", "unscented"),
    "flavor": ("original", "lemon", "cinnamon", "sea salt", "raspberry", "hazelnut", "ginger"),
    "style": ("single", "twin pack", "family pack", "with cable", "compact", "professional"),
}
SIZES: dict[str, tuple[str, ...]] = {
    "beauty": ("travel size", "8 ounce", "16 ounce", "pack of 2"),
    "fashion": ("small", "medium", "large", "x-large"),
    "electronics": ("compact", "full size"),
    "garden": ("small", "medium", "large", "set of 2"),
    "grocery": ("4 ounce", "8 ounce", "1 pound", "pack of 6"),
}
ADJECTIVES = (
    *("classic", "modern", "everyday", "premium", "compact", "soft", "sturdy", "bright", "gentle"),
    *("deluxe", "pure", "fresh", "cozy", "smart", "handy", "rustic", "sleek", "artisan"),
)
SYLLABLES = (
    *(
        "al",
        "bar",
        "cel",
        "dor",
        "el",
        "fen",
        "gal",
        "hal",
        "is",
        "jun",
        "kel",
        "lor",
        "mar",
        "nor",
    ),
    *("os", "pel", "quin", "ras", "sol", "tar", "ul", "vel", "wyn", "xan", "yor", "zel"),
)
