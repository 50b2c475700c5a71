"""A herd whose laws of inheritance are hidden: cross, look at the young, commit the laws."""

from __future__ import annotations

import random
import re
from collections import Counter

from foldgym.envs.games import Split
from foldgym.envs.long.discovery import Discovery, Rules
from foldgym.envs.long.genetic_laws import (
    CLASSES,
    LOCI,
    Genes,
    Laws,
    Looks,
    as_texts,
    draw_laws,
    looks,
    size_class,
    zygote,
)
from foldgym.envs.long.splits import drawn
from foldgym.errors import UserError
from foldgym.tools import call, tool
from foldgym.types import Action, Evidence

_HERD, _YOUNG, _SHOWN = 200, 100, 10
_LETTERS = "SCH"
_COLOURS = ("red", "blue", "white", "green", "black", "yellow")
_SHELLS = ("ridged", "smooth", "spiny", "scaly", "knobbed")
_TOLERANCE = 0.05


class HiddenGenetics(Discovery):
    """Breed organisms with three copies of each gene, and find what the genes do.

    One cross is one step. Fewer `young` may be asked for at once where `most` is smaller, which
    makes the laws harder to see.
    """

    experts = ("optimal", "hasty")

    def __init__(
        self,
        steps: int = 8,
        probes: int = 4,
        most: int = 30,
        split: Split = "train",
        *,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(steps, probes, split, render_mode)
        if not 1 <= most <= _YOUNG:
            raise UserError(f"most must be from 1 to {_YOUNG}, not {most}")
        self.most = most
        self.max_turns = 8 * steps + probes + 10  # looking takes turns, too

    def setup(self, rng: random.Random) -> str:
        """The split owns whole sets of laws; founders, colours and shells are free."""
        self.laws = drawn(
            self.split, lambda: draw_laws(rng), lambda laws: repr(tuple(laws)), "genetics"
        )
        self.truth = as_texts(self.laws)
        self.begin()
        colours, shells = rng.sample(_COLOURS, 3), rng.sample(_SHELLS, 3)
        self.colours: dict[int, str] = dict(enumerate(colours, 1))
        self.shells: dict[int, str] = dict(enumerate(["soft", *shells]))
        a, b, c = rng.sample((1, 2, 3), 3)
        sizes = [(a, a, b), (a, b, b), (c, c, c)]
        rng.shuffle(sizes)
        order = [rng.sample((1, 2, 3), 3) for _ in range(2)]
        self.herd: dict[int, Genes] = {
            number: (tuple(sorted(size)), (colour,) * 3, (shell,) * 3)
            for number, size, colour, shell in zip((1, 2, 3), sizes, *order, strict=True)
        }
        self.next = 4
        self.measured: dict[int, tuple[int, Looks]] = {}
        self.bred: list[tuple[int, int, int, int, int]] = []
        for number in self.herd:
            self._measure(number, rng)
        self.cases: list[Genes] = []
        self.questions = [self._probe(rng) for _ in range(self.probes)]
        lines = [f"{self._named(genes)}: {self._seen(n)}" for n, genes in self.herd.items()]
        classes = ", ".join(f"{name} from {least}" for name, least in CLASSES)
        return (
            "Every organism has three copies of each of three genes: size (alleles S1 to S3), "
            "colour (C1 to C3) and shell (H1 to H3). Hidden: what each S adds to the size (a "
            "multiple of 10); which C is dominant over which; the circle in which each H beats one "
            "other and loses to one (all three together make a soft shell of hardness 0, else the "
            "hardness is 100 times the winner's share); at which of the genes three different "
            "alleles are lethal; and which parent gives two of its copies, drawn at random, while "
            "the other gives one: mother, father, or either (then each tosses a coin, and without "
            "three copies nothing lives). Sizes are measured with an error of 1 %, hardness of "
            f"5 %. Size classes: {classes}. The three lines:\n" + "\n".join(lines) + "\n"
            f"Make exactly {self.steps} crosses of at most {self.most} young; the herd holds "
            f"{_HERD}. Then commit like {self._written(_EXAMPLE)}, then predict {self.probes} "
            "organisms."
        )

    def _measure(self, number: int, rng: random.Random) -> None:
        found = looks(self.laws, self.herd[number])
        assert found is not None
        size = round(found.size * rng.uniform(0.99, 1.01))
        hardness = round(found.hardness * rng.uniform(0.95, 1.05))
        self.measured[number] = (size, found._replace(hardness=hardness))

    def _named(self, genes: Genes) -> str:
        return ", ".join(
            " ".join(f"{letter}{allele}" for allele in locus)
            for letter, locus in zip(_LETTERS, genes, strict=True)
        )

    def _seen(self, number: int) -> str:
        size, found = self.measured[number]
        shell = f"{self.shells[found.shell]} {found.hardness}"
        return f"#{number} size {size}, {self.colours[found.colour]}, {shell}"

    def _probe(self, rng: random.Random) -> tuple[str, Rules]:
        """A genotype whose size is clear of the borders of its class."""
        while True:
            genes = tuple(tuple(sorted(rng.choices((1, 2, 3), k=3))) for _ in LOCI)
            found = looks(self.laws, genes)
            near = found and any(abs(found.size - least) < 0.05 * least for _, least in CLASSES)
            if not near:
                break
        self.cases.append(genes)
        example = f"large {self.colours[1]} {self.shells[1]} 67"
        question = (
            f"An organism has {self._named(genes)}. Predict size class, colour, shell and exact "
            f"hardness, like: predict {example}; or that it does not live: predict dead"
        )
        return question, self._outcome(found)

    def _outcome(self, found: Looks | None) -> Rules:
        if found is None:
            return ("dead",)
        names = size_class(found.size), self.colours[found.colour], self.shells[found.shell]
        return (*names, str(found.hardness))

    @tool
    def cross(self, mother: int, father: int, young: int = 10) -> str:
        """Breed two organisms of the herd.

        Args:
            mother: its number
            father: its number
            young: how many that live are wanted
        """
        if problem := self.blocked():
            return problem
        for number in (mother, father):
            if number not in self.herd:
                return f"error: there is no organism {number} in the herd."
        if not 1 <= young <= self.most:
            return f"error: young must be from 1 to {self.most}."
        if len(self.herd) + young > _HERD:
            return f"error: the herd would be larger than {_HERD}; discard some first."
        first, died = self.next, 0
        for _ in range(100 * young):
            genes = zygote(self.laws, self.herd[mother], self.herd[father], self.rng)
            if genes is None or looks(self.laws, genes) is None:
                died += 1
                continue
            self.herd[self.next] = genes
            self._measure(self.next, self.rng)
            self.next += 1
            if self.next - first == young:
                break
        last = self.next - 1
        self.bred.append((mother, father, first, last, died))
        said = f"Cross {self.taken + 1}: {last - first + 1} live, {died} died."
        return "\n".join([said, *self._listed(first, last), self.explored()])

    def _listed(self, first: int, last: int) -> list[str]:
        numbers = [number for number in range(first, last + 1) if number in self.herd]
        lines = [self._seen(number) for number in numbers[:_SHOWN]]
        more = len(numbers) - len(lines)
        return [*lines, f"{more} more; inspect shows them"] if more else lines

    @tool
    def inspect(self, first: int, last: int) -> str:
        """Look at organisms of the herd, at most ten at once.

        Args:
            first: the smallest number
            last: the largest number
        """
        return "\n".join(self._listed(first, min(last, self.next))) or "None of them is here."

    @tool
    def discard(self, first: int, last: int) -> str:
        """Make room in the herd.

        Args:
            first: the smallest number
            last: the largest number
        """
        if first <= 3:
            return "error: the three lines stay."
        gone = [number for number in self.herd if first <= number <= last]
        for number in gone:
            del self.herd[number], self.measured[number]
        return f"{len(gone)} discarded, {len(self.herd)} left."

    @tool
    def status(self) -> str:
        """How many organisms there are, and how many crosses are left."""
        return f"{len(self.herd)} organisms, {self.steps - self.taken} crosses left."

    def read_rules(self, text: str) -> Rules | str:
        """As in `_written`; a size allele counts as right within 5 %."""
        sizes = {int(n): int(v) for n, v in re.findall(r"\bS([123])\s*=\s*(\d{1,6})\b", text)}
        colours = re.search(r"\bcolour\s*=\s*C([123])\s*>\s*C([123])\s*>\s*C([123])\b", text)
        shells = re.search(r"\bshell\s*=\s*H([123])\s*>\s*H([123])\s*>\s*H([123])\b", text)
        lethal = re.search(r"\blethal\s*=\s*(size|colour|shell)\b", text)
        double = re.search(r"\bdouble\s*=\s*(mother|father|either)\b", text)
        if not (len(sizes) == 3 and colours and shells and lethal and double):
            return f"commit all of it, like {self._written(_EXAMPLE)}"
        values = tuple(
            true if abs(sizes[n] - true) <= _TOLERANCE * true else sizes[n]
            for n, true in enumerate(self.laws.values, 1)
        )
        order, circle = (tuple(map(int, found.groups())) for found in (colours, shells))
        if len(set(order)) < 3 or len(set(circle)) < 3:
            return "name every allele once in an order"
        return as_texts(Laws(values, order, circle, lethal.group(1), double.group(1)))

    def _written(self, laws: Laws) -> str:
        values = " ".join(f"S{n}={value}" for n, value in enumerate(laws.values, 1))
        colours = ">".join(f"C{n}" for n in laws.colours)
        shells = ">".join(f"H{n}" for n in laws.shells)
        return f"{values} colour={colours} shell={shells} lethal={laws.lethal} double={laws.double}"

    def read_outcome(self, text: str) -> Rules:
        """`dead`, or four words of which the last is a number."""
        words = tuple(text.casefold().split())
        return words if words == ("dead",) or (len(words) == 4 and words[3].isdigit()) else ()

    def evidence(self) -> list[Evidence]:
        """The laws, and how each cross has ended."""
        found = [Evidence(f"The laws are {self._written(self.laws)}.")]
        for place, (_, _, first, last, died) in enumerate(self.bred, 1):
            text = f"Cross {place}: {last - first + 1} live, {died} died."
            found.append(Evidence(text, f"How many died in cross {place}?", str(died)))
        return found

    def expert(self, style: str, rng: random.Random) -> Action:
        """Knows the laws; the hasty player infers what the first three crosses can show."""
        if style not in self.experts:
            return super().expert(style, rng)
        laws = self.laws if style == "optimal" else self._inferred()
        if self.committed is not None:
            outcome = self._outcome(looks(laws, self.cases[len(self.predictions)]))
            return call("predict", outcome=" ".join(outcome))
        if self.taken >= self.steps:
            return call("commit", rules=self._written(laws))
        young = min(self.most, 6)
        if len(self.herd) + young > _HERD:
            return call("discard", first=4, last=self.next)
        mother, father = ((1, 2), (2, 3), (3, 1))[self.taken % 3]
        if style == "optimal":
            mother, father = rng.choice(list(self.herd)), rng.choice(list(self.herd))
        return call("cross", mother=mother, father=father, young=young)

    def _inferred(self) -> Laws:
        """Sizes from the three lines, orders from their crosses, the rest by guessing."""
        sizes = {number: self.measured[number][0] for number in (1, 2, 3)}
        values = [0.0, 0.0, 0.0]
        for number, (alleles, _, _) in list(self.herd.items())[:3]:
            (often, count), *_ = Counter(alleles).most_common(1)
            if count == 3:
                values[often - 1] = sizes[number] / 3
                continue
            other = next(n for n in (1, 2, 3) if n != number and often in self.herd[n][0])
            values[often - 1] = (2 * sizes[number] - sizes[other]) / 3
        wins = Counter[int]()
        beats: dict[tuple[int, ...], int] = {}
        for mother, father, first, *_ in self.bred:
            if first in self.measured and mother != father:
                child = self.measured[first][1]
                wins[child.colour] += 1
                pair = sorted((self.herd[mother][2][0], self.herd[father][2][0]))
                beats[tuple(pair)] = child.shell
        backward = beats.get((1, 2)) == 2 or beats.get((1, 3)) == 1 or beats.get((2, 3)) == 3
        return Laws(
            tuple(max(10, round(value / 10) * 10) for value in values),
            tuple(sorted((1, 2, 3), key=lambda allele: -wins[allele])),
            (1, 3, 2) if backward else (1, 2, 3),
            "shell",
            "either" if any(died for *_, died in self.bred) else "mother",
        )


_EXAMPLE = Laws((200, 50, 10), (1, 2, 3), (1, 2, 3), "size", "either")
