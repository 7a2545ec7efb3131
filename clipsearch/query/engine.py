"""The public engine: one library that is searched, read and written, composed of what each of these needs."""

from __future__ import annotations

import threading
from typing import NoReturn, Self

from clipsearch.config import Settings
from clipsearch.encoders.base import Encoder
from clipsearch.forking import abandon, register
from clipsearch.query.asynchronous import EngineAsync
from clipsearch.query.batching import Batcher
from clipsearch.query.candidates import Retriever
from clipsearch.query.changing import EngineChanges
from clipsearch.query.collecting import EngineCollections
from clipsearch.query.embedding import Embedder
from clipsearch.query.embeds import EngineEmbeds
from clipsearch.query.exporting import EngineExports
from clipsearch.query.matching import EngineMatches
from clipsearch.query.reading import EngineReads
from clipsearch.query.saving import EngineSaved
from clipsearch.query.writing import TIMEOUT
from clipsearch.store.library import Library


class SearchEngine(
    EngineAsync,
    EngineMatches,
    EngineReads,
    EngineChanges,
    EngineCollections,
    EngineEmbeds,
    EngineExports,
    EngineSaved,
):
    """Ranked search over one library; safe to use from several threads, and after a fork.

    Attributes:
        library: The library that is searched.
    """

    def __init__(
        self,
        library: Library,
        settings: Settings | None = None,
        encoder: Encoder | None = None,
        embedder: Embedder | None = None,
        *,
        timeout: float = TIMEOUT,
        may_be_empty: bool = False,
    ) -> None:
        """Search a library.

        Args:
            library: An open library.
            settings: Defaults if not given.
            encoder: The encoder that the library is pinned to; loaded when first needed if not given.
            embedder: One that is at work already.
            timeout: Seconds that a call that writes waits for another writer.
            may_be_empty: Answer a search of an empty library with no hits, not with an error.
        """
        super().__init__(timeout)
        self._may_be_empty = may_be_empty
        self.library = library
        self._settings = settings or Settings()
        self._encoder = encoder
        self._embedder = embedder
        self._retriever = Retriever(library)
        self._lock = threading.Lock()
        self._batcher = Batcher(self._answer_together)
        register(self)

    def close(self) -> None:
        """Close the library. This is final: a later call, and what waits in `asearch`, raises LibraryError.

        A call that writes is waited for, until the timeout.
        """
        self._batcher.close()
        is_waiting_over = self._turn.acquire(timeout=self._timeout)
        try:
            self.library.close()
        finally:
            if is_waiting_over:
                self._turn.release()

    @property
    def retriever(self) -> Retriever:
        """What finds candidates in its library, by the indexes that are loaded."""
        return self._retriever

    @property
    def settings(self) -> Settings:
        """The settings that it was opened with."""
        return self._settings

    def __repr__(self) -> str:
        return f"<SearchEngine of {self.library.folder}>"

    def renew_after_fork(self) -> None:
        """Make again what holds locks and threads, in a fork of the process."""
        abandon(self._retriever, self._embedder, self._writing_encoder)
        self._retriever, self._embedder, self._writing_encoder = Retriever(self.library), None, None
        self._lock, self._turn = threading.Lock(), threading.Lock()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"A SearchEngine cannot be pickled or copied: it holds open files and a model. Give the other process the "
            f"folder, and open it there: clipsearch.open({str(self.library.folder)!r})"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()
