"""The sources, tests and faults of the miniature projects."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """`right` becomes `wrong` in the project's module; the tests named here then fail."""

    name: str
    statement: str
    right: str
    wrong: str
    fails: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Project:
    """`about` is the readme; `source` the module `core`; `tests` are hidden."""

    name: str
    split: str
    about: str
    source: str
    tests: str
    faults: tuple[Fault, ...]


_LEDGER = Project(
    "ledger",
    "train",
    "Amounts of money in whole cents.",
    '''
    """Money in whole cents: reading, writing and sharing it."""


    def parse(text):
        """Cents of an amount such as "12.30" or "-7"."""
        text = text.strip()
        sign = -1 if text.startswith("-") else 1
        whole, _, cents = text.lstrip("+-").partition(".")
        return sign * (int(whole or "0") * 100 + int((cents + "00")[:2]))


    def show(cents):
        """The amount as text, always with two digits of cents."""
        sign = "-" if cents < 0 else ""
        whole, rest = divmod(abs(cents), 100)
        return f"{sign}{whole}.{rest:02d}"


    def share(cents, people):
        """Split an amount so that the parts differ by at most one cent and lose none."""
        if people < 1:
            raise ValueError("nobody to share with")
        part, left = divmod(cents, people)
        return [part + 1] * left + [part] * (people - left)
    ''',
    """
    import unittest

    from ledger.core import parse, share, show


    class LedgerTest(unittest.TestCase):
        def test_parse(self):
            self.assertEqual(parse("12.30"), 1230)
            self.assertEqual(parse(" 7 "), 700)

        def test_parse_one_digit_of_cents(self):
            self.assertEqual(parse("1.5"), 150)

        def test_parse_negative(self):
            self.assertEqual(parse("-7.25"), -725)
            self.assertEqual(parse("-0.05"), -5)

        def test_show(self):
            self.assertEqual(show(1230), "12.30")
            self.assertEqual(show(5), "0.05")

        def test_show_negative(self):
            self.assertEqual(show(-150), "-1.50")

        def test_share_loses_nothing(self):
            self.assertEqual(share(100, 3), [34, 33, 33])
            self.assertEqual(sum(share(1001, 7)), 1001)

        def test_share_with_nobody(self):
            with self.assertRaises(ValueError):
                share(10, 0)
    """,
    (
        Fault(
            "share",
            "Sharing an amount that cannot be divided evenly loses cents: `share(100, 3)` gives "
            "parts that add up to 99. Every cent has to go to somebody, the first ones first.",
            "[part + 1] * left + [part] * (people - left)",
            "[part] * people",
            ("test_share_loses_nothing",),
        ),
        Fault(
            "sign",
            "`parse` gets the sign of amounts below zero wrong: `parse('-7.25')` should be -725.",
            "sign = -1 if text.startswith",
            "sign = 1 if text.startswith",
            ("test_parse_negative",),
        ),
    ),
)

_SLUGS = Project(
    "slugs",
    "train",
    "Names for addresses and files, made of titles.",
    '''
    """Titles as short names of letters, digits and hyphens."""

    import re


    def slug(title, longest=40):
        """Lower case, words joined by hyphens, at most `longest` characters, whole words only."""
        words = re.findall(r"[a-z0-9]+", title.lower())
        kept, size = [], 0
        for word in words:
            size += len(word) + (1 if kept else 0)
            if size > longest:
                break
            kept.append(word)
        return "-".join(kept)


    def unique(title, taken):
        """A slug that is not among `taken`: with -2, -3, ... behind it if need be."""
        base = slug(title)
        if base not in taken:
            return base
        number = 2
        while f"{base}-{number}" in taken:
            number += 1
        return f"{base}-{number}"
    ''',
    """
    import unittest

    from slugs.core import slug, unique


    class SlugTest(unittest.TestCase):
        def test_words(self):
            self.assertEqual(slug("Hello, World!"), "hello-world")

        def test_nothing(self):
            self.assertEqual(slug("!?"), "")

        def test_hyphens_count(self):
            self.assertEqual(slug("aa bb cc", longest=8), "aa-bb-cc")
            self.assertEqual(slug("aa bb cc", longest=7), "aa-bb")

        def test_exactly_as_long(self):
            self.assertEqual(slug("abcde", longest=5), "abcde")

        def test_unique(self):
            self.assertEqual(unique("A b", set()), "a-b")
            self.assertEqual(unique("A b", {"a-b"}), "a-b-2")

        def test_unique_again(self):
            self.assertEqual(unique("A b", {"a-b", "a-b-2", "a-b-3"}), "a-b-4")
    """,
    (
        Fault(
            "longest",
            "A slug may be as long as `longest`, yet one of exactly that length comes out shorter: "
            "`slug('abcde', longest=5)` is empty.",
            "if size > longest:",
            "if size >= longest:",
            ("test_hyphens_count", "test_exactly_as_long"),
        ),
        Fault(
            "unique",
            "`unique` can return a name that is taken: with 'a-b', 'a-b-2' and 'a-b-3' taken it "
            "should give 'a-b-4' for the title 'A b'.",
            'while f"{base}-{number}" in taken:',
            'if f"{base}-{number}" in taken:',
            ("test_unique_again",),
        ),
    ),
)

