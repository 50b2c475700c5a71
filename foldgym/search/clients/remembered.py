"""Documents that came with search results, kept so that they can be opened afterwards."""

from __future__ import annotations

import threading
from collections import OrderedDict

from foldgym.search.base import Document

MOST = 20_000


class Remembered:
    """The documents met last, at most `most`; safe to share by threads."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._documents: OrderedDict[str, Document] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, document: Document) -> None:
        """Keep one, and forget the one that was met longest ago if there are too many."""
        with self._lock:
            self._documents[document.id] = document
            self._documents.move_to_end(document.id)
            if len(self._documents) > self._most:
                self._documents.popitem(last=False)

    def find(self, id: str) -> Document | None:
        """The document with this id, if it is still remembered."""
        with self._lock:
            return self._documents.get(id)
