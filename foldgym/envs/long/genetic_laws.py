"""Laws of inheritance for organisms with three copies of each gene: what genes do, who lives."""

from __future__ import annotations

import random
from typing import NamedTuple

LOCI = ("size", "colour", "shell")
GIVERS = ("mother", "father", "either")
CLASSES = (("huge", 400), ("large", 300), ("medium", 200), ("small", 100), ("tiny", 0))
"""Size classes with their least sizes."""

Genes = tuple[tuple[int, ...], ...]
"""For each locus the numbers (1 to 3) of its three alleles, in order: ((1, 1, 3), ...)."""


class Laws(NamedTuple):
    """`Laws((200, 50, 10), (2, 1, 3), (1, 2, 3), "shell", "either")`.

    `values` are what each size allele adds; `colours` go from dominant to recessive; in `shells`
    each beats the next and the last the first. Three different alleles at the locus `lethal` kill.
    The parent `double` gives two of its three copies, the other one.
    """

    values: tuple[int, ...]
    colours: tuple[int, ...]
    shells: tuple[int, ...]
    lethal: str
    double: str


class Looks(NamedTuple):
    """What an organism is like, without noise; the winning alleles by number, 0 for none."""

    size: int
    colour: int
    shell: int
    hardness: int


def looks(laws: Laws, genes: Genes) -> Looks | None:
    """The phenotype of a genotype; None for one that does not live."""
    sizes, colours, shells = genes
    if len(set(genes[LOCI.index(laws.lethal)])) == 3:
        return None
    size = sum(laws.values[allele - 1] for allele in sizes)
    colour = next(allele for allele in laws.colours if allele in colours)
    present = sorted(set(shells))
    if len(present) == 3:
        return Looks(size, colour, 0, 0)  # each is beaten by another
    winner = present[0]
    if len(present) == 2:
        after = dict(zip(laws.shells, laws.shells[1:] + laws.shells[:1], strict=True))
        winner = next(a for a in present if after[a] in present)
    return Looks(size, colour, winner, round(100 * shells.count(winner) / 3))


def size_class(size: float) -> str:
    """The first class whose least size is not above this one."""
    return next(name for name, least in CLASSES if size >= least)


def zygote(laws: Laws, mother: Genes, father: Genes, rng: random.Random) -> Genes | None:
    """A child's genes; None if its copies are not three.

    Where either parent may give two copies, each tosses a coin of its own.
    """
    if laws.double == "either":
        counts = (rng.choice((1, 2)), rng.choice((1, 2)))
    else:
        counts = (2, 1) if laws.double == "mother" else (1, 2)
    if sum(counts) != 3:
        return None
    return tuple(
        tuple(sorted(rng.sample(a, counts[0]) + rng.sample(b, counts[1])))
        for a, b in zip(mother, father, strict=True)
    )


def draw_laws(rng: random.Random) -> Laws:
    """Laws of which none depends on another."""
    return Laws(
        tuple(rng.sample(range(10, 201, 10), 3)),
        tuple(rng.sample((1, 2, 3), 3)),
        rng.choice(((1, 2, 3), (1, 3, 2))),
        rng.choice(LOCI),
        rng.choice(GIVERS),
    )


def as_texts(laws: Laws) -> tuple[str, ...]:
    """Each law as a text that is compared; a circle begins with H1."""
    at = laws.shells.index(1)
    circle = laws.shells[at:] + laws.shells[:at]
    orders = ["".join(map(str, laws.colours)), "".join(map(str, circle))]
    return (*map(str, laws.values), *orders, laws.lethal, laws.double)
