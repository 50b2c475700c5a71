"""Finding documents: corpora, indexes, and the server and clients that carry them over HTTP."""

from foldgym.search.base import Document, Hit, Index
from foldgym.search.bm25 import Bm25
from foldgym.search.corpora import Corpus, Fields, Problem
from foldgym.search.store import Manifest, build_index, open_index, read_manifest, shared_index

__all__ = [
    "Bm25",
    "Corpus",
    "Document",
    "Fields",
    "Hit",
    "Index",
    "Manifest",
    "Problem",
    "build_index",
    "open_index",
    "read_manifest",
    "shared_index",
]
