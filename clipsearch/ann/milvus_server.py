"""A Milvus server: the import of its client, its noise, its time limits, its errors, and what is asked of it."""

from __future__ import annotations

import logging
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.ann import server_trust
from clipsearch.errors import ClipSearchError, IndexServerError
from clipsearch.forking import abandon, register
from clipsearch.paths import printable

CONNECT_SECONDS, ASK_SECONDS, WRITE_SECONDS = 3.0, 5.0, 120.0
"""How long a connection, a search and one step of a build may take; the client tries again until then."""

BUILD_CONNECT_SECONDS = 15.0
"""How long a build may take to connect to a server, which may be busy."""

EACH_QUERY_SECONDS = 0.1
"""How much longer a search of several queries may take, for each of them."""

ATTEMPTS, PAUSE_SECONDS = 8, 10.0
"""How often a step of a build is tried, while the server answers, and how long it has in between.

A server that was killed looks for its former self for half a minute, and refuses to write rows meanwhile.
"""

WAIT_SECONDS = 3600.0
"""How long the server may take to index or load without any progress."""

RESTART_SECONDS = 120.0
"""How long a build waits for a server that has gone away."""

MAX_ANSWER_BYTES = 64 << 20
INSERT_BYTES = 4 << 20
MAX_LIMIT = 16384
"""The most rows that a Milvus server returns for a query."""

ROW, VECTOR = "row", "vector"
_MAX_RECEIVE = b"grpc.max_receive_message_length"
"""In bytes, as pymilvus writes it: beside a name of another type its own setting, which is no bound, would win."""
_POLL_SECONDS = 0.3
_MAX_REASON = 300


