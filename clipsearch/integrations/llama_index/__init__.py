"""LlamaIndex: a vector store, a retriever and an embedding over a library (`clipsearch[llama-index]`).

A node is a record: its id, its text or picture, its metadata and its embedding. Files of the library are nodes as well.
"""

from clipsearch.integrations.llama_index.embedding import ClipSearchEmbedding
from clipsearch.integrations.llama_index.retriever import ClipSearchRetriever
from clipsearch.integrations.llama_index.store import ClipSearchVectorStore, NodesFailedError

__all__ = ["ClipSearchEmbedding", "ClipSearchRetriever", "ClipSearchVectorStore", "NodesFailedError"]
