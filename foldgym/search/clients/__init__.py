"""Indexes on other machines, by their address.

http://host:8000/retrieve                     Search-R1's protocol; `foldgym index serve`
opensearch+http://user:password@host:9200/wiki   OpenSearch or Elasticsearch, index "wiki"
qdrant+http://host:6333/wiki                  Qdrant, collection "wiki"; needs model or encoder
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from foldgym.errors import UnknownName
from foldgym.search.base import Index
from foldgym.search.engines import called

_CLIENTS = {
    "http": "retrieve:Retrieve",
    "https": "retrieve:Retrieve",
    "opensearch+http": "opensearch:OpenSearch",
    "opensearch+https": "opensearch:OpenSearch",
    "qdrant+http": "qdrant:Qdrant",
    "qdrant+https": "qdrant:Qdrant",
}


def connect(address: str, **options: Any) -> Index:
    """The index at an address; nothing is sent before the first question. `options` are the
    client's, such as `dialect="query"`. Raises `UserError` for what is no such address.
    """
    scheme, _, rest = address.partition("://")
    if scheme not in _CLIENTS:
        raise UnknownName("kind of search server", scheme, _CLIENTS)
    module, _, name = _CLIENTS[scheme].partition(":")
    client = getattr(import_module(f"foldgym.search.clients.{module}"), name)
    url = f"{scheme.rpartition('+')[2]}://{rest}"
    return called(client, f"the client for {scheme}", options, url)
