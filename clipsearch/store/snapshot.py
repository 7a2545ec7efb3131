"""One state of a library, as a reader sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Connection

from clipsearch.copy_distance import COPY_DISTANCE_KEY, CopyDistance, estimate
from clipsearch.errors import EncoderChangedError, StoreCorruptError
from clipsearch.filtering import Filter, absolute
from clipsearch.ranking import MIN_SAMPLE, are_unit, typical_spread
from clipsearch.store import catalog, full_text, item_media, recognised, tags, word_statistics
from clipsearch.store.checksums import is_sound
from clipsearch.store.enriching import enrich
from clipsearch.store.facets import count_facets
from clipsearch.store.filters import RecentRows, condition, matching_rows
from clipsearch.store.keys import ids_of_keys
from clipsearch.store.phrases import SelectiveWords
from clipsearch.store.pictures import PictureRow, copied_pictures, copies, picture_rows, rows_of_pictures
from clipsearch.store.places import count_places
from clipsearch.store.refusals import REPAIR
from clipsearch.store.revision import RevisionCache, get_revision
from clipsearch.store.roots import get_roots
from clipsearch.store.schema import items
from clipsearch.store.spreads import Spreads, get_spreads
from clipsearch.store.vectors import Rows, SegmentReader
from clipsearch.store.word_statistics import WordMatch, WordStatistics
from clipsearch.types import EncoderPin, Facets, Item, Modality, PicturePart, Places, TextLine

if TYPE_CHECKING:
    from clipsearch.store.near_words import NearWord
    from clipsearch.store.place_names import PlaceNames

_TAKEN = "taken"
"""The order of `clipsearch.sorting` that the catalog has by itself."""

SAMPLE_ROWS = 1024
"""How many rows stand for a library when a query's scores are set against it."""

_KEPT_IDS, _SHARE = 1 << 18, 8
"""In a library of at most _KEPT_IDS rows, to ask about more than one row in _SHARE looks up and keeps all rows."""

T = TypeVar("T")


