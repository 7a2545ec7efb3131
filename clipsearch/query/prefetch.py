"""Embed a query in a fork of this process, while the process itself loads the store.

Only `clipsearch.cli.cold_start` uses it, which names the benchmark that it is for.
"""

from __future__ import annotations

import os
import sys
import warnings
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from clipsearch.config import Settings
from clipsearch.errors import InvalidInputError, MediaError
from clipsearch.query.embedding import Embedder
from clipsearch.query.handover import Embedded, pack, unpack
from clipsearch.store.reading import peek_encoder


def start_embedding(library: Path, settings: Settings, *, text: str | None, image: str | None) -> Embedder | None:
    """Begin to embed a query for the library in a folder; None where the library itself has to be opened first.

    text, image: what will be asked for next, the picture by its path or URL; at most one of the two. It is embedded in
    a process of its own where there is a core for it. An error of the query itself is raised when the query is asked;
    whatever else fails is tried again then, and fails loudly.
    """
    pin = peek_encoder(library)
    if pin is None:
        return None
    embedder = Embedder(pin, settings)
    if _is_slow(embedder, text, image) and settings.cores > 1 and hasattr(os, "fork") and sys.platform != "darwin":
        with suppress(OSError):  # such as no process left
            embedder.expect(Prefetch(embedder, text, image))
    return embedder


def _is_slow(embedder: Embedder, text: str | None, image: str | None) -> bool:
    """Tell whether a query needs the encoder."""
    if text is None:
        return image is not None
    return bool(text.strip()) and not embedder.is_known(text)


class Prefetch:
    """A query that a fork of this process embeds, beside what this one has to import.

    A thread would not do: opening a model holds the lock of the interpreter, as imports do. Nothing may run in other
    threads of Python at this time. text, image: the query; one of the two is None.
    """

    def __init__(self, embedder: Embedder, text: str | None, image: str | None) -> None:
        self.text = text
        self.image = image
        self._reader, writer = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the threads of BLAS, which are made for this
            try:
                self._child = os.fork()
            except OSError:
                os.close(self._reader)
                os.close(writer)
                raise
        if self._child == 0:
            self._embed(embedder, writer)
        os.close(writer)

    def result(self) -> Embedded | None:
        """Wait for it; None where it failed. Raises InvalidInputError or MediaError for a query that is no good."""
        with os.fdopen(self._reader, "rb") as pipe:
            sent = pipe.read()
        with suppress(ChildProcessError):  # where nobody wants to hear of children, none is waited for
            os.waitpid(self._child, 0)
        done = unpack(sent)
        if isinstance(done, Exception):
            raise done
        return done

    def _embed(self, embedder: Embedder, writer: int) -> NoReturn:
        try:
            os.close(self._reader)
            done = self._embedded(embedder)
            with os.fdopen(writer, "wb") as pipe:
                pipe.write(pack(done))
        finally:
            if (preparing := sys.modules.get("clipsearch.encoders.preparing")) is not None:
                preparing.drop_scratch()
            os._exit(0)  # not a step further: all else belongs to the other process

    def _embedded(self, embedder: Embedder) -> Embedded | InvalidInputError | MediaError:
        try:
            if self.text is not None:
                return embedder.embed_text(self.text)
            assert self.image is not None
            return embedder.embed_picture(self.image)
        except (InvalidInputError, MediaError) as error:  # it would be no other the second time; a server may be slow
            return error
