"""A library: the folder that holds catalog, vectors and generations. Many readers, one writer."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, delete, select

from clipsearch.durable import fsync_path
from clipsearch.errors import (
    EncoderMismatchError,
    LibraryError,
    LibraryLockedError,
    LibraryNotFoundError,
    StoreCorruptError,
)
from clipsearch.filtering import absolute
from clipsearch.store import catalog, full_text, migrations, tags
from clipsearch.store.database import mapped_errors, reader_engine, transaction, writer_engine
from clipsearch.store.filters import RecentRows, condition, matching_rows
from clipsearch.store.pictures import PictureRow, copied_pictures, copies, picture_rows, rows_of_pictures
from clipsearch.store.reading import CATALOG, EncoderPin
from clipsearch.store.roots import library_base
from clipsearch.store.schema import generations, items, segments, tombstones, vectors
from clipsearch.store.spreads import SPREADS_KEY, Spreads, get_spreads
from clipsearch.store.vectors import SUFFIX, Rows, VectorStore
from clipsearch.store.writer import REVISION_KEY, Writer, bump_revision
from clipsearch.types import Filter, Item, Modality

VECTORS = "vectors"

SAMPLE_ROWS = 1024
"""How many rows stand for a library when a query's scores are set against it."""

T = TypeVar("T")


