"""Lucene's BM25, number for number: lengths in one byte, arithmetic in 32 bits.

    idf    = ln(1 + (N - n + 0.5) / (n + 0.5))          n of N documents hold the term
    score += idf - idf / (1 + f / (k1 (1 - b + b L / mean)))    f times in a document of L terms

A document's length is kept in one byte, as `SmallFloat.intToByte4` rounds it: exact below 40, above
that with four significant bits, rounded down. Sums are taken in 64 bits and given out in 32.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foldgym.errors import UserError

ANSERINI = (0.9, 0.4)
LUCENE = (1.2, 0.75)

_FREE = 24  # codes left over at the top, which Lucene spends on exact small lengths


def byte_of(length: int) -> int:
    """The byte that stands for a length; lengths up to 2**31 - 1.

    >>> [byte_of(length) for length in (0, 39, 40, 41, 42, 1000)]
    [0, 39, 40, 40, 41, 75]
    """
    return length if length < _FREE else _FREE + _pack(length - _FREE)


def length_of(byte: int) -> int:
    """The length that a byte stands for: the least of those it was made from.

    >>> [length_of(byte) for byte in (0, 39, 40, 41, 75)]
    [0, 39, 40, 42, 984]
    """
    return byte if byte < _FREE else _FREE + _unpack(byte - _FREE)


def _pack(number: int) -> int:
    """Five bits of exponent, three of mantissa, the leading one implied."""
    bits = number.bit_length()
    if bits < 4:
        return number
    shift = bits - 4
    return (number >> shift) & 7 | (shift + 1) << 3


def _unpack(code: int) -> int:
    shift = (code >> 3) - 1
    return code & 7 if shift < 0 else (code & 7 | 8) << shift


_LENGTHS = np.array([length_of(byte) for byte in range(256)], dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Bm25Weights:
    """`k1` and `b`; the defaults are Anserini's, `LUCENE` holds Lucene's."""

    k1: float = ANSERINI[0]
    b: float = ANSERINI[1]

    def __post_init__(self) -> None:
        if not (math.isfinite(self.k1) and self.k1 >= 0 and 0 <= self.b <= 1):
            raise UserError(
                f"BM25 takes k1 of at least 0 and b from 0 to 1, not {self.k1} and {self.b}"
            )

    def inverse_norms(self, mean: float) -> NDArray[np.float32]:
        """[256]: for each length byte, the reciprocal of k1 (1 - b + b L / mean)."""
        k1, b, one = np.float32(self.k1), np.float32(self.b), np.float32(1)
        with np.errstate(divide="ignore"):  # k1 = 0: how often a term occurs does not count
            return one / (k1 * ((one - b) + b * _LENGTHS / np.float32(mean)))


def idf(holders: int, documents: int) -> np.float32:
    """How rare a term is."""
    return np.float32(math.log(1 + (documents - holders + 0.5) / (holders + 0.5)))


def contribution(
    weight: np.float32, frequencies: NDArray[np.float32], inverse_norms: NDArray[np.float32]
) -> NDArray[np.float32]:
    """[P]: what one term adds to each document that holds it."""
    return weight - weight / (np.float32(1) + frequencies * inverse_norms)
