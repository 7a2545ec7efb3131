"""A library of a server as one of several that are searched together: its state, asked for bit by bit.

Queries are embedded here, once for all libraries. A server finds the nearest rows and sends them, so that scores,
confidences and the order are computed here as for rows of this machine. All that one search reads is of one revision.
"""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.client.answers import read_item, read_passage, read_position, read_text_line
from clipsearch.client.calls import Call, Steps
from clipsearch.client.filters import to_form
from clipsearch.client.reading import Fields
from clipsearch.copy_distance import CopyDistance
from clipsearch.errors import ServerError, StoreCorruptError
from clipsearch.filtering import Filter
from clipsearch.query.joint.states import StateChangedError
from clipsearch.query.understanding.understood import Understood
from clipsearch.sorting import TAKEN
from clipsearch.store.catalog import Match
from clipsearch.store.near_words import NearWord
from clipsearch.store.phrases import SelectiveWords
from clipsearch.store.snapshot import Snapshot
from clipsearch.store.spreads import Spreads, read_spreads
from clipsearch.store.vectors import Rows
from clipsearch.store.word_statistics import WordMatch, WordStatistics
from clipsearch.types import (
    Collection,
    EncoderPin,
    Facets,
    Item,
    Modality,
    Neighbors,
    PartPosition,
    Passage,
    Places,
    TextLine,
)

if TYPE_CHECKING:
    from clipsearch.client.client import Client

_AT_ONCE = 1000
"""Items that a request names at most."""

_MOST = 1000
"""Cameras, folders and tags that a server counts at most."""


class RemotePart:
    """A library that a server has. Safe to share by threads."""

    def __init__(self, client: Client, *, own: bool = True) -> None:
        """Search what a client's server has. own: whether the client is closed with this part."""
        self.name = client.url
        self.client = client
        self._own = own
        self._lock = threading.Lock()
        self._sample: dict[tuple[int, Modality, int, int], NDArray[np.float32]] = {}

    def pin(self) -> EncoderPin | None:
        """See Part."""
        return RemoteSnapshot(self).pin

    @contextmanager
    def read(self) -> Iterator[Snapshot]:
        """See Part."""
        yield RemoteSnapshot(self)

    def nearest(
        self,
        state: Snapshot,
        queries: NDArray[np.float32],
        kind: str | None,
        wanted: Filter | None,
        modality: Modality,
        k: int,
    ) -> tuple[Neighbors, frozenset[str]]:
        """See Part."""
        assert isinstance(state, RemoteSnapshot)
        return state.nearest(queries, kind, wanted, modality, k)

    def spread_rows(self, state: Snapshot, modality: Modality, start: int, step: int) -> NDArray[np.float32]:
        """See Part."""
        assert isinstance(state, RemoteSnapshot)
        key = (state.revision, modality, start, step)
        with self._lock:
            if key not in self._sample:
                kept = {old: rows for old, rows in self._sample.items() if old[0] == state.revision}
                self._sample = {**kept, key: state.sampled(modality, start, step)}
            return self._sample[key]

    def understand(self, text: str) -> Understood:
        """See Part."""
        return self.client.understand(text)

    def thumbnail(self, key: str, side: int) -> bytes:
        """See Part."""
        return self.client.thumbnail(key, side=side)

    def collections(self) -> list[Collection]:
        """See Part."""
        return self.client.collections()

    def close(self) -> None:
        """See Part."""
        if self._own:
            self.client.close()

    def renew_after_fork(self) -> None:
        """See Part; the client does so itself."""
        self._lock = threading.Lock()


class RemoteMatch(Match):
    """The item and the part of a row of a server."""

    def __init__(
        self, modality: Modality, item: Item, part: int, passage: Passage | None, position: PartPosition | None
    ) -> None:
        """Say what is behind a row."""
        for name, value in (("modality", modality), ("known", (item, part, passage, position))):
            object.__setattr__(self, name, value)

    known: tuple[Item, int, Passage | None, PartPosition | None]

    @property
    def item_id(self) -> int:
        """The id of the item."""
        return self.known[0].id

    @property
    def item(self) -> Item:
        """The item."""
        return self.known[0]

    @property
    def part(self) -> int:
        """Which part of the item it is."""
        return self.known[1]

    @property
    def passage(self) -> Passage | None:
        """The passage that the row encodes; None for an image."""
        return self.known[2]

    @property
    def position(self) -> PartPosition | None:
        """Where in a film or a document the row lies."""
        return self.known[3]


