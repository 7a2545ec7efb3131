"""Haystack: a document store and two retrievers over a library (`clipsearch[haystack]`).

A document is a record: its id, text, picture, meta and embedding. Files of the library are documents as well.
"""

from clipsearch.integrations.haystack.retrievers import ClipSearchEmbeddingRetriever, ClipSearchMultimodalRetriever
from clipsearch.integrations.haystack.store import ClipSearchDocumentStore

__all__ = ["ClipSearchDocumentStore", "ClipSearchEmbeddingRetriever", "ClipSearchMultimodalRetriever"]