class MilvusServer:
    """A connection to one server, made at the first call; safe to use from several threads.

    Every method raises IndexServerError for a server that cannot be reached in time, is not trusted, or refuses.
    """

    def __init__(self, uri: str, *, is_build: bool = False) -> None:
        """Name a server; uri: as `server_trust.read_uri` returns it. is_build: wait longer for a connection."""
        self.uri = uri
        self._is_build = is_build
        self._client: Any = None
        self._lock = threading.Lock()
        register(self)

    def renew_after_fork(self) -> None:
        """Forget the connection of the parent, whose threads are not here."""
        abandon(self._client)
        self._client, self._lock = None, threading.Lock()

    def close(self) -> None:
        """Close the connection; the next call makes another."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            with self._mapped("closed"):
                client.close()

    def version(self) -> str:
        """Return the version of the server."""
        with self._mapped("asked for its version"):
            return str(self._connected().get_server_version(timeout=ASK_SECONDS))[:80]

    def collections(self) -> list[str]:
        """Return the names of all collections."""
        with self._mapped("asked for its collections"):
            return [str(name) for name in self._connected().list_collections(timeout=ASK_SECONDS)]

    def describe(self, name: str) -> tuple[str, int] | None:
        """Return the description of a collection and the dimension of its vectors; None if there is no collection."""
        with self._mapped("asked for a collection"):
            client = self._connected()
            if not client.has_collection(name, timeout=ASK_SECONDS):
                return None
            found = client.describe_collection(name, timeout=ASK_SECONDS)
            dims = [field["params"]["dim"] for field in found["fields"] if field["name"] == VECTOR]
            return str(found["description"]), int(dims[0]) if dims else 0

    def create(self, name: str, dim: int, description: str) -> None:
        """Make a collection of numbered rows; what is left of a first try is deleted."""

        def step() -> None:
            with self._mapped("given a new collection"):
                client, types = self._connected(), _import_pymilvus().DataType
                if client.has_collection(name, timeout=ASK_SECONDS):
                    client.drop_collection(name, timeout=WRITE_SECONDS)
                schema = client.create_schema(auto_id=False, enable_dynamic_field=False, description=description)
                schema.add_field(ROW, types.INT64, is_primary=True)
                schema.add_field(VECTOR, types.FLOAT_VECTOR, dim=dim)
                client.create_collection(name, schema=schema, consistency_level="Strong", timeout=WRITE_SECONDS)

        self._persist(step)

    def insert(self, name: str, first: int, rows: NDArray[np.float32]) -> None:
        """Insert rows (n, dim), numbered from `first`; a server that goes away meanwhile is waited for.

        Milvus takes one number twice without complaint, so rows that may have arrived are deleted before they are sent
        again.
        """
        size = max(1, INSERT_BYTES // (4 * rows.shape[1]))
        for start in range(0, len(rows), size):
            block, number = rows[start : start + size], first + start
            try:
                self._insert(name, number, block)
            except IndexServerError:
                self._await_restart()
                self._delete(name, number, len(block))
                self._insert(name, number, block)

    def _insert(self, name: str, first: int, rows: NDArray[np.float32]) -> None:
        data = [{ROW: first + i, VECTOR: row} for i, row in enumerate(rows)]
        with self._mapped("filled"):
            self._connected().insert(name, data, timeout=WRITE_SECONDS)

    def _delete(self, name: str, first: int, count: int) -> None:
        """Delete rows by their numbers, which Milvus also does in a collection that is not loaded."""
        with self._mapped("cleared of unfinished rows"):
            self._connected().delete(name, ids=list(range(first, first + count)), timeout=WRITE_SECONDS)

    def delete_from(self, name: str, first: int) -> None:
        """Delete the rows of a loaded collection from number `first` on."""
        with self._mapped("cleared of unfinished rows"):
            self._connected().delete(name, filter=f"{ROW} >= {first}", timeout=WRITE_SECONDS)

    def finish(self, name: str, params: dict[str, int], waiting: Callable[[], None]) -> None:
        """Have all rows written, indexed by IVF_PQ and loaded; waiting: called while it lasts."""
        for step in (self._flush, self._index, self._load):
            self._persist(partial(step, name, params, waiting))

    def _persist(self, step: Callable[[], None]) -> None:
        """Do what may be done again, until it succeeds; raise what it raised last."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                step()
                return
            except IndexServerError:
                if attempt == ATTEMPTS:
                    raise
                self._await_restart()
                time.sleep(PAUSE_SECONDS)

    def _flush(self, name: str, params: dict[str, int], waiting: Callable[[], None]) -> None:
        with self._mapped("made to write its rows"):
            self._connected().flush(name, timeout=WRITE_SECONDS)

    def _index(self, name: str, params: dict[str, int], waiting: Callable[[], None]) -> None:
        with self._mapped("made to build an index"):
            client = self._connected()
            if VECTOR not in client.list_indexes(name, timeout=ASK_SECONDS):
                wanted = client.prepare_index_params()
                wanted.add_index(VECTOR, index_type="IVF_PQ", metric_type="L2", params={**params, "nbits": 8})
                client.create_index(name, wanted, timeout=WRITE_SECONDS, sync=False)
            self._wait(lambda: _is_indexed(client.describe_index(name, VECTOR, timeout=ASK_SECONDS)), waiting)

    def _load(self, name: str, params: dict[str, int], waiting: Callable[[], None]) -> None:
        with self._mapped("made to load its index"):
            self.begin_loading(name)
            self._wait(lambda: (self.is_loaded(name), None), waiting)

    def is_loaded(self, name: str) -> bool:
        """Tell whether a collection is in the memory of the server."""
        with self._mapped("asked for the state of a collection"):
            state = self._connected().get_load_state(name, timeout=ASK_SECONDS)["state"]
            return bool(state == _import_pymilvus().client.types.LoadState.Loaded)

    def begin_loading(self, name: str) -> None:
        """Have a collection loaded, without waiting for it."""
        with self._mapped("made to load its index"):
            self._connected().load_collection(name, timeout=ASK_SECONDS, _async=True)

    def count(self, name: str, below: int | None = None, *, is_strong: bool = False) -> int:
        """Count the rows of a loaded collection; below: only those with a smaller number.

        is_strong: see all that was written before, which takes longer.
        """
        which = "" if below is None else f"{ROW} >= 0 and {ROW} < {below}"
        level = "Strong" if is_strong else "Eventually"
        with self._mapped("asked for the number of its rows"):
            found = self._connected().query(
                name, filter=which, output_fields=["count(*)"], consistency_level=level, timeout=ASK_SECONDS
            )
            return int(found[0]["count(*)"])

    def search(
        self, name: str, queries: NDArray[np.float32], limit: int, nprobe: int, below: int | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Find the rows nearest to each query by Euclidean distance, as the server says: nothing of it is checked.

        below: only those with a smaller number. Returns row numbers and squared distances, both (n_queries, limit),
        with -1 and infinity in places that the server left empty.
        """
        with self._mapped("searched"):
            pending = self._connected().search(
                name,
                data=queries,
                filter="" if below is None else f"{ROW} < {below}",
                limit=limit,
                search_params={"metric_type": "L2", "params": {"nprobe": nprobe}},
                consistency_level="Eventually",
                timeout=ASK_SECONDS + EACH_QUERY_SECONDS * len(queries),
                _async=True,
            )
            pending.exception()
            return _read_answer(pending._future.result(), len(queries), limit)

    def drop(self, name: str) -> None:
        """Delete a collection, if there is one."""
        with self._mapped("rid of a collection"):
            self._connected().drop_collection(name, timeout=WRITE_SECONDS)

    def _connected(self) -> Any:  # noqa: ANN401
        with self._lock:
            if self._client is None:
                if not server_trust.is_trusted(self.uri):
                    raise IndexServerError(
                        f"The library names the Milvus server {printable(self.uri)}, which is asked only after you say "
                        f"that you trust it. If you do: clipsearch trust {printable(self.uri)}"
                    )
                client = _import_pymilvus().MilvusClient(
                    uri=self.uri,
                    token=server_trust.read_token(self.uri),
                    timeout=BUILD_CONNECT_SECONDS if self._is_build else CONNECT_SECONDS,
                    dedicated=True,
                    grpc_options={_MAX_RECEIVE: MAX_ANSWER_BYTES},
                )
                self._client = client
            return self._client

    def _await_restart(self) -> None:
        """Wait until the server answers again. Raises IndexServerError when that takes too long."""
        end = time.monotonic() + RESTART_SECONDS
        while True:
            self.close()
            try:
                self.version()
            except IndexServerError:
                if time.monotonic() > end:
                    raise
                time.sleep(1.0)
            else:
                return

    def _wait(self, poll: Callable[[], tuple[bool, Any]], waiting: Callable[[], None]) -> None:
        """Wait until a poll says that it is done; the other thing that it says shows progress."""
        seen, since = None, time.monotonic()
        while True:
            done, progress = poll()
            if done:
                return
            if progress != seen:
                seen, since = progress, time.monotonic()
            if time.monotonic() - since > WAIT_SECONDS:
                raise IndexServerError(f"The Milvus server at {self.uri} made no progress for {WAIT_SECONDS:,.0f} s.")
            waiting()
            time.sleep(_POLL_SECONDS)

    @contextmanager
    def _mapped(self, what: str) -> Iterator[None]:
        """Turn whatever its client raises into IndexServerError; a server may answer anything. what: was tried."""
        try:
            with _quiet():
                yield
        except ClipSearchError:
            raise
        except Exception as error:
            reason = printable(" ".join(str(getattr(error, "message", "") or error or type(error)).split()))
            raise IndexServerError(
                f"The Milvus server at {printable(self.uri)} could not be {what}: {reason[:_MAX_REASON]}"
            ) from error


def _read_answer(answer: Any, queries: int, limit: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:  # noqa: ANN401
    """Return row numbers and distances of a SearchResults message, both (queries, limit). Raises ValueError.

    pymilvus would make three objects of each row, which takes most of the time of a search, and as many as the message
    says there are, which a hostile server makes more than the memory holds.
    """
    if answer.status.code or answer.status.error_code:
        raise ValueError(answer.status.reason or f"error {answer.status.code}")
    counts = list(answer.results.topks)
    if len(counts) != queries or min(counts, default=0) < 0:
        raise ValueError(f"it answered {len(counts):,} queries of {queries:,}")
    given = np.array(answer.results.ids.int_id.data, np.int64), np.array(answer.results.scores, np.float32)
    ids, distances = np.full((queries, limit), -1, np.int64), np.full((queries, limit), np.inf, np.float32)
    start = 0
    for own_ids, own_distances, count in zip(ids, distances, counts, strict=True):
        stop = min(start + min(count, limit), len(given[0]), len(given[1]))
        if stop > start:
            own_ids[: stop - start], own_distances[: stop - start] = given[0][start:stop], given[1][start:stop]
        start += count
    return ids, distances


def _is_indexed(found: Any) -> tuple[bool, Any]:  # noqa: ANN401
    """Tell whether an index holds all rows, and how far it is. Raises ValueError for one that failed."""
    if found["state"] == "Failed":
        raise ValueError(f"the index failed: {found}")
    is_whole = found["state"] == "Finished" and not found["pending_index_rows"]
    return is_whole, (found["indexed_rows"], found["total_rows"])


_ours = threading.local()
_is_filtered = False


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what pymilvus logs in this thread off the user's screen: we report its errors."""
    before = getattr(_ours, "quiet", False)
    _ours.quiet = True
    try:
        yield
    finally:
        _ours.quiet = before


def _import_pymilvus() -> Any:  # noqa: ANN401
    """Import the client. Raises IndexServerError where it is not installed.

    It would read variables from a file `.env` above it, and its core would write to stderr of a server that is away.
    """
    global _is_filtered
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    before = os.environ.get("PYTHON_DOTENV_DISABLED")
    os.environ["PYTHON_DOTENV_DISABLED"] = "1"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pymilvus
            import pymilvus.client.types
    except ImportError as error:
        raise IndexServerError(
            f"A Milvus server needs the package pymilvus: {error}. Install it: pip install 'clipsearch[milvus]'"
        ) from error
    finally:
        if before is None:
            del os.environ["PYTHON_DOTENV_DISABLED"]
        else:
            os.environ["PYTHON_DOTENV_DISABLED"] = before
    if not _is_filtered:
        for name in ("pymilvus", "pymilvus.milvus_client"):
            for handler in logging.getLogger(name).handlers:
                handler.addFilter(lambda record: not getattr(_ours, "quiet", False))
        _is_filtered = True
    return pymilvus
