"""Porter's stemmer (M. Porter, An algorithm for suffix stripping, 1980), as his own program has it.

Two rules differ from the paper, in his program and in Lucene alike: "bli" becomes "ble" (the paper:
"abli" becomes "able"), and "logi" becomes "log". Words of one or two letters stay as they are. A
letter that is none of a, e, i, o, u and y counts as a consonant, whatever its script.
"""

from __future__ import annotations

_Rules = dict[str, tuple[tuple[str, str], ...]]


def _rules(*rules: tuple[str, str]) -> _Rules:
    """What takes the place of which ending, by the ending's last letter but one."""
    found: _Rules = {}
    for ending, instead in rules:
        found[ending[-2]] = (*found.get(ending[-2], ()), (ending, instead))
    return found


_STEP2 = _rules(
    *(("ational", "ate"), ("tional", "tion"), ("enci", "ence"), ("anci", "ance"), ("izer", "ize")),
    *(("bli", "ble"), ("alli", "al"), ("entli", "ent"), ("eli", "e"), ("ousli", "ous")),
    *(("ization", "ize"), ("ation", "ate"), ("ator", "ate"), ("alism", "al"), ("iveness", "ive")),
    *(("fulness", "ful"), ("ousness", "ous"), ("aliti", "al"), ("iviti", "ive"), ("biliti", "ble")),
    ("logi", "log"),
)
_STEP3 = _rules(
    *(("icate", "ic"), ("ative", ""), ("alize", "al"), ("iciti", "ic"), ("ical", "ic")),
    *(("ful", ""), ("ness", "")),
)
_STEP4 = _rules(
    *(("al", ""), ("ance", ""), ("ence", ""), ("er", ""), ("ic", ""), ("able", ""), ("ible", "")),
    *(("ant", ""), ("ement", ""), ("ment", ""), ("ent", ""), ("sion", "s"), ("tion", "t")),
    *(("ou", ""), ("ism", ""), ("ate", ""), ("iti", ""), ("ous", ""), ("ive", ""), ("ize", "")),
)


def stem(word: str) -> str:
    """The stem of a lower-case word.

    >>> [stem(word) for word in ("ponies", "running", "relational", "hopping", "agreed", "was")]
    ['poni', 'run', 'relat', 'hop', 'agre', 'wa']
    """
    if len(word) <= 2:
        return word
    word = _plural(word)
    word = _past(word)
    if word.endswith("y") and _vowel(word[:-1]):
        word = word[:-1] + "i"
    word = _replace(word, _STEP2)
    word = _replace(word, _STEP3)
    word = _drop(word)
    return _tidy(word)


def _shape(text: str) -> str:
    """Vowels as "v", consonants as "c"; y is a vowel after a consonant."""
    shape: list[str] = []
    for letter in text:
        vowel = letter in "aeiou" or (letter == "y" and bool(shape) and shape[-1] == "c")
        shape.append("v" if vowel else "c")
    return "".join(shape)


def _vowel(text: str) -> bool:
    return "v" in _shape(text)


def _measure(text: str) -> int:
    """How often a vowel is followed by a consonant."""
    return _shape(text).count("vc")


def _short(text: str) -> bool:
    """Whether it ends consonant, vowel, consonant, the last none of w, x, y."""
    return len(text) > 2 and _shape(text)[-3:] == "cvc" and text[-1] not in "wxy"


def _double(text: str) -> bool:
    """Whether it ends in twice the same consonant."""
    return len(text) > 1 and text[-1] == text[-2] and _shape(text)[-1] == "c"


def _plural(word: str) -> str:
    if word.endswith(("sses", "ies")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


def _past(word: str) -> str:
    if word.endswith("eed"):
        return word[:-1] if _measure(word[:-3]) > 0 else word
    for ending in ("ed", "ing"):
        rest = word[: -len(ending)]
        if word.endswith(ending):
            return _mend(rest) if _vowel(rest) else word
    return word


def _mend(word: str) -> str:
    """What a word that lost "ed" or "ing" had before: "hop" of "hopp", "file" of "fil"."""
    if word.endswith(("at", "bl", "iz")):
        return word + "e"
    if _double(word):
        return word if word[-1] in "lsz" else word[:-1]
    return word + "e" if _measure(word) == 1 and _short(word) else word


def _replace(word: str, rules: _Rules) -> str:
    for ending, instead in rules.get(word[-2:-1], ()):
        if word.endswith(ending):
            rest = word[: -len(ending)]
            return rest + instead if _measure(rest) > 0 else word
    return word


def _drop(word: str) -> str:
    for ending, kept in _STEP4.get(word[-2:-1], ()):
        if word.endswith(ending):
            rest = word[: len(word) - len(ending) + len(kept)]
            return rest if _measure(rest) > 1 else word
    return word


def _tidy(word: str) -> str:
    """Without a last "e" or the second of two "l" where the word is long enough."""
    if word.endswith("e"):
        rest = word[:-1]
        measure = _measure(rest)
        if measure > 1 or (measure == 1 and not _short(rest)):
            word = rest
    return word[:-1] if word.endswith("ll") and _measure(word[:-1]) > 1 else word
