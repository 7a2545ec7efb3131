"""One state of several libraries, where a search expects the state of one.

Rows stand one library after the other, and so do items; so all that ranks, merges, cuts and collapses is that of one
library, and finds what it would find in one library of all items.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from clipsearch.copy_distance import CopyDistance
from clipsearch.errors import InvalidInputError
from clipsearch.filtering import Filter, absolute
from clipsearch.metadata import RATING
from clipsearch.query.joint import merging
from clipsearch.query.joint.folders import known_folders
from clipsearch.query.joint.ids import ids_of_part, joint_id, joint_item, own_filter, own_item, split_id
from clipsearch.query.joint.part import Part
from clipsearch.query.joint.rows import JointRows
from clipsearch.ranking import are_unit
from clipsearch.sorting import TAKEN, sort_items
from clipsearch.store.catalog import Match
from clipsearch.store.full_text import Keywords
from clipsearch.store.near_words import NearWord
from clipsearch.store.revision import RevisionCache
from clipsearch.store.snapshot import SAMPLE_ROWS, Snapshot
from clipsearch.store.spreads import Spreads
from clipsearch.types import EncoderPin, Facets, Item, Modality, Neighbors, PartPosition, Passage, Places, TextLine

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class OpenPart:
    """A library, its number among all, and one state of it."""

    number: int
    part: Part
    state: Snapshot


class JointMatch(Match):
    """The item and the part of a row of one of several libraries."""

    def __init__(self, own: Match, number: int) -> None:
        """Say of a match of one library which of several that is."""
        for name, value in (("modality", own.modality), ("own", own), ("number", number)):
            object.__setattr__(self, name, value)

    own: Match
    number: int

    @property
    def item_id(self) -> int:
        """The id of the item among all libraries."""
        return joint_id(self.number, self.own.item_id)

    @property
    def item(self) -> Item:
        """The item."""
        return joint_item(self.own.item, self.number)

    @property
    def part(self) -> int:
        """Which part of the item it is."""
        return self.own.part

    @property
    def passage(self) -> Passage | None:
        """The passage that the row encodes; None for an image."""
        return self.own.passage

    @property
    def position(self) -> PartPosition | None:
        """Where in a film or a document the row lies."""
        return self.own.position


class JointSnapshot(Snapshot):
    """One state of each of several libraries, which need not be of the same moment."""

    def __init__(
        self,
        parts: Sequence[OpenPart],
        revision: int,
        cache: RevisionCache,
        pool: Executor,
        lost: Sequence[str],
        dim: int,
    ) -> None:
        """Join states. revision: rises with each other state. lost: warnings about libraries that are left out."""
        self._parts = list(parts)
        self._cache = cache
        self._pool = pool
        self._lost = tuple(lost)
        self._dim = dim
        self.revision = revision
        self._rows = {}
        self._unsound = set()
        self.damaged = set()

    @property
    def _connection(self) -> object:  # type: ignore[override]
        raise InvalidInputError(
            "This cannot be done over several libraries. Open the one that is meant: clipsearch.open(DIR)"
        )

    def require_encoder(self, pin: EncoderPin) -> None:
        """Raise EncoderChangedError if a library has another encoder by now; empty ones may have none."""
        for each in self._parts:
            if each.state.encoder is not None:
                each.state.require_encoder(pin)

    def rows(self, modality: Modality) -> JointRows:
        """Return the rows of all libraries."""
        return self.cached(
            f"rows {modality}", lambda: JointRows([p.state.rows(modality) for p in self._parts], self._dim)
        )

    def nearest(
        self, queries: NDArray[np.float32], kind: str | None, wanted: Filter | None, modality: Modality, k: int
    ) -> tuple[Neighbors, frozenset[str]]:
        """Return the k nearest rows of each query among all libraries, which are searched at the same time."""
        filters = self._filters(wanted)
        tasks = [
            partial(each.part.nearest, each.state, queries, kind, own, modality, k)
            for each, own in zip(self._parts, filters, strict=True)
        ]
        found = list(self._pool.map(lambda task: task(), tasks))
        firsts = self.rows(modality).firsts.tolist()
        lists = [(each, first) for (each, _), first in zip(found, firsts, strict=False)]
        return merging.merge_neighbors(lists, len(queries), k), frozenset().union(*(warned for _, warned in found))

    def holds_rows(self) -> bool:
        """Tell whether all rows are there; a part whose rows are not is not opened."""
        return True

    def sample(self, modality: Modality) -> NDArray[np.float32]:
        """Return up to SAMPLE_ROWS rows, evenly spread over all libraries: float32 (n, dim)."""

        def compute() -> NDArray[np.float32]:
            step = max(1, -(-self.live_count(modality) // SAMPLE_ROWS))
            found, before = [np.empty((0, self._dim), np.float32)], 0
            for each in self._parts:
                found.append(each.part.spread_rows(each.state, modality, -before % step, step))
                before += each.state.live_count(modality)
            rows = np.concatenate(found)
            return rows[are_unit(rows)]

        return self.cached(f"sample {modality}", compute)

    def spreads(self) -> Spreads:
        """Return how queries at large score: what was measured of each library, weighted by its rows."""
        return self.cached(
            "spreads", lambda: merging.merge_spreads([(self._weights(p), p.state.spreads()) for p in self._parts])
        )

    def _weights(self, part: OpenPart) -> dict[str, int]:
        return {str(modality): part.state.live_count(modality) for modality in Modality}

    def copy_distance(self) -> CopyDistance:
        """Return how far apart copies are: as in the library of most pictures."""
        most = max(self._parts, key=lambda each: each.state.live_count(Modality.IMAGE))
        return most.state.copy_distance()

    def _live_count(self, modality: Modality) -> int:
        return sum(each.state.live_count(modality) for each in self._parts)

    def matches(self, modality: Modality, rows: list[int]) -> dict[int, Match]:
        """Look up the items behind rows."""
        found: dict[int, Match] = {}
        for each, first, own in self._split(modality, rows):
            known = each.state.matches(modality, own)
            found |= {row + first: JointMatch(match, each.number) for row, match in known.items()}
        return found

    def is_sound(self, match: Match) -> bool:
        """Tell whether a match passes its checksums."""
        assert isinstance(match, JointMatch)
        return self._part(match.number).state.is_sound(match.own)

    def leave_out(self, ids: Iterable[int | None]) -> None:
        """Record items that were found damaged."""
        known = [number for number in ids if number is not None]
        for each in self._parts:
            each.state.leave_out(ids_of_part(known, each.number))

    def require_sound(self, modality: Modality, rows: NDArray[np.int64]) -> None:
        """Raise StoreCorruptError if one of these rows, or its item, fails its checksum."""
        for each, _, own in self._split(modality, rows.tolist()):
            each.state.require_sound(modality, np.array(own, np.int64))

    @property
    def warnings(self) -> tuple[str, ...]:
        """Messages for the user: about libraries that are left out, and damaged items of the others."""
        return (*self._lost, *chain.from_iterable(each.state.warnings for each in self._parts))

    def item_ids_of_rows(self, modality: Modality, rows: list[int]) -> dict[int, int]:
        """Return the id of the item behind each of these rows."""
        found: dict[int, int] = {}
        for each, first, own in self._split(modality, rows):
            ids = each.state.item_ids_of_rows(modality, own)
            found |= {row + first: joint_id(each.number, number) for row, number in ids.items()}
        return found

    def rows_of_items(self, modality: Modality, ids: Iterable[int]) -> dict[int, int]:
        """Return every row of these items, with the id of its item."""
        return self._by_row(modality, ids, lambda state, own: state.rows_of_items(modality, own))

    def rows_of_pictures(self, ids: list[int]) -> dict[int, int]:
        """Return the row of each of these items that is one picture; films and documents are several."""
        firsts, found = self._firsts(Modality.IMAGE), {}
        for each, own in self._by_part(ids):
            for number, row in each.state.rows_of_pictures(own).items():
                found[joint_id(each.number, number)] = row + firsts[each.number]
        return found

    def matching(self, modality: Modality, wanted: Filter) -> NDArray[np.int64]:
        """Return the rows of a modality that a filter allows: int64, ascending."""
        firsts = self._firsts(modality)
        return np.concatenate(
            [
                np.empty(0, np.int64),
                *(each.state.matching(modality, own) + firsts[each.number] for each, own in self._filtered(wanted)),
            ]
        )

    def matching_count(self, modality: Modality, wanted: Filter) -> int:
        """Count the rows of a modality that a filter allows."""
        return sum(each.state.matching_count(modality, own) for each, own in self._filtered(wanted))

    def keyword_searches(self, texts: Sequence[str], wanted: Filter | None, limit: int) -> list[Keywords]:
        """Return the items whose captions or texts have the words of each text, as if in one index of words."""
        filters = self._filters(wanted)
        parts = [(each.number, each.state, own) for each, own in zip(self._parts, filters, strict=True)]
        return [merging.keyword_search(parts, text, limit) for text in texts]

    def near_words(self, word: str, wanted: Filter | None, most: int) -> tuple[NearWord, ...] | None:
        """Return words of the libraries that are spelled much like one; None where one of them has that."""
        parts = zip(self._parts, self._filters(wanted), strict=True)
        found = [each.state.near_words(word, own, most) for each, own in parts]
        if None in found:
            return None
        best = sorted((near for words in found for near in words or ()), key=lambda each: (each.score, each.word))
        once = {near.word: near for near in best}
        return tuple(reversed(sorted(once.values(), key=lambda each: each.score)))[:most]

    def tags_like(self, texts: Sequence[str], wanted: Filter | None) -> list[str]:
        """Return tags that are spelled much like one of some texts, of one library after the other."""
        parts = zip(self._parts, self._filters(wanted), strict=True)
        return [*dict.fromkeys(name for each, own in parts for name in each.state.tags_like(texts, own))]

    def tag_counts(self, names: Sequence[str]) -> dict[str, int]:
        """Count the items that have each of these folded tags, up to a thousand in each library."""
        counts = [each.state.tag_counts(names) for each in self._parts]
        return {name: sum(count.get(name, 0) for count in counts) for name in names}

    def list_items(
        self, wanted: Filter, limit: int | None, offset: int = 0, sort: str = TAKEN
    ) -> tuple[list[Item], int]:
        """Return up to `limit` items that a filter allows, newest first, from `offset` on, and how many there are."""
        found: list[Item] = []
        total = 0
        for each, own in self._filtered(wanted):
            listed, number = each.state.list_items(own, None if limit is None else limit + offset, sort=sort)
            listed = each.state.enrich(listed) if sort == RATING else listed
            found += [joint_item(item, each.number) for item in listed]
            total += number
        found = sort_items(found, sort)
        return found[offset : None if limit is None else offset + limit], total

    def ids_of_keys(self, keys: Iterable[str]) -> dict[str, list[int]]:
        """Return the items that have each of these keys, in order of the libraries."""
        wanted = list(keys)
        found: dict[str, list[int]] = {}
        for each in self._parts:
            for key, ids in each.state.ids_of_keys(wanted).items():
                found.setdefault(key, []).extend(joint_id(each.number, own) for own in ids)
        return found

    def items_by_id(self, ids: Iterable[int]) -> list[Item]:
        """Return those of these items that are there, with all that is known of them, in order of id."""
        return [
            joint_item(item, each.number) for each, own in self._by_part(ids) for item in each.state.items_by_id(own)
        ]

    def enrich(self, found: Sequence[Item]) -> list[Item]:
        """Return items with all that is known of them; damaged ones are left out."""
        complete: dict[int, Item] = {}
        for each in self._parts:
            own = [own_item(item) for item in found if split_id(item.id)[0] == each.number]
            for item in each.state.enrich(own) if own else ():
                complete[joint_id(each.number, item.id)] = joint_item(item, each.number)
            self.damaged |= {joint_id(each.number, number) for number in each.state.damaged}
        return [complete[item.id] for item in found if item.id in complete]

    def count_items(self, wanted: Filter) -> int:
        """Count the items that a filter allows."""
        return sum(each.state.count_items(own) for each, own in self._filtered(wanted))

    def facets(self, wanted: Filter, limit: int) -> Facets:
        """Count the items that a filter allows by their values."""
        return merging.merge_facets(
            [each.state.facets(own, merging.ALL) for each, own in self._filtered(wanted)], limit
        )

    def places(self, wanted: Filter, cells: int) -> Places:
        """Put the places of the items that a filter allows together into clusters."""

        def places(part: OpenPart, own: Filter) -> Places:
            return merging.joint_places(part.state.places(own, cells), part.number)

        return merging.merge_places([places(each, own) for each, own in self._filtered(wanted)], cells)

    def matching_ids(self, wanted: Filter, after: int = 0) -> NDArray[np.int64]:
        """Return the ids of the items that a filter allows, beyond one id: int64, ascending."""
        ids = [each.state.matching_ids(own) + joint_id(each.number, 0) for each, own in self._filtered(wanted)]
        found = np.concatenate([np.empty(0, np.int64), *ids])
        return found[np.searchsorted(found, after, side="right") :]

    def recognised_lines(self, ids: Iterable[int]) -> dict[int, tuple[TextLine, ...]]:
        """Return the lines of text in each of these items that is a picture with text."""
        return {
            joint_id(each.number, number): lines
            for each, own in self._by_part(ids)
            for number, lines in each.state.recognised_lines(own).items()
        }

    def _part(self, number: int) -> OpenPart:
        return next(each for each in self._parts if each.number == number)

    def _firsts(self, modality: Modality) -> dict[int, int]:
        firsts = self.rows(modality).firsts.tolist()
        return {each.number: first for each, first in zip(self._parts, firsts, strict=False)}

    def _split(self, modality: Modality, rows: Sequence[int]) -> list[tuple[OpenPart, int, list[int]]]:
        """Return, for each library that has any of these rows, its first row and its own numbers of them."""
        joint, numbers = self.rows(modality), np.asarray(rows, np.int64)
        which = joint.split(numbers)
        firsts = joint.firsts.tolist()
        return [
            (self._parts[i], firsts[i], (numbers[which == i] - firsts[i]).tolist()) for i in np.unique(which).tolist()
        ]

    def _by_part(self, ids: Iterable[int]) -> list[tuple[OpenPart, list[int]]]:
        known = list(ids)
        found = [(each, ids_of_part(known, each.number)) for each in self._parts]
        return [(each, own) for each, own in found if own]

    def _by_row(
        self, modality: Modality, ids: Iterable[int], look_up: Callable[[Snapshot, list[int]], dict[int, int]]
    ) -> dict[int, int]:
        firsts, found = self._firsts(modality), {}
        for each, own in self._by_part(ids):
            for row, number in look_up(each.state, own).items():
                found[row + firsts[each.number]] = joint_id(each.number, number)
        return found

    def _filters(self, wanted: Filter | None) -> list[Filter | None]:
        """Return a filter as each library takes it."""
        if wanted is None:
            return [None] * len(self._parts)
        return [own for _, own in self._filtered(wanted)]

    def _filtered(self, wanted: Filter) -> list[tuple[OpenPart, Filter]]:
        states = [each.state for each in self._parts]
        filters = known_folders(states, absolute(wanted))
        return [(each, own_filter(own, each.number)) for each, own in zip(self._parts, filters, strict=True)]