class RemoteRows(Rows):
    """The rows of a server; those that it sent with an answer are kept for that search."""

    def __init__(self, state: RemoteSnapshot, modality: Modality, count: int, dim: int) -> None:
        """Start with no row fetched."""
        super().__init__([], [], dim)
        self._count = count
        self._state = state
        self._modality = modality
        self._kept: dict[int, NDArray[np.float32]] = {}

    def keep(self, rows: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Keep rows, (n,), and their vectors, (n, dim)."""
        self._kept |= dict(zip(rows.tolist(), vectors, strict=True))

    def gather(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Read rows by number: float32 (n, dim), in the order asked for."""
        missing = np.array([row for row in rows.tolist() if row not in self._kept], np.int64)
        if len(missing):
            self.keep(missing, self._state.vectors_of(self._modality, missing, self.dim))
        return (
            np.stack([self._kept[row] for row in rows.tolist()]) if len(rows) else np.empty((0, self.dim), np.float32)
        )


class RemoteSnapshot(Snapshot):
    """One state of the library of a server."""

    def __init__(self, part: RemotePart) -> None:
        """Ask for the state that it is in now. Raises ServerError."""
        self._part = part
        self._asked: int | None = None
        self._warned: dict[str, None] = {}
        self._items: dict[int, Item] = {}
        self._owners: dict[Modality, dict[int, int]] = {modality: {} for modality in Modality}
        self.damaged = set()
        self._matching_counts: dict[tuple[Modality, Filter], int] = {}
        found = self._ask("state")
        self.revision = self._asked = found.whole("revision")
        self.pin = None if found.is_null("encoder") else _pin(found.object("encoder"))
        dim = self.pin.dim if self.pin else 0
        rows, live = found.object("rows"), found.object("live")
        self._remote = {each: RemoteRows(self, each, rows.whole(each), dim) for each in Modality}
        self._live_counts = {each: live.whole(each) for each in Modality}
        self._spreads = read_spreads(found.text("spreads"))
        self._copies = CopyDistance.load(found.text("copy_distance"))
        texts, words, last_id = map(int, [*found.numbers("words"), 0, 0, 0][:3])
        self._words = WordStatistics(texts, words, last_id)

    @property
    def encoder(self) -> EncoderPin | None:
        """The encoder of the library; None where it has none yet."""
        return self.pin

    def _ask(self, question: str, **about: Any) -> Fields:  # noqa: ANN401 - what JSON has
        def read(value: object) -> Fields:
            return Fields(value)

        body = {"ask": question, "revision": self._asked, **about}
        found: Fields = self._part.client.take(_steps(Call("POST", "/v1/shard", read, body)))
        try:
            if found.flag("changed"):
                raise StateChangedError(f"The library of {self._part.name} changed during the search. Search again.")
            self._warned |= dict.fromkeys(found.texts("warnings"))
            return found
        except ValueError as error:
            raise _strange(self._part.name, error) from error

    def nearest(
        self, queries: NDArray[np.float32], kind: str | None, wanted: Filter | None, modality: Modality, k: int
    ) -> tuple[Neighbors, frozenset[str]]:
        """Return the k nearest rows of each query with their scores; and warnings. The rows are kept."""
        about = {"modality": modality, "vectors": _encode(queries, "<f4"), "kind": kind, "filters": to_form(wanted)}
        found = self._ask("nearest", **about, k=k)
        columns, rows = found.whole("columns"), _decode(found, "rows", "<i8")
        count, dim = len(queries), self._remote[modality].dim
        ids = _matrix(_decode(found, "ids", "<i8"), count, columns)
        scores = _matrix(_decode(found, "scores", "<f4").astype(np.float32), count, columns)
        vectors = _matrix(_decode(found, "vectors", "<f2").astype(np.float32), len(rows), dim)
        owners = _decode(found, "items", "<i8")
        if len(owners) != len(rows) or not np.isin(ids[ids >= 0], rows).all():
            raise _strange(self._part.name, "its rows do not fit each other")
        self._remote[modality].keep(rows, vectors)
        self._owners[modality] |= {row: own for row, own in zip(rows.tolist(), owners.tolist(), strict=True)}
        if wanted is not None and found.has("matching"):
            self._matching_counts[modality, wanted] = found.whole("matching")
        return Neighbors(ids, np.where(ids < 0, -np.inf, scores)), frozenset(found.texts("warnings"))

    def sampled(self, modality: Modality, start: int, step: int) -> NDArray[np.float32]:
        """Return every step-th row that may be found, from one on: float32 (n, dim)."""
        found = self._ask("sample", modality=modality, start=start, step=step)
        dim = self._remote[modality].dim
        numbers = _decode(found, "vectors", "<f2").astype(np.float32)
        return _matrix(numbers, len(numbers) // max(dim, 1), dim)

    def vectors_of(self, modality: Modality, rows: NDArray[np.int64], dim: int) -> NDArray[np.float32]:
        """Return rows by number: float32 (n, dim)."""
        found = self._ask("rows", modality=modality, numbers=_encode(rows, "<i8"))
        return _matrix(_decode(found, "vectors", "<f2").astype(np.float32), len(rows), dim)

    def rows(self, modality: Modality) -> Rows:
        """Return the rows of a modality."""
        return self._remote[modality]

    def live_count(self, modality: Modality | None = None) -> int:
        """Count the rows that may be found."""
        return sum(self._live_counts.values()) if modality is None else self._live_counts[modality]

    def spreads(self) -> Spreads:
        """Return the typical spreads of scores."""
        return self._spreads

    def copy_distance(self) -> CopyDistance:
        """Return how far apart copies of a picture may be."""
        return self._copies or CopyDistance(0.0)

    def word_statistics(self) -> WordStatistics:
        """Return the statistics of its words."""
        return self._words

    def word_counts(self, phrases: Sequence[str], most: int) -> list[int]:
        """Return how many texts have each phrase."""
        if not phrases:
            return []
        found = list(map(int, self._ask("word_counts", phrases=list(phrases), most=most).numbers("counts")))
        if len(found) != len(phrases):
            raise _strange(self._part.name, "it counts other words")
        return found

    def word_matches(self, selective: SelectiveWords, wanted: Filter | None, limit: int) -> list[WordMatch]:
        """Return the best items that have all words."""
        spelled = [pair for ways in selective for pair in ways.items()]
        phrases, counts = [phrase for phrase, _ in spelled], [count for _, count in spelled]
        about: dict[str, Any] = {"phrases": phrases, "counts": counts, "filters": to_form(wanted), "k": limit}
        if len(selective) != len(spelled):  # else not, for servers that know no spellings
            about["ways"] = [*map(len, selective)]
        rows = self._ask("word_matches", **about).lists("matches")
        try:
            found = [tuple(map(int, row)) for row in rows]
            if any(len(row) != len(counts) + 2 for row in found):
                raise ValueError("a match has not a number for each word")
        except (TypeError, ValueError) as error:
            raise _strange(self._part.name, error) from error
        return [WordMatch(row[0], row[2:], row[1]) for row in found]

    def matches(self, modality: Modality, rows: list[int]) -> dict[int, Match]:
        """Look up the items behind rows; those that are damaged are not there."""
        found: dict[int, Match] = {}
        if not rows:
            return found
        answer = self._ask("matches", modality=modality, numbers=_encode(np.array(rows, np.int64), "<i8"))
        try:
            for each in answer.objects("matches"):
                item = read_item(each.object("item"))
                passage = None if each.is_null("passage") else read_passage(each.object("passage"))
                position = read_position(each.object("position")) if each.has("position") else None
                found[each.whole("row")] = RemoteMatch(modality, item, each.whole("part"), passage, position)
        except ValueError as error:
            raise _strange(self._part.name, error) from error
        self._items |= {match.item_id: match.item for match in found.values()}
        return found

    def is_sound(self, match: Match) -> bool:
        """Tell whether a match is sound: the server sends no other."""
        return True

    def leave_out(self, ids: Iterable[int | None]) -> None:
        """Record that items were found damaged."""
        if any(number is not None for number in ids):
            self._warned["Matches that are damaged are left out."] = None

    def require_sound(self, modality: Modality, rows: NDArray[np.int64]) -> None:
        """Raise StoreCorruptError if a row fails its checksum."""
        if len(self.matches(modality, rows.tolist())) < len(rows):
            raise StoreCorruptError(
                f"An item of the library of {self._part.name} is damaged. Run there: clipsearch verify"
            )

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the server warned of."""
        return tuple(self._warned)

    def item_ids_of_rows(self, modality: Modality, rows: list[int]) -> dict[int, int]:
        """Return the id of the item behind each of these rows, which came with an answer."""
        known = self._owners[modality]
        return {row: known[row] for row in rows if known.get(row, -1) >= 0}

    def rows_of_items(self, modality: Modality, ids: Iterable[int]) -> dict[int, int]:
        """Return every row of these items, with the id of its item."""
        return self._pairs("rows_of_items", ids, modality)

    def rows_of_pictures(self, ids: list[int]) -> dict[int, int]:
        """Return the row of each of these items that has one as a picture."""
        return self._pairs("rows_of_pictures", ids, Modality.IMAGE)

    def _pairs(self, question: str, ids: Iterable[int], modality: Modality) -> dict[int, int]:
        found = self._ask(question, modality=modality, numbers=_encode(np.array([*ids], np.int64), "<i8"))
        keys, values = (_decode(found, name, "<i8").tolist() for name in ("numbers", "values"))
        if len(keys) != len(values):
            raise _strange(self._part.name, "its rows do not fit its items")
        return dict(zip(keys, values, strict=True))

    def matching(self, modality: Modality, wanted: Filter) -> NDArray[np.int64]:
        """Return the rows of a modality that a filter allows: int64, ascending."""
        found = _decode(self._ask("matching", modality=modality, filters=to_form(wanted)), "numbers", "<i8")
        self._matching_counts[modality, wanted] = len(found)  # a server of before does not say it with the nearest
        return found

    def matching_ids(self, wanted: Filter, after: int = 0) -> NDArray[np.int64]:
        """Return the ids of the items that a filter allows, beyond one id: int64, ascending."""
        ids = _decode(self._ask("ids", filters=to_form(wanted)), "numbers", "<i8")
        return ids[np.searchsorted(ids, after, side="right") :]

    def near_words(self, word: str, wanted: Filter | None, most: int) -> tuple[NearWord, ...] | None:
        """Return no words: a server is not asked for them."""
        return ()

    def tags_like(self, texts: Sequence[str], wanted: Filter | None) -> list[str]:
        """Return no tags: a server is not asked for them."""
        return []

    def tag_counts(self, names: Sequence[str]) -> dict[str, int]:
        """Return no counts: a server is not asked for them."""
        return {}

    def list_items(
        self, wanted: Filter, limit: int | None, offset: int = 0, sort: str = TAKEN
    ) -> tuple[list[Item], int]:
        """Return up to `limit` items that a filter allows, newest first, and how many there are."""
        found = self._part.client.find(wanted, limit=limit, offset=offset, sort=sort)
        self._items |= {item.id: item for item in found}
        return list(found), found.total

    def ids_of_keys(self, keys: Iterable[str]) -> dict[str, list[int]]:
        """Return the item that each of these keys names."""
        wanted = list(keys)
        found = self._part.client.get(wanted)
        self._items |= {item.id: item for item in found if item is not None}
        return {key: [item.id] for key, item in zip(wanted, found, strict=True) if item is not None}

    def items_by_id(self, ids: Iterable[int]) -> list[Item]:
        """Return those of these items that are there, in order of id."""
        wanted = sorted({*ids})
        found = {number: self._items[number] for number in wanted if number in self._items}
        missing = [number for number in wanted if number not in found]
        for start in range(0, len(missing), _AT_ONCE):
            part = frozenset(missing[start : start + _AT_ONCE])
            found |= {item.id: item for item in self._part.client.find(Filter(ids=part))}
        return [found[number] for number in wanted if number in found]

    def enrich(self, found: Sequence[Item]) -> list[Item]:
        """Return items with all that is known of them, as the server sent them."""
        return list(found)

    def count_items(self, wanted: Filter) -> int:
        """Count the items that a filter allows."""
        return self._part.client.count(wanted)

    def facets(self, wanted: Filter, limit: int) -> Facets:
        """Count the items that a filter allows by their values."""
        return self._part.client.facets(wanted, limit=min(limit, _MOST))

    def places(self, wanted: Filter, cells: int) -> Places:
        """Say where the items that a filter allows were taken."""
        return self._part.client.places(wanted, cells=cells)

    def recognised_lines(self, ids: Iterable[int]) -> dict[int, tuple[TextLine, ...]]:
        """Return the lines of text in each of these items that is a picture with text."""
        found = self._ask("lines", numbers=_encode(np.array([*ids], np.int64), "<i8"))
        try:
            return {
                each.whole("id"): tuple(map(read_text_line, each.objects("lines"))) for each in found.objects("lines")
            }
        except ValueError as error:
            raise _strange(self._part.name, error) from error


def _steps(call: Call[Fields]) -> Steps[Fields]:
    found: Fields = yield call
    return found


def _pin(found: Fields) -> EncoderPin:
    return EncoderPin(found.text("name"), found.text("fingerprint"), found.whole("dim"))


def _encode(numbers: NDArray[Any], kind: str) -> str:
    return base64.b64encode(numbers.astype(kind).tobytes()).decode()


def _decode(found: Fields, name: str, kind: str) -> NDArray[Any]:
    try:
        return np.frombuffer(base64.b64decode(found.text(name), validate=True), kind).astype(kind[1:])
    except ValueError as error:
        raise ServerError(f"A server answered with {name} that cannot be read: {error}.") from error


def _matrix(numbers: NDArray[Any], rows: int, columns: int) -> NDArray[Any]:
    if len(numbers) != rows * columns or (numbers.dtype.kind == "f" and not np.isfinite(numbers).all()):
        raise ServerError(f"A server answered with {len(numbers):,} numbers in place of {rows:,} x {columns:,}.")
    return numbers.reshape(rows, columns)


def _strange(name: str, error: object) -> ServerError:
    return ServerError(f"{name} does not answer as a server of clipsearch of this version does: {error}.")