class Snapshot:
    """One state of a library, fixed while it is open. Rows and masks are shared between snapshots of one revision."""

    def __init__(self, library: Library, connection: Connection) -> None:
        self._library = library
        self._connection = connection
        self.revision = int(catalog.get_setting(connection, REVISION_KEY) or 0)
        self._rows: dict[Modality, Rows] = {}

    def rows(self, modality: Modality) -> Rows:
        """Return the committed rows of a modality. Raises StoreCorruptError if they are missing or damaged."""
        if modality not in self._rows:
            self._rows[modality] = self._cached(f"rows {modality}", lambda: self._map(modality))
        return self._rows[modality]

    def holds_rows(self) -> bool:
        """Map all rows, after which nothing that is deleted matters here; False if a file is missing or damaged."""
        try:
            for modality in Modality:
                self.rows(modality)
        except StoreCorruptError:
            return False
        return True

    def live(self, modality: Modality) -> NDArray[np.bool_] | None:
        """Return which rows may be found: bool (rows,), or None where all may."""
        return self._cached(f"live {modality}", lambda: self._live(modality))

    def sample(self, modality: Modality) -> NDArray[np.float32]:
        """Return up to SAMPLE_ROWS live rows, evenly spread, the same at every call: float32 (n, dim)."""

        def compute() -> NDArray[np.float32]:
            rows, live = self.rows(modality), self.live(modality)
            numbers = np.arange(len(rows)) if live is None else np.flatnonzero(live)
            return rows.gather(numbers[:: max(1, -(-len(numbers) // SAMPLE_ROWS))])

        return self._cached(f"sample {modality}", compute)

    def spreads(self) -> Spreads:
        """Return how wide queries at large score."""
        return self._cached("spreads", lambda: get_spreads(self._connection))

    def generation(self, modality: Modality) -> catalog.Generation | None:
        """Return the active approximate index of a modality."""
        return self._cached(f"generation {modality}", lambda: catalog.get_generation(self._connection, modality))

    def root_paths(self) -> Mapping[int, str]:
        """Return for each root the absolute path that those of its items start from."""
        return self._cached(
            "roots", lambda: {r.id: r.folder for r in catalog.get_roots(self._connection, self._library.base)}
        )

    def matches(self, modality: Modality, rows: list[int]) -> dict[int, catalog.Match]:
        """Look up the items behind rows."""
        return catalog.matches(self._connection, modality, rows, self.root_paths())

    def owners(self, modality: Modality, rows: list[int]) -> dict[int, int]:
        """Return the id of the item behind each of these rows."""
        return catalog.owners(self._connection, modality, rows=rows)

    def rows_of(self, modality: Modality, ids: Iterable[int]) -> dict[int, int]:
        """Return every row of these items, with the id of its item."""
        return catalog.owners(self._connection, modality, ids=ids)

    def matching(self, modality: Modality, wanted: Filter) -> NDArray[np.int64]:
        """Return the rows of a modality that may be found and whose items a filter allows: int64, ascending, read-only.

        Raises InvalidInputError for a folder that lies in no root.
        """
        wanted = absolute(wanted)
        recent = self._cached("matching", RecentRows)
        return recent.get(
            modality, wanted, lambda: matching_rows(self._connection, modality, wanted, self._library.base)
        )

    def by_words(self, text: str, wanted: Filter | None, limit: int) -> list[int]:
        """Return the ids of items whose captions or texts have words of a text, best first, as a filter allows."""
        allowed = condition(self._connection, absolute(wanted or Filter()), self._library.base)
        return full_text.ranked(self._connection, text, allowed, limit)

    def list_items(self, wanted: Filter, limit: int | None) -> tuple[list[Item], int]:
        """Return the first items that a filter allows, newest first, and how many there are in all."""
        allowed = condition(self._connection, absolute(wanted), self._library.base)
        return catalog.list_items(self._connection, allowed, limit, self.root_paths())

    def tags_of(self, ids: Iterable[int]) -> dict[int, tuple[str, ...]]:
        """Return the tags of each of these items that has any, in order."""
        return tags.names_of(self._connection, ids)

    def pictures(self) -> Iterator[PictureRow]:
        """Yield every picture that may be found, in order of its row."""
        return picture_rows(self._connection, self.root_paths())

    def rows_of_pictures(self, ids: list[int]) -> dict[int, int]:
        """Return the row of each of these items that has one as a picture."""
        return rows_of_pictures(self._connection, ids)

    def copies(self) -> Iterator[Item]:
        """Yield every item that has the content of another, copies one after the other."""
        return copies(self._connection, self.root_paths())

    def copied(self) -> frozenset[str]:
        """Return the content hashes that several pictures have."""
        return copied_pictures(self._connection)

    def _map(self, modality: Modality) -> Rows:
        store = self._library.vector_store(int(catalog.get_setting(self._connection, "dim") or 0))
        return store.view(catalog.get_segments(self._connection, modality))

    def _live(self, modality: Modality) -> NDArray[np.bool_] | None:
        dead = catalog.get_tombstones(self._connection, modality)
        if not len(dead):
            return None
        mask = np.ones(len(self.rows(modality)), np.bool_)
        mask[dead] = False
        return mask

    def _cached(self, key: str, compute: Callable[[], T]) -> T:
        return self._library.cached(self.revision, key, compute)


class Library:
    """A library on disk, open for reading; `writer()` takes the lock for changing it. Safe to share by threads."""

    def __init__(self, folder: Path) -> None:
        """Open a library. Raises LibraryNotFoundError, SchemaVersionError or StoreCorruptError."""
        self.folder = Path(os.path.abspath(folder))
        self.base = library_base(self.folder)
        path = self.folder / CATALOG
        if not path.is_file():
            _check_no_vectors(self.folder)
            raise LibraryNotFoundError(f"There is no library in {self.folder}. Make one: clipsearch index FOLDER")
        self._engine = reader_engine(path)
        self._store = VectorStore(self.folder / VECTORS, 0)
        self._cache: dict[str, object] = {}
        self._cache_revision = -1
        self._cache_lock = threading.RLock()
        version = migrations.schema_version(self._engine)
        migrations.check_version(version)
        migrations.show_as_newest(self._engine, version)
        if version == 0:
            _check_no_vectors(self.folder)
            raise LibraryNotFoundError(f"The library in {self.folder} is empty. Fill it: clipsearch index FOLDER")

    @classmethod
    def create(cls, folder: Path) -> Library:
        """Open a library, making it first where there is none. Raises LibraryError if the folder cannot be used."""
        folder = Path(os.path.abspath(folder))
        try:
            new = [path for path in (folder, *folder.parents) if not path.exists()]
            folder.mkdir(parents=True, exist_ok=True)
            for path in new:
                fsync_path(path.parent)
        except OSError as error:
            raise LibraryError(
                f"The library folder {folder} cannot be made: {error.strerror}. Name another with --library."
            ) from error
        with _locked(folder):
            if not (folder / CATALOG).exists():
                _check_no_vectors(folder)
            engine = writer_engine(folder / CATALOG)
            if migrations.schema_version(engine) == 0:
                _check_no_vectors(folder)
            migrations.migrate(engine)
            engine.dispose()
            fsync_path(folder)
        return cls(folder)

    @contextmanager
    def read(self) -> Iterator[Snapshot]:
        """Open one state of the library; what is committed meanwhile is not in it.

        A state whose files a compaction has replaced before they could be mapped is passed over for the newest one.
        """
        while True:
            with self.query() as connection:
                snapshot = Snapshot(self, connection)
                if snapshot.holds_rows() or snapshot.revision == self._revision():
                    yield snapshot
                    return

    @contextmanager
    def query(self) -> Iterator[Connection]:
        """Open a reading transaction on the catalog."""
        with mapped_errors(), self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def writer(self) -> Iterator[Writer]:
        """Take the lock, cut off what a crash left, and change the library.

        Vectors can be committed once an encoder is pinned. Raises LibraryLockedError at once if another writer is at
        work.
        """
        with _locked(self.folder):
            pin = self.encoder
            engine = writer_engine(self.folder / CATALOG)
            migrations.migrate(engine)
            try:
                with mapped_errors(), engine.connect() as connection:
                    with transaction(connection):
                        segments = catalog.get_segments(connection)
                    store = VectorStore(self.folder / VECTORS, pin.dim if pin else 0)
                    store.recover(segments)
                    try:
                        yield Writer(connection, store)
                    finally:
                        self._engine.dispose()  # the last connection to close folds SQLite's log into the catalog
            finally:
                engine.dispose()

    @property
    def encoder(self) -> EncoderPin | None:
        """The encoder this library is pinned to; None before the first run."""
        with self.query() as connection:
            name = catalog.get_setting(connection, "encoder")
            if name is None:
                return None
            fingerprint = catalog.get_setting(connection, "fingerprint") or ""
            return EncoderPin(name, fingerprint, int(catalog.get_setting(connection, "dim") or 0))

    def pin(self, pin: EncoderPin) -> None:
        """Pin the encoder of a library that holds nothing. Raises EncoderMismatchError if another one is pinned."""
        if self.encoder != pin and self._is_empty():
            with _locked(self.folder):
                if self._is_empty():
                    self._store_pin(pin)
        present = self.encoder
        if present is not None and present != pin:
            names = [f"{which.name} ({which.fingerprint[:12]})" for which in (present, pin)]
            raise encoder_mismatch(self.folder, *names)

    def check_pin(self, pin: EncoderPin) -> None:
        """Raise EncoderMismatchError if another encoder was pinned meanwhile; certain while a writer is open."""
        present = self.encoder
        if present != pin:
            raise encoder_mismatch(self.folder, present.name if present else "no encoder", pin.name)

    def check_encoder(self, name: str) -> None:
        """Raise EncoderMismatchError if the library holds vectors of an encoder of another name."""
        present = self.encoder
        if present is not None and present.name != name and not self._is_empty():
            raise encoder_mismatch(self.folder, present.name, name)

    def _store_pin(self, pin: EncoderPin) -> None:
        engine = writer_engine(self.folder / CATALOG)
        with transaction(engine) as connection:
            for table in (segments, tombstones, vectors, generations):  # rows of an encoder before, all forgotten
                connection.execute(delete(table))
            for key, value in (("encoder", pin.name), ("fingerprint", pin.fingerprint), ("dim", str(pin.dim))):
                catalog.set_setting(connection, key, value)
            catalog.set_setting(connection, SPREADS_KEY, None)
            bump_revision(connection)
        engine.dispose()

    def _is_empty(self) -> bool:
        with self.query() as connection:
            return connection.execute(select(items.c.id).limit(1)).first() is None

    def vector_store(self, dim: int) -> VectorStore:
        """Return the segments, for reading; dim: that of the encoder, which may be another once nothing is held."""
        if self._store.dim != dim:
            self._store = VectorStore(self.folder / VECTORS, dim)
        return self._store

    def _revision(self) -> int:
        with self.query() as connection:
            return Snapshot(self, connection).revision

    def cached(self, revision: int, key: str, compute: Callable[[], T]) -> T:
        """Return what was computed for this revision, or compute it; older revisions are dropped."""
        with self._cache_lock:
            if revision > self._cache_revision:
                self._cache, self._cache_revision = {}, revision
            if revision < self._cache_revision:
                return compute()
            if key not in self._cache:
                self._cache[key] = compute()
            return self._cache[key]  # type: ignore[return-value]

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()


def _check_no_vectors(folder: Path) -> None:
    """Raise StoreCorruptError if a folder has vectors; called where its catalog is missing or empty."""
    if any(path.stat().st_size for path in (folder / VECTORS).glob(f"*{SUFFIX}")):
        raise StoreCorruptError(
            f"The library in {folder} has vectors, but its catalog is lost: {CATALOG} is damaged, empty or missing. "
            "Restore it from a copy, or delete the folder and index anew."
        )


def encoder_mismatch(folder: Path, pinned: str, other: str) -> EncoderMismatchError:
    """Build the error for an encoder that is not the library's."""
    return EncoderMismatchError(
        f"The library in {folder} was made with {pinned}, not with {other}; vectors of two encoders cannot be "
        "compared. Go on with its own encoder, or make another library with --library."
    )


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    lock = FileLock(folder / "lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise LibraryLockedError(
            f"Another process is writing to the library in {folder}. Wait for it to end, then run again."
        ) from None
    except OSError as error:
        raise LibraryError(f"The library in {folder} cannot be written: {error.strerror}.") from error
    try:
        yield
    finally:
        lock.release()