_SPANS = Project(
    "spans",
    "train",
    "Half-open spans of whole numbers.",
    '''
    """Spans (start, end) of whole numbers, the end not included."""


    def merge(spans):
        """The same numbers in as few spans as possible, in order; empty spans vanish."""
        merged = []
        for start, end in sorted(spans):
            if start >= end:
                continue
            if merged and start <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(merged[-1][1], end))
            else:
                merged.append((start, end))
        return merged


    def gaps(spans, start, end):
        """What of [start, end) no span covers."""
        found = []
        for low, high in merge(spans):
            if high <= start:
                continue
            if low >= end:
                break
            if low > start:
                found.append((start, low))
            start = high
        if start < end:
            found.append((start, end))
        return found
    ''',
    """
    import unittest

    from spans.core import gaps, merge


    class SpansTest(unittest.TestCase):
        def test_merge_overlapping(self):
            self.assertEqual(merge([(1, 4), (3, 6)]), [(1, 6)])

        def test_merge_touching(self):
            self.assertEqual(merge([(1, 3), (3, 5)]), [(1, 5)])

        def test_merge_inside(self):
            self.assertEqual(merge([(1, 9), (2, 4), (8, 10)]), [(1, 10)])

        def test_merge_apart(self):
            self.assertEqual(merge([(5, 6), (1, 2)]), [(1, 2), (5, 6)])

        def test_merge_empty_spans(self):
            self.assertEqual(merge([(2, 2), (4, 3)]), [])

        def test_gaps(self):
            self.assertEqual(gaps([(2, 4), (6, 8)], 0, 10), [(0, 2), (4, 6), (8, 10)])

        def test_gaps_outside(self):
            self.assertEqual(gaps([(0, 2), (20, 30)], 5, 10), [(5, 10)])
    """,
    (
        Fault(
            "inside",
            "Merging forgets numbers when a span lies inside an earlier one: "
            "`merge([(1, 9), (2, 4), (8, 10)])` should be `[(1, 10)]`.",
            "max(merged[-1][1], end)",
            "end",
            ("test_merge_inside",),
        ),
        Fault(
            "rest",
            "`gaps` leaves out what comes after the last span: of 0 to 10, with 2 to 4 and 6 to 8 "
            "covered, also 8 to 10 is a gap.",
            "if start < end:\n            found.append((start, end))\n        return found",
            "return found",
            ("test_gaps", "test_gaps_outside"),
        ),
    ),
)

_ROMAN = Project(
    "roman",
    "train",
    "Roman numerals.",
    '''
    """Roman numerals from 1 to 3999."""

    SIGNS = (
        (1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"),
        (50, "L"), (40, "XL"), (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I"),
    )


    def write(number):
        """The numeral of a number."""
        if not 1 <= number <= 3999:
            raise ValueError(f"{number} has no numeral")
        text = ""
        for value, sign in SIGNS:
            count, number = divmod(number, value)
            text += sign * count
        return text


    def read(text):
        """The number of a numeral. Raises ValueError for what is none."""
        values = {sign: value for value, sign in SIGNS if len(sign) == 1}
        total = 0
        for this, after in zip(text, text[1:] + " "):
            if this not in values:
                raise ValueError(f"{text!r} is no numeral")
            value = values[this]
            total += -value if values.get(after, 0) > value else value
        if not text or write(total) != text:
            raise ValueError(f"{text!r} is no numeral")
        return total
    ''',
    """
    import unittest

    from roman.core import read, write


    class RomanTest(unittest.TestCase):
        def test_write(self):
            self.assertEqual(write(1984), "MCMLXXXIV")
            self.assertEqual(write(3), "III")

        def test_write_four(self):
            self.assertEqual(write(4), "IV")
            self.assertEqual(write(44), "XLIV")

        def test_write_limits(self):
            self.assertEqual(write(3999), "MMMCMXCIX")
            with self.assertRaises(ValueError):
                write(0)
            with self.assertRaises(ValueError):
                write(4000)

        def test_read(self):
            self.assertEqual(read("MMXX"), 2020)

        def test_read_what_is_subtracted(self):
            self.assertEqual(read("CDXCIX"), 499)

        def test_read_nonsense(self):
            for text in ("", "IIII", "VX", "hello"):
                with self.assertRaises(ValueError):
                    read(text)
    """,
    (
        Fault(
            "order",
            "Numerals like IV and XC are read as if every sign were added: `read('CDXCIX')` should "
            "be 499, and is refused.",
            "values.get(after, 0) > value",
            "values.get(after, 0) > 1000",
            ("test_read_what_is_subtracted",),
        ),
    ),
)

