"""A library: the folder that holds catalog, vectors and generations. Many readers, one writer."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

from sqlalchemy import Connection, delete

from clipsearch.copy_distance import COPY_DISTANCE_KEY
from clipsearch.durable import fsync_path
from clipsearch.errors import (
    EncoderMismatchError,
    LibraryError,
    LibraryLockedError,
    LibraryNotFoundError,
    StoreCorruptError,
)
from clipsearch.forking import abandon, register
from clipsearch.store import catalog, checksums, migrations, second_set
from clipsearch.store.database import mapped_errors, transaction
from clipsearch.store.dialect import is_postgres
from clipsearch.store.folder import open_folder
from clipsearch.store.home import find_home, writing
from clipsearch.store.names import LOCK, VECTORS, is_segment_name
from clipsearch.store.reading import CATALOG
from clipsearch.store.revision import RevisionCache, change, get_revision
from clipsearch.store.roots import BASE_KEY, library_base
from clipsearch.store.schema import generations, segments, tombstones, vectors
from clipsearch.store.snapshot import Snapshot
from clipsearch.store.spreads import SPREADS_KEY
from clipsearch.store.vectors import Segment, SegmentReader, VectorStore
from clipsearch.store.writer import Writer
from clipsearch.types import EncoderPin

OTHER_FOLDER = "`--library DIR` (in Python: clipsearch.open(DIR))"
"""How another library is named."""


class Library:
    """A library on disk, open for reading; `writer()` takes the lock for changing it. Safe to share by threads.

    So it is by a process and its forks: a fork opens it again.
    """

    def __init__(self, folder: Path, catalog_url: str | None = None) -> None:
        """Open a library. catalog_url: the PostgreSQL server of its catalog; None for what its folder says.

        Raises LibraryNotFoundError, SchemaVersionError or StoreCorruptError; LibraryError for a server that cannot be
        reached, or that the user has not named.
        """
        self.folder = Path(os.path.abspath(folder))
        self.base = library_base(self.folder)
        self._home = find_home(self.folder, catalog_url)
        if not self._home.is_there():
            _check_no_vectors(self.folder)
            raise LibraryNotFoundError(
                f"There is no library in {self.folder}. Make one: clipsearch index FOLDER, "
                "or clipsearch.open(..., create=True) from Python."
            )
        self._is_closed = False
        self._open()
        self._version = version = migrations.schema_version(self._engine)
        migrations.check_version(version)
        migrations.show_as_newest(self._engine, version)
        register(self)
        if version == 0:
            _check_no_vectors(self.folder)
            raise LibraryNotFoundError(f"The library in {self.folder} is empty. Fill it: clipsearch index FOLDER")
        if not self.base:
            with self.query() as connection:
                self.base = catalog.get_setting(connection, BASE_KEY) or ""

    def _open(self) -> None:
        self._open_catalog()
        self._segments = SegmentReader(self.folder / VECTORS)
        self._cache = RevisionCache()
        self._lookup, self._renewal = threading.Lock(), threading.Lock()

    def _open_catalog(self) -> None:
        self._engine = self._home.reader()
        # SQLAlchemy's own cycles would keep the files open until the garbage is collected.
        self._finalizer = weakref.finalize(self, self._engine.dispose)
        self._finalizer.atexit = False

    def _notice_migration(self) -> None:
        """Open the catalog again once a writer has brought it to a newer schema, whose tables the views would hide."""
        with self._renewal:
            version = migrations.schema_version(self._engine)
            if version != self._version:
                before = self._engine
                self._finalizer.detach()
                self._open_catalog()
                self._version = version
                migrations.show_as_newest(self._engine, version)
                before.dispose()

    def _notice_move(self) -> None:
        """Open the catalog where it is now, once it was moved; nothing is done for one that is lost."""
        if self._home.is_current():
            return
        with self._renewal:
            before = self._home, self._engine, self._finalizer
            home = find_home(self.folder)
            if self._home.is_current() or not home.is_there():
                return
            self._home = home
            try:
                self._open_catalog()
                self._version = migrations.schema_version(self._engine)
                migrations.show_as_newest(self._engine, self._version)
            except BaseException:
                self._home, self._engine, self._finalizer = before
                raise
            before[2].detach()
            before[1].dispose()

    def renew_after_fork(self) -> None:
        """Open the library again, in a fork of the process."""
        self._finalizer.detach()
        abandon(self._engine, self._segments, self._cache)
        self._open()
        migrations.show_as_newest(self._engine, self._version)

    @classmethod
    def create(cls, folder: Path, *, catalog_url: str | None = None, timeout: float = 0.0) -> Library:
        """Open a library, and create it if it does not exist. timeout: as of `locked`.

        catalog_url: the PostgreSQL server of its catalog; None for a file in its folder, or what the environment names.
        Raises LibraryError if the folder cannot be used.
        """
        folder = Path(os.path.abspath(folder))
        try:
            new = [path for path in (folder, *folder.parents) if not path.exists()]
            folder.mkdir(parents=True, exist_ok=True)
            for path in new:
                fsync_path(path.parent)
        except OSError as error:
            raise LibraryError(
                f"The library folder {folder} cannot be made: {error.strerror}. Name another: {OTHER_FOLDER}."
            ) from error
        with locked(folder, timeout):
            home = find_home(folder, catalog_url, create=True)
            if not home.is_there():
                _check_no_vectors(folder)
            with mapped_errors():
                home.create(partial(_check_no_vectors, folder), timeout)
        return cls(folder, catalog_url)

    @contextmanager
    def read(self) -> Iterator[Snapshot]:
        """Open one state of the library; later commits are not visible in it.

        If a compaction replaces the files of a state before they are opened, the newest state is opened instead.
        """
        while True:
            with self.query() as connection:
                snapshot = Snapshot(connection, self.base, self._segments, self._cache)
                if snapshot.holds_rows() or snapshot.revision == self._revision():
                    yield snapshot
                    return

    @contextmanager
    def query(self) -> Iterator[Connection]:
        """Open a reading transaction on the catalog. Raises LibraryError if the library is closed."""
        self.require_open()
        self._notice_move()
        if self._version < len(migrations.MIGRATIONS):
            self._notice_migration()
        try:
            with mapped_errors(), self._engine.connect() as connection, connection.begin():
                yield connection
        except LibraryError as error:
            if self._home.is_current() or not find_home(self.folder).is_there():
                raise
            raise LibraryError("The catalog was moved meanwhile. Nothing is lost. Run again.") from error

    def known_hashes(self, hashes: Collection[str]) -> set[str]:
        """Return those of these content hashes that the library holds vectors for; also of deleted files."""
        self.require_open()
        self._notice_move()
        if is_postgres(self._engine):
            with self.query() as found:
                return catalog.held_hashes(found, hashes)
        # One thread at a time, so that all use the same connection, whose page cache is warm.
        with self._lookup, mapped_errors(), closing(self._engine.raw_connection()) as connection:
            return catalog.known_hashes(connection, hashes)

    @contextmanager
    def writer(self, *, repair: bool = False, timeout: float = 0.0) -> Iterator[Writer]:
        """Take the lock, remove the remains of a crash, and yield the writer.

        Vectors can be committed once an encoder is pinned. repair: also open a library that lacks vectors;
        see `VectorStore.recover`. timeout: seconds to wait for another writer; LibraryLockedError after that.
        """
        from clipsearch.store.row_checks import fill  # deferred: a query does not need it

        with locked(self.folder, timeout):
            pin = self.encoder
            with writing(self._home, timeout) as engine, mapped_errors(), engine.connect() as connection:
                with transaction(connection):
                    checksums.create(connection)  # a catalog from elsewhere may lack a trigger
                    segments = catalog.get_segments(connection)
                    others = second_set.segment_names(connection)
                store = VectorStore(self.folder / VECTORS, pin.dim if pin else 0)
                store.recover(segments, pad=repair, others=others)
                _recover_second(connection, store, segments)
                fill(connection, store)
                writer = Writer(connection, store)
                try:
                    yield writer
                finally:
                    try:
                        writer.close()
                        if is_postgres(engine):
                            from clipsearch.store.postgres.statistics import refresh

                            refresh(connection)
                    finally:
                        self._engine.dispose()  # the last connection to close folds SQLite's log into the catalog

    @property
    def encoder(self) -> EncoderPin | None:
        """The encoder this library is pinned to; None before the first run."""
        with self.query() as connection:
            return catalog.get_encoder(connection)

    def pin(self, pin: EncoderPin, *, timeout: float = 0.0) -> None:
        """Pin the encoder of an empty library. Raises EncoderMismatchError if another one is pinned."""
        if self.encoder != pin and self._is_empty():
            with locked(self.folder, timeout):
                if self._is_empty():
                    self._store_pin(pin, timeout)
        present = self.encoder
        if present is not None and present != pin:
            one, other = (f"{which.name} ({which.fingerprint[:12]})" for which in (present, pin))
            raise encoder_mismatch(self.folder, one, other)

    def check_pin(self, pin: EncoderPin) -> None:
        """Raise EncoderMismatchError if another encoder is pinned now; the pin cannot change while a writer is open."""
        present = self.encoder
        if present != pin:
            raise encoder_mismatch(self.folder, present.name if present else "no encoder", pin.name)

    def check_encoder(self, name: str) -> None:
        """Raise EncoderMismatchError if the library holds vectors of an encoder of another name."""
        present = self.encoder
        if present is not None and present.name != name and not self._is_empty():
            raise encoder_mismatch(self.folder, present.name, name)

    def _store_pin(self, pin: EncoderPin, timeout: float) -> None:
        with writing(self._home, timeout) as engine, change(engine) as connection:
            for table in (segments, tombstones, vectors, generations):  # all that is left of the previous encoder
                connection.execute(delete(table))
            second_set.drop(connection)
            for key, value in (("encoder", pin.name), ("fingerprint", pin.fingerprint), ("dim", str(pin.dim))):
                catalog.set_setting(connection, key, value)
            for key in (SPREADS_KEY, COPY_DISTANCE_KEY, catalog.QUERIES_KEY):
                catalog.set_setting(connection, key, None)

    @property
    def second(self) -> second_set.SecondSet | None:
        """The second set of vectors and its progress; None if the library has only one set."""
        with self.query() as connection:
            return second_set.summarise(connection)

    def _is_empty(self) -> bool:
        with self.query() as connection:
            return catalog.is_empty(connection)

    def _revision(self) -> int:
        with self.query() as connection:
            return get_revision(connection)

    def require_open(self) -> None:
        """Raise LibraryError if the library was closed."""
        if self._is_closed:
            raise LibraryError(f"The library in {self.folder} is closed. Open it again: clipsearch.open(...)")

    def close(self) -> None:
        """Close all connections, for good. What reads at this moment ends as it would have."""
        self._is_closed = True
        self._engine.dispose()
        # What they hold open is closed as soon as nobody reads it, not when the garbage is collected.
        self._segments, self._cache = SegmentReader(self.folder / VECTORS), RevisionCache()


def _recover_second(connection: Connection, store: VectorStore, segments: Sequence[Segment]) -> None:
    """Remove what is not committed to the second set. One that is damaged is left alone: the first one needs nothing.

    segments: of the first set, which no entry of the second can make shorter.
    """
    first = {segment.name for segment in segments}
    try:
        with transaction(connection):
            pin, found = second_set.get_pin(connection), second_set.get_segments(connection)
    except StoreCorruptError:
        return
    own = [segment for segment in found if segment.name not in first]
    if pin is not None and own:
        VectorStore(store.folder, pin.dim).recover(own, pad=True, others=first | {each.name for each in found})


def _check_no_vectors(folder: Path) -> None:
    """Raise StoreCorruptError if a folder has vectors; called where its catalog is missing or empty."""
    if any(is_segment_name(path.name) and path.lstat().st_size for path in (folder / VECTORS).glob("*")):
        raise StoreCorruptError(
            f"The library in {folder} has vectors, but its catalog is lost: {CATALOG} is damaged, empty or missing. "
            "Restore a backup: clipsearch restore BACKUP. Without one, move the folder away and index "
            "again: clipsearch index FOLDER"
        )


def encoder_mismatch(folder: Path, pinned: str, other: str) -> EncoderMismatchError:
    """Build the error for an encoder that is not the library's."""
    return EncoderMismatchError(
        f"The library in {folder} was made with {pinned}, not with {other}; vectors of two encoders cannot be "
        f"compared. Use its own encoder, change it (clipsearch reindex --model NAME), or make another library: "
        f"{OTHER_FOLDER}."
    )


@contextmanager
def locked(folder: Path, timeout: float = 0.0) -> Iterator[None]:
    """Hold the writer lock of a folder.

    timeout: seconds to wait while another writer has it. Raises LibraryLockedError after that, LibraryError.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / LOCK, timeout=timeout)
    try:
        with open_folder(folder) as own:  # taking the lock empties the file
            if own.status(LOCK) is not None:
                os.close(own.open(LOCK, os.O_RDWR, own=True))
        lock.acquire()
    except Timeout:
        raise LibraryLockedError(
            f"Another process, or another engine of this one, is writing to the library in {folder}. Wait for it "
            "to end, then try again. In Python, clipsearch.open(..., timeout=SECONDS) waits that long."
        ) from None
    except OSError as error:
        raise LibraryError(
            f"The library in {folder} cannot be written: {error.strerror}. Give this user the right to write the "
            f"folder and its lock file, or name another library: {OTHER_FOLDER}."
        ) from error
    try:
        yield
    finally:
        lock.release()
