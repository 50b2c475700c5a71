"""Finding documents: corpora, indexes, and the server and clients that carry them over HTTP."""

from foldgym.search.base import Document, Hit, Index
from foldgym.search.bm25 import Bm25
from foldgym.search.store import Manifest, build_index, open_index, read_manifest, shared_index

__all__ = [
    "Bm25",
    "Document",
    "Hit",
    "Index",
    "Manifest",
    "build_index",
    "open_index",
    "read_manifest",
    "shared_index",
]