_CACHE = Project(
    "cache",
    "val",
    "A cache that forgets what was used longest ago.",
    '''
    """A cache of limited size, with a clock of its own."""


    class Cache:
        """Keeps `size` values; what was used longest ago goes first, what is too old at once."""

        def __init__(self, size, lifetime=None):
            self.size, self.lifetime = size, lifetime
            self.now = 0
            self.values = {}

        def put(self, key, value):
            self.values.pop(key, None)
            self.values[key] = (value, self.now)
            while len(self.values) > self.size:
                del self.values[next(iter(self.values))]

        def get(self, key, default=None):
            if key not in self.values:
                return default
            value, born = self.values.pop(key)
            if self.lifetime is not None and self.now - born >= self.lifetime:
                return default
            self.values[key] = (value, born)
            return value
    ''',
    """
    import unittest

    from cache.core import Cache


    class CacheTest(unittest.TestCase):
        def test_keeps(self):
            cache = Cache(2)
            cache.put("a", 1)
            self.assertEqual(cache.get("a"), 1)
            self.assertEqual(cache.get("b", 7), 7)

        def test_oldest_goes(self):
            cache = Cache(2)
            for key in "abc":
                cache.put(key, key)
            self.assertIsNone(cache.get("a"))
            self.assertEqual(cache.get("c"), "c")

        def test_use_keeps_alive(self):
            cache = Cache(2)
            cache.put("a", 1)
            cache.put("b", 2)
            cache.get("a")
            cache.put("c", 3)
            self.assertEqual(cache.get("a"), 1)
            self.assertIsNone(cache.get("b"))

        def test_lifetime(self):
            cache = Cache(2, lifetime=3)
            cache.put("a", 1)
            cache.now = 2
            self.assertEqual(cache.get("a"), 1)
            cache.now = 3
            self.assertIsNone(cache.get("a"))
    """,
    (
        Fault(
            "lifetime",
            "Use must not make a value younger: one that was put at 0 with a lifetime of 3 is gone "
            "at 3, also if it was read at 2.",
            "self.values[key] = (value, born)",
            "self.values[key] = (value, self.now)",
            ("test_lifetime",),
        ),
    ),
)

_TABLE = Project(
    "table",
    "test",
    "Plain tables of text.",
    '''
    """Rows of text in columns that line up."""


    def widths(rows):
        """The width of every column; short rows have empty cells."""
        found = [0] * max((len(row) for row in rows), default=0)
        for row in rows:
            for place, cell in enumerate(row):
                found[place] = max(found[place], len(cell))
        return found


    def render(rows, gap=2):
        """The table as text, without spaces at the ends of lines."""
        wide = widths(rows)
        lines = []
        for row in rows:
            cells = [cell.ljust(wide[place]) for place, cell in enumerate(row)]
            lines.append((" " * gap).join(cells).rstrip())
        return "\\n".join(lines)
    ''',
    """
    import unittest

    from table.core import render, widths


    class TableTest(unittest.TestCase):
        def test_widths(self):
            self.assertEqual(widths([["a", "bbb"], ["cc", "d"]]), [2, 3])

        def test_widths_of_uneven_rows(self):
            self.assertEqual(widths([["a"], ["b", "cc", "d"]]), [1, 2, 1])

        def test_no_rows(self):
            self.assertEqual(widths([]), [])
            self.assertEqual(render([]), "")

        def test_render(self):
            self.assertEqual(render([["a", "b"], ["cc", "d"]]), "a   b\\ncc  d")
    """,
    (
        Fault(
            "uneven",
            "A table whose first row is not its longest cannot be rendered: `widths([['a'], "
            "['b', 'cc', 'd']])` raises an IndexError.",
            "max((len(row) for row in rows), default=0)",
            "(len(rows[0]) if rows else 0)",
            ("test_widths_of_uneven_rows",),
        ),
    ),
)

PROJECTS = (_LEDGER, _SLUGS, _SPANS, _ROMAN, _CACHE, _TABLE)
