"""Where words begin and end: Unicode's word boundaries (UAX #29) as Lucene's tokenizer reads them.

Every character is replaced by the letter of its class, and one regular expression finds words in
the string of classes. Python's `unicodedata` does not know the property Word_Break, so classes are
derived from general categories, names and the short tables below.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right

MOST_CHARACTERS = 255
"""A longer word is cut into pieces of this length, as Lucene cuts it."""


class _Classes(dict[int, str]):
    """Class letters of code points, worked out when they are first met."""

    def __missing__(self, point: int) -> str:
        self[point] = found = _class(point)
        return found


# what the classes below say of ASCII alone, many times as fast
_ASCII = re.compile(
    r"\w+(?:(?:(?<=[A-Za-z])[.:'](?=[A-Za-z])|(?<=[0-9])[.,;'](?=[0-9]))\w+)*", re.ASCII
)


def words(text: str) -> list[str]:
    """The words of `text`, in order, as written.

    >>> words("O'Neil's 3.5-inch foo_bar, 東京!")
    ["O'Neil's", '3.5', 'inch', 'foo_bar', '東', '京']
    """
    if text.isascii():
        found: list[str] = _ASCII.findall(text)
        if "_" in text:
            found = [word for word in found if word.strip("_")]
    else:
        classes = text.translate(_CLASSES)
        found = [text[slice(*match.span())] for match in _WORD.finditer(classes)]
    if max(map(len, found), default=0) > MOST_CHARACTERS:
        found = [piece for word in found for piece in _pieces(word)]
    return found


def _pieces(word: str) -> list[str]:
    return [word[at : at + MOST_CHARACTERS] for at in range(0, len(word), MOST_CHARACTERS)]


# L letter, H Hebrew letter, D digit, K katakana, U joiner such as "_", I ideograph, S script
# without spaces between words, s its vowel signs, E pictograph, e skin tone, F half of a flag,
# x mark that clings to what stands before, z zero-width joiner, k key cap, # what else may wear
# one; between letters m, between digits n, between either b, quotes q and Q; a space for the rest.
_PUNCTUATION = {
    "m": ":\u00b7\u0387\u055f\u05f4\u2027\ufe13\ufe55\uff1a",
    "n": ",;\u037e\u0589\u060c\u060d\u066c\u07f8\u2044\ufe10\ufe14\ufe50\ufe54\uff0c\uff1b",
    "b": ".\u2018\u2019\u2024\ufe52\uff07\uff0e",
    "q": "'",
    "Q": '"',
    "U": "\u202f",
    "D": "\u066b",
    "z": "\u200d",
    "k": "\u20e3",
    "#": "#*",
    " ": "\u200b\u3006\u30fb\uff65",
    "x": "\uff9e\uff9f",
    "I": "\u3007\U0001f200",
    "K": "\u309b\u309c\u30a0",
}
_EXPLICIT = {ord(each): name for name, those in _PUNCTUATION.items() for each in those}


def _ranges(text: str) -> list[int]:
    """`"A9 2194-2199"` to the starts and ends, end exclusive, in one ascending list."""
    edges: list[int] = []
    for part in text.split():
        first, _, last = part.partition("-")
        edges += [int(first, 16), int(last or first, 16) + 1]
    return edges


_PICTOGRAPHS = _ranges("""
A9 AE 203C 2049 2122 2194-2199 21A9-21AA 231A-231B 2328 2388 23CF 23E9-23F3 23F8-23FA 25AA-25AB
25B6 25C0 25FB-25FE 2600-2605 2607-2612 2614-2685 2690-2705 2708-2712 2714 2716 271D 2721 2728
2733-2734 2744 2747 274C 274E 2753-2755 2757 2763-2767 2795-2797 27A1 27B0 27BF 2934-2935 2B05-2B07
2B1B-2B1C 2B50 2B55 3030 303D 3297 3299 1F000-1F0F5 1F10D-1F10F 1F12F 1F16C-1F16F 1F18E 1F191-1F19A
1F1AD 1F201-1F202 1F21A 1F22F 1F232-1F23A 1F250-1F3FA 1F400-1F53D 1F546-1F64F 1F680-1F6FF
1F7D5-1F7F0 1F8B0-1F8B1 1F90C-1F93A 1F93C-1F945 1F947-1FAFF
""")
_UNSPACED = _ranges("""
E01-E3A E40-E4E E81-ECD EDC-EDF 1000-103F 1050-108F 109A-109F 1780-17D3 17D7 17DC-17DD 1950-19C9
19DA-19DF 1A20-1A7C 1AA0-1AAD A9E0-A9EF A9FA-A9FE AA60-AADF 11700-1172B 1173A-1173B 1173F
""")
_LETTER_LIKE = _ranges("""
2C2-2C5 2D2-2D7 2DE-2DF 2ED 2EF-2FF 55B-55C 55E 5F3 24B6-24E9 A720-A721 A789-A78A AB5B
1F130-1F149 1F150-1F169 1F170-1F189
""")
_IDEOGRAPHS = _ranges("2E80-2FD5 3021-3029 3038-303A F900-FAD9")
_NO_WORDS = _ranges("17000-18D08 1B170-1B2FB")  # Tangut and Nushu, for which Unicode has no rule
_KATAKANA = _ranges("3031-3035 32D0-32FE 3300-3357")


def _within(point: int, edges: list[int]) -> bool:
    return bool(bisect_right(edges, point) % 2)


def _class(point: int) -> str:
    if point in _EXPLICIT:
        return _EXPLICIT[point]
    char = chr(point)
    category = unicodedata.category(char)
    if category == "Cn":
        return " "
    if _within(point, _UNSPACED):
        return "s" if category.startswith("M") else "S"
    for edges, found in ((_PICTOGRAPHS, "E"), (_LETTER_LIKE, "L"), (_IDEOGRAPHS, "I")):
        if _within(point, edges):
            return found
    if _within(point, _KATAKANA):
        return "K"
    if 0x1F1E6 <= point <= 0x1F1FF:
        return "F"
    if 0x1F3FB <= point <= 0x1F3FF:  # skin tones
        return "e"
    return _plain(char)


def _plain(char: str) -> str:
    category = unicodedata.category(char)
    if category == "Nd":
        return "D"
    if category in ("Mn", "Mc", "Me", "Cf"):
        return "x"
    if category == "Pc":
        return "U"
    if _within(ord(char), _NO_WORDS):
        return " "
    name = unicodedata.name(char, "")
    if name.startswith(("HIRAGANA", "HENTAIGANA")):
        return "I"
    if name.startswith(("KATAKANA", "HALFWIDTH KATAKANA")):
        return "K"
    if name.startswith("CJK "):
        return "I" if category in ("Lo", "Nl") else " "
    if category[0] == "L" or category == "Nl":
        return "H" if name.startswith("HEBREW") and category == "Lo" else "L"
    return " "


_CLASSES = _Classes()


def _pattern() -> re.Pattern[str]:
    x = "[xzeks]*"  # what clings to the character before
    joiner = f"(?:U{x})"
    quoted = f"H{x}(?:Q{x}H{x}|q{x})"  # a Hebrew abbreviation, whole
    letter = f"(?:L{x}|H{x}+(?!Q{x}H|q{x}(?![LH])))"
    letters = f"{letter}(?:{joiner}*{letter}|[mbq]{x}[LH]{x})*"
    digits = f"D{x}(?:(?:{joiner}*|[nbq]{x})D{x})*"
    kana = f"K{x}(?:{joiner}*K{x})*"
    run = f"(?:{kana}|(?:{digits}|{letters}|{quoted})+)"
    word = f"(?<!U){joiner}*{run}(?:{joiner}+{run})*{joiner}*"  # joiners alone: looked at once
    picture = f"z?[Ee]{x}(?:(?<=z)[Ee]{x})*"
    flag = f"F{x}F{x}"
    cap = f"#x?k{x}"
    return re.compile(f"{word}|{picture}|{flag}|{cap}|(?:[Ss]{x})+|I{x}")


_WORD = _pattern()
