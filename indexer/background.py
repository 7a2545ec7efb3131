"""Indexes that are made while a run goes on: the old ones answer until the new ones are whole."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from clipsearch.errors import ClipSearchError
from clipsearch.store.catalog import Generation
from clipsearch.store.library import Library
from clipsearch.store.writer import Writer
from clipsearch.types import Modality
from indexer.build import Builder, activate, sweep_generations

logger = logging.getLogger("clipsearch")


class BackgroundBuild:
    """Makes one index at a time in a thread of its own; the catalog is changed by whoever calls `tend` alone."""

    def __init__(self, library: Library, builder: Builder) -> None:
        """Build for a library, with what `builder` chooses."""
        self._library = library
        self._builder = builder
        self._thread: threading.Thread | None = None
        self._made: tuple[Modality, Generation | None] | None = None
        self._failed: set[Modality] = set()

    def tend(self, writer: Writer) -> None:
        """Make active what is ready, and begin what is due; returns at once, and raises nothing.

        What could not be made is not tried again by this run until its end.
        """
        if self._thread is not None and self._thread.is_alive():
            return
        try:
            if self._thread is not None:
                self._thread = None
                if self._made is not None:
                    modality, generation = self._made
                    activate(writer, modality, generation)
                    sweep_generations(self._library)
            else:
                self._begin()
        except ClipSearchError as error:
            logger.warning("%s", error)
            self._failed = set(Modality)

    def _begin(self) -> None:
        modality = self._due()
        if modality is not None:
            self._made = None
            # A daemon: a run that is stopped does not wait for it, and the next one sweeps what it left.
            self._thread = threading.Thread(target=self._make, args=(modality,), name="clipsearch-build", daemon=True)
            self._thread.start()

    def finish(self, writer: Writer, should_stop: Callable[[], bool] = lambda: False) -> None:
        """Wait for what has begun, and make it active; unless the run is to stop meanwhile."""
        while self._thread is not None and not should_stop():
            self._thread.join(0.2)
            if not self._thread.is_alive():
                self.tend(writer)

    def _due(self) -> Modality | None:
        with self._library.read() as snapshot:
            for modality in set(Modality) - self._failed:
                if self._builder.is_behind(snapshot, modality):
                    return modality
        return None

    def _make(self, modality: Modality) -> None:
        try:
            with self._library.read() as snapshot:
                self._made = modality, self._builder.make(snapshot, modality)
        except Exception as error:  # whatever it is, the run goes on, and its end tries again
            logger.warning(
                "The %s index could not be built during the run, and is tried again at its end: %s", modality, error
            )
            self._failed.add(modality)