class Snapshot:
    """One state of a library, fixed while it is open. Rows and masks are shared between snapshots of one revision.

    Attributes:
        damaged: The items that `enrich` found damaged.
    """

    def __init__(self, connection: Connection, base: str, segments: SegmentReader, cache: RevisionCache) -> None:
        """Read a state. connection: in a transaction. base: the folder that portable roots are relative to."""
        self._connection = connection
        self._base = base
        self._segments = segments
        self._cache = cache
        self.revision = get_revision(connection)
        self._rows: dict[Modality, Rows] = {}
        self._matching_counts: dict[tuple[Modality, Filter], int] = {}
        self._unsound: set[int | None] = set()
        self.damaged: set[int] = set()

    @property
    def encoder(self) -> EncoderPin | None:
        """The encoder of the rows; it may be another one than before this state was opened."""
        return self.cached("encoder", lambda: catalog.get_encoder(self._connection))

    def require_encoder(self, pin: EncoderPin) -> None:
        """Raise EncoderChangedError unless the rows are of the encoder that a query was embedded by."""
        if self.encoder != pin:
            raise EncoderChangedError(
                f"The library has changed from {pin.name} to another encoder meanwhile. Nothing is lost. Run again."
            )

    def rows(self, modality: Modality) -> Rows:
        """Return the committed rows of a modality. Raises StoreCorruptError if they are missing or damaged."""
        if modality not in self._rows:
            self._rows[modality] = self.cached(f"rows {modality}", lambda: self._map(modality))
        return self._rows[modality]

    def holds_rows(self) -> bool:
        """Open all rows, which then stay readable if their files are deleted; False if one is missing or damaged."""
        try:
            for modality in Modality:
                self.rows(modality)
        except StoreCorruptError:
            return False
        return True

    def live(self, modality: Modality) -> NDArray[np.bool_] | None:
        """Return a mask of the rows that may be found: bool (rows,), or None if all may."""
        return self.cached(f"live {modality}", lambda: self._live(modality))

    def live_count(self, modality: Modality | None = None) -> int:
        """Count the rows that may be found, of one modality or of all."""
        if modality is None:
            return sum(map(self.live_count, Modality))
        return self.cached(f"live count {modality}", lambda: self._live_count(modality))

    def sample(self, modality: Modality) -> NDArray[np.float32]:
        """Return up to SAMPLE_ROWS live rows, evenly spread, the same at every call: float32 (n, dim)."""

        def compute() -> NDArray[np.float32]:
            rows, live = self.rows(modality), self.live(modality)
            numbers = np.arange(len(rows)) if live is None else np.flatnonzero(live)
            found = rows.gather(numbers[:: max(1, -(-len(numbers) // SAMPLE_ROWS))])
            return found[are_unit(found)]  # damaged rows would shift the distribution

        return self.cached(f"sample {modality}", compute)

    def spreads(self) -> Spreads:
        """Return the typical spreads of scores."""
        return self.cached("spreads", lambda: get_spreads(self._connection))

    def picture_spread(self, modality: Modality) -> float | None:
        """Return the typical spread of queries by picture, from pictures of the library; None if it has too few.

        It stands in where none was measured, as in libraries that were imported by earlier versions.
        """

        def compute() -> float | None:
            pictures, rows = self.sample(Modality.IMAGE), self.sample(modality)
            if min(len(pictures), len(rows)) < MIN_SAMPLE:
                return None
            return typical_spread(pictures[:: -(-len(pictures) // MIN_SAMPLE)], rows)

        return self.cached(f"picture spread {modality}", compute)

    def copy_distance(self) -> CopyDistance:
        """Return how far apart copies of a picture may be: as it was measured, else as the rows suggest."""

        def compute() -> CopyDistance:
            measured = CopyDistance.load(catalog.get_setting(self._connection, COPY_DISTANCE_KEY))
            return measured or estimate(self.sample(Modality.IMAGE))

        return self.cached("copy distance", compute)

    def generation(self, modality: Modality) -> catalog.Generation | None:
        """Return the active approximate index of a modality."""
        return self.cached(f"generation {modality}", lambda: catalog.get_generation(self._connection, modality))

    def root_paths(self) -> Mapping[int, str]:
        """Return the absolute folder of each root by its id; the paths of items are relative to it."""
        return self.cached("roots", lambda: {r.id: r.folder for r in get_roots(self._connection, self._base)})

    def matches(self, modality: Modality, rows: list[int]) -> dict[int, catalog.Match]:
        """Look up the items behind rows."""
        return catalog.matches(self._connection, modality, rows, self.root_paths())

    def is_sound(self, match: catalog.Match) -> bool:
        """Tell whether a match passes its checksums; one that fails must not be shown, and is in `warnings`."""
        sound = match.is_sound(self.rows(match.modality).row(match.place.row))
        if not sound:
            self._unsound.add(match.item_id)
        return sound

    def leave_out(self, ids: Iterable[int | None]) -> None:
        """Record items that were found damaged, so that `warnings` reports them."""
        self._unsound |= {*ids} - {None}

    def require_sound(self, modality: Modality, rows: NDArray[np.int64]) -> None:
        """Raise StoreCorruptError if one of these rows, or its item, fails its checksum."""
        for match in self.matches(modality, rows.tolist()).values():
            if not self.is_sound(match):
                raise StoreCorruptError(f"Item {match.item_id} of the library is damaged. {REPAIR}")

    def require_all_sound(self, modality: Modality, start: int = 0) -> None:
        """Raise StoreCorruptError if a row from number `start` on fails its checksum."""
        from clipsearch.store.row_checks import require_sound  # deferred: a query does not need it

        require_sound(self._connection, self.rows(modality), modality, start)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Messages for the user about damaged items that were left out."""
        if not self._unsound:
            return ()
        count = len(self._unsound)
        return (f"{count:,} {'match is' if count == 1 else 'matches are'} damaged and left out. {REPAIR}",)

    def item_ids_of_rows(self, modality: Modality, rows: list[int]) -> dict[int, int]:
        """Return the id of the item behind each of these rows."""
        count = len(self.rows(modality))
        if not count <= _KEPT_IDS or len(rows) * _SHARE < count:
            return catalog.item_ids_by_row(self._connection, modality, rows=rows)
        known = self.cached(
            f"item ids {modality}", lambda: catalog.item_ids_by_row(self._connection, modality, rows=range(count))
        )
        return {row: known[row] for row in rows if row in known}

    def rows_of_items(self, modality: Modality, ids: Iterable[int]) -> dict[int, int]:
        """Return every row of these items, with the id of its item."""
        return catalog.item_ids_by_row(self._connection, modality, ids=ids)

    def matching(self, modality: Modality, wanted: Filter) -> NDArray[np.int64]:
        """Return the rows of a modality that may be found and whose items a filter allows: int64, ascending, read-only.

        Raises InvalidInputError for a folder outside all roots.
        """
        allowed = absolute(wanted)
        recent = self.cached("matching", RecentRows)
        found = recent.get(modality, allowed, lambda: self._matching(modality, allowed))
        self._matching_counts[modality, wanted] = len(found)
        return found

    def matching_count(self, modality: Modality, wanted: Filter) -> int:
        """Count the rows that `matching` returns; once it has, for this state, nothing is looked up."""
        known = self._matching_counts.get((modality, wanted))
        return len(self.matching(modality, wanted)) if known is None else known

    def keyword_search(self, text: str, wanted: Filter | None, limit: int) -> full_text.Keywords:
        """Return the items whose captions or texts have the words of a text, best first, as a filter allows."""
        return self.keyword_searches([text], wanted, limit)[0]

    def keyword_searches(self, texts: Sequence[str], wanted: Filter | None, limit: int) -> list[full_text.Keywords]:
        """Return what `keyword_search` does for each of several texts."""
        allowed = None if wanted is None else condition(self._connection, absolute(wanted), self._base)
        counts = self.cached("word counts", lambda: full_text.WordCounts(self._connection))
        return [full_text.ranked(self._connection, text, allowed, limit, counts) for text in texts]

    def word_statistics(self) -> WordStatistics:
        """Return how many texts and words the index of words has, for ranking over several libraries."""
        return self.cached("word statistics", lambda: word_statistics.statistics(self._connection))

    def word_counts(self, phrases: Sequence[str], most: int) -> list[int]:
        """Return how many texts have each phrase, up to one more than `most`."""
        return word_statistics.counts_of(self._connection, phrases, most)

    def word_matches(self, selective: SelectiveWords, wanted: Filter | None, limit: int) -> list[WordMatch]:
        """Return the best items that have all words and that a filter allows; see `word_statistics.matches`."""
        allowed = None if wanted is None else condition(self._connection, absolute(wanted), self._base)
        return word_statistics.matches(self._connection, selective, allowed, limit)

    def near_words(self, word: str, wanted: Filter | None, most: int) -> tuple[NearWord, ...] | None:
        """Return words of the library that are spelled much like one; None where it has that; see store/near_words."""
        from clipsearch.store import near_words

        return near_words.near_words(self._connection, near_words.fold(word), self._condition(wanted), most)

    def tags_like(self, texts: Sequence[str], wanted: Filter | None) -> list[str]:
        """Return tags of items that a filter allows which are spelled much like one of some texts."""
        from clipsearch.store import near_words

        return near_words.tags_like(self._connection, texts, self._condition(wanted))

    def tag_counts(self, names: Sequence[str]) -> dict[str, int]:
        """Count the items that have each of these folded tags, up to a thousand."""
        from clipsearch.store import near_words

        return near_words.tag_counts(self._connection, names)

    def _condition(self, wanted: Filter | None) -> ColumnElement[bool] | None:
        return None if wanted is None else condition(self._connection, absolute(wanted), self._base)

    def list_items(
        self, wanted: Filter, limit: int | None, offset: int = 0, sort: str = _TAKEN
    ) -> tuple[list[Item], int]:
        """Return up to `limit` items that a filter allows, newest first, from `offset` on, and how many there are.

        sort: another order; see `clipsearch.sorting`.
        """
        allowed = condition(self._connection, absolute(wanted), self._base)
        if sort == _TAKEN:
            found, total = catalog.list_items(self._connection, allowed, limit, offset)
        else:
            from clipsearch.store.item_order import list_sorted

            part = slice(offset, None if limit is None else offset + limit)
            found, total = list_sorted(self._connection, allowed, sort, self.root_paths(), part)
        sound = [row for row in found if is_sound(row, items)]
        self._unsound |= {row.id for row in found} - {row.id for row in sound}
        return [catalog.to_item(row, self.root_paths()) for row in sound], total

    def ids_of_keys(self, keys: Iterable[str]) -> dict[str, list[int]]:
        """Return the live items that have each of these keys, where there are any; that of a record comes first."""
        return ids_of_keys(self._connection, keys, self._base)

    def items_by_id(self, ids: Iterable[int]) -> list[Item]:
        """Return those of these items that are live, with all that is known of them, in order of id."""
        found = catalog.live_items(self._connection, ids)
        sound = [row for row in found if is_sound(row, items)]
        self._unsound |= {row.id for row in found} - {row.id for row in sound}
        return self.enrich([catalog.to_item(row, self.root_paths()) for row in sound])

    def enrich(self, found: Sequence[Item]) -> list[Item]:
        """Return items with all that is known of them; damaged ones are left out, and are in `warnings`."""
        complete, damaged = enrich(self._connection, found)
        self.damaged |= damaged
        self._unsound |= damaged
        return complete

    def count_items(self, wanted: Filter) -> int:
        """Count the items that a filter allows."""
        return catalog.count_matching(self._connection, condition(self._connection, absolute(wanted), self._base))

    def find_tags(self, names: Iterable[str]) -> dict[str, str]:
        """Return those of these names that are tags: by the folded name, the tag as one item has it."""
        return tags.find(self._connection, names)

    def place_names(self) -> PlaceNames:
        """Return the names of the places of the library."""
        from clipsearch.store.place_names import get_names

        return self.cached("place names", lambda: get_names(self._connection))

    def cameras(self) -> tuple[str, ...]:
        """Return the names of all cameras."""
        return self.cached("cameras", lambda: catalog.cameras(self._connection))

    def has_taken(self, start: datetime, end: datetime) -> bool:
        """Tell whether a picture was taken from a local time on until before another."""
        return self.cached(f"taken {start} {end}", lambda: catalog.has_taken(self._connection, start, end))

    def facets(self, wanted: Filter, limit: int) -> Facets:
        """Count the items that a filter allows, by month, camera, folder, tag and kind; see store/facets.py."""
        allowed = condition(self._connection, absolute(wanted), self._base)
        return count_facets(self._connection, allowed, get_roots(self._connection, self._base), limit)

    def places(self, wanted: Filter, cells: int) -> Places:
        """Put the places of the items that a filter allows together into clusters; see store/places.py."""
        allowed = condition(self._connection, absolute(wanted), self._base)
        return count_places(self._connection, allowed, cells, wanted.box)

    def matching_ids(self, wanted: Filter, after: int = 0) -> NDArray[np.int64]:
        """Return the ids of the live items that a filter allows, beyond one id: int64, ascending."""
        wanted = absolute(wanted)
        recent = self.cached("matching ids", RecentRows)

        def compute() -> NDArray[np.int64]:
            return catalog.matching_ids(self._connection, condition(self._connection, wanted, self._base))

        ids = recent.get(None, wanted, compute)
        return ids[np.searchsorted(ids, after, side="right") :]

    @property
    def storage(self) -> tuple[Connection, str]:
        """The connection and the folder that portable roots are relative to, for what reads a library whole."""
        return self._connection, self._base

    def recognised_lines(self, ids: Iterable[int]) -> dict[int, tuple[TextLine, ...]]:
        """Return the lines of text in each of these items that is a picture with text."""
        return recognised.lines_of(self._connection, ids)

    def pictures(self) -> Iterator[PictureRow]:
        """Yield every picture that may be found, in order of its row."""
        return picture_rows(self._connection, self.root_paths())

    def rows_of_pictures(self, ids: list[int]) -> dict[int, int]:
        """Return the row of each of these items that is one picture; films and documents are several."""
        return rows_of_pictures(self._connection, ids)

    def picture_parts(self, item_id: int) -> list[PicturePart]:
        """Return the frames of a film or the pages of a document, in their order; none of any other item."""
        return item_media.picture_parts(self._connection, item_id)

    def copies(self) -> Iterator[Item]:
        """Yield every item that has the content of another, copies one after the other."""
        return copies(self._connection, self.root_paths())

    def copied(self) -> frozenset[str]:
        """Return the content hashes that several pictures have."""
        return copied_pictures(self._connection)

    def _map(self, modality: Modality) -> Rows:
        dim = self.cached("dim", lambda: catalog.get_number(self._connection, "dim"))
        segments = self.cached("segments", lambda: catalog.get_segments(self._connection))
        return self._segments.view([segment for segment in segments if segment.modality == modality], dim)

    def _matching(self, modality: Modality, wanted: Filter) -> NDArray[np.int64]:
        found = matching_rows(self._connection, modality, wanted, self._base)
        return found[(found >= 0) & (found < len(self.rows(modality)))]  # those outside are of a damaged catalog

    def _live(self, modality: Modality) -> NDArray[np.bool_] | None:
        dead = catalog.get_tombstones(self._connection, modality)
        if not len(dead):
            return None
        mask = np.ones(len(self.rows(modality)), np.bool_)
        mask[dead[(dead >= 0) & (dead < len(mask))]] = False  # those outside are of a damaged catalog
        return mask

    def _live_count(self, modality: Modality) -> int:
        live = self.live(modality)
        return len(self.rows(modality)) if live is None else int(np.count_nonzero(live))

    def cached(self, key: str, compute: Callable[[], T]) -> T:
        """Return what was computed under a name from this state of the library, or compute and keep it."""
        return self._cache.get(self.revision, key, compute)
