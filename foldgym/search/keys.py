"""From a string to its number, on disk: sorted 64-bit digests that all processes share.

Two strings have one digest with odds of about n / 2**64. A caller that holds the strings checks
what it found; one that does not lives with those odds (5e-14 for a million terms).
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def digest(text: str) -> int:
    """64 bits of BLAKE2b; the same in every process."""
    data = text.encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "little")


@dataclass(frozen=True, slots=True)
class Keys:
    """`digests` [N] ascending, and the number of the string behind each."""

    digests: NDArray[np.uint64]
    numbers: NDArray[np.uint32]

    @classmethod
    def of(cls, digests: Any) -> Keys:
        """From the digests of strings 0, 1, 2, ...; equal ones keep their order."""
        column = np.asarray(digests, dtype=np.uint64)
        order = np.argsort(column, kind="stable")
        return cls(column[order], order.astype(np.uint32))

    def find(self, text: str) -> int:
        """The number of the first string with this digest, or -1."""
        wanted = np.uint64(digest(text))
        at = int(np.searchsorted(self.digests, wanted))
        if at == len(self.digests) or self.digests[at] != wanted:
            return -1
        return int(self.numbers[at])

    def save(self, folder: Path, name: str) -> None:
        """Two files, `<name>.digests.npy` and `<name>.numbers.npy`."""
        np.save(folder / f"{name}.digests.npy", self.digests)
        np.save(folder / f"{name}.numbers.npy", self.numbers)

    @classmethod
    def load(cls, folder: Path, name: str) -> Keys:
        """Memory-mapped."""
        return cls(mapped(folder / f"{name}.digests.npy"), mapped(folder / f"{name}.numbers.npy"))


class Table(dict[str, int]):
    """The same in memory."""

    def find(self, text: str) -> int:
        """The number of the string, or -1."""
        return self.get(text, -1)


def mapped(path: Path) -> Any:
    """An array that the operating system reads from disk as needed and all processes share."""
    return np.load(path, mmap_mode="r", allow_pickle=False)
