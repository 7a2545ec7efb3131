"""LangChain: embeddings, a vector store, a retriever and a document index over a library (`clipsearch[langchain]`).

A document is a record: its id, its text and its metadata. Files and pictures of the library are documents as well: the
text of a picture is its caption, that of a file the passage that matched, and `metadata["source"]` names the file.
"""

from clipsearch.integrations.langchain.document_index import ClipSearchDocumentIndex
from clipsearch.integrations.langchain.documents import DocumentsFailedError
from clipsearch.integrations.langchain.embeddings import ClipSearchEmbeddings
from clipsearch.integrations.langchain.retriever import ClipSearchRetriever
from clipsearch.integrations.langchain.vector_store import ClipSearchVectorStore

__all__ = [
    "ClipSearchDocumentIndex",
    "ClipSearchEmbeddings",
    "ClipSearchRetriever",
    "ClipSearchVectorStore",
    "DocumentsFailedError",
]
