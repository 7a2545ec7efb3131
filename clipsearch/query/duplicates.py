"""Files of a library that are copies of each other: the same bytes, or pictures that look the same.

Copies by their content hashes; then pictures whose vectors are near, if their perceptual hashes agree too: vectors of
two photographs of one thing are near as well. Nothing is changed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Transpose

from clipsearch.config import Settings
from clipsearch.errors import PictureError
from clipsearch.media.drawing import look_at_file
from clipsearch.media.phash import SIDE, distance, perceptual_hash
from clipsearch.progress import Stages
from clipsearch.query.neighbors import Groups, near_pairs
from clipsearch.ranking import exact_scores
from clipsearch.store.library import Library
from clipsearch.store.snapshot import Snapshot
from clipsearch.types import Item, Modality

MAX_BITS = 10
"""Of 63 bits so many may differ (benchmarks/dupes.py)."""


@dataclass(frozen=True, slots=True)
class Copy:
    """A file of a group. score: its cosine with the first of the group; None where files are compared by content alone.

    bits: in how many its perceptual hash differs from that of the first; a group may hang together by others. mirrored:
    whether it is rather a mirror image of the first: then bits are those of the mirror image.
    """

    item: Item
    score: float | None = None
    bits: int | None = None
    mirrored: bool = False


@dataclass(frozen=True, slots=True)
class DuplicateGroup:
    """Files that are copies of each other, the one with most pixels, then most bytes, first. exact: to the byte."""

    exact: bool
    copies: tuple[Copy, ...]


@dataclass(frozen=True, slots=True)
class Duplicates:
    """What was found.

    unchecked: pictures near to others which cannot be read now, each with the reason. similarity: the cosine from which
    pictures were compared by their hashes; None if they were not.
    """

    groups: tuple[DuplicateGroup, ...]
    unchecked: tuple[tuple[str, str], ...]
    similarity: float | None = None


def find_duplicates(
    library: Library,
    settings: Settings,
    stages: Stages,
    *,
    exact: bool = False,
    similarity: float | None = None,
    mirrored: bool = False,
) -> Duplicates:
    """Find all groups of copies, largest first.

    exact: only files equal to the byte. similarity: the cosine from which pictures are compared by their looks; by
    default, what the encoder needs: see `CopyDistance.near`. mirrored: mirror images are copies as well.
    """
    with library.read() as snapshot:
        stages.stage("looking for identical files", 0)
        equal = [list(files) for _, files in groupby(snapshot.copies(), key=lambda item: item.content_hash)]
        same = [DuplicateGroup(True, tuple(Copy(item) for item in sorted(files, key=_worth))) for files in equal]
        if exact:
            return Duplicates(_largest_first(same), ())
        if similarity is None:
            similarity = snapshot.copy_distance().near
        search = _Search(library, snapshot, settings, mirrored)
        search.run(similarity, stages)
        near = search.groups({files[0].content_hash: files for files in equal})
    paired = {copy.item.content_hash for group in near for copy in group.copies}
    alone = [group for group in same if group.copies[0].item.content_hash not in paired]
    return Duplicates(_largest_first([*alone, *near]), tuple(sorted(search.unchecked.items())), similarity)


def _worth(item: Item) -> tuple[int, int, int, str]:
    """Order the files of a group: what one would keep comes first."""
    pixels = (item.picture.width or 0) * (item.picture.height or 0) if item.picture else 0
    return -pixels, -item.size, item.mtime_ns, item.path


def _largest_first(groups: Sequence[DuplicateGroup]) -> tuple[DuplicateGroup, ...]:
    return tuple(sorted(groups, key=lambda group: (-len(group.copies), group.copies[0].item.path)))


class _Search:
    """The search for pictures that look the same, one of each content."""

    def __init__(self, library: Library, snapshot: Snapshot, settings: Settings, mirrored: bool) -> None:
        self._mirrored = mirrored
        self._library, self._snapshot, self._settings = library, snapshot, settings
        copied, seen, rows = snapshot.copied(), set[str](), []
        for picture in snapshot.pictures():
            if picture.content_hash not in seen:
                rows.append(picture.row)
            if picture.content_hash in copied:
                seen.add(picture.content_hash)
        self._rows = np.array(rows, np.int64)
        self._hashes = np.zeros((len(rows), 2), np.uint64)
        self._hashed = np.zeros(len(rows), np.bool_)
        self._tried = np.zeros(len(rows), np.bool_)
        self._groups = Groups(len(rows))
        self.unchecked: dict[str, str] = {}

    def run(self, similarity: float, stages: Stages) -> None:
        """Join what is near and looks the same."""
        stages.stage("comparing pictures", len(self._rows))
        for one, other in near_pairs(self._library, self._snapshot, self._rows, similarity, stages.advance):
            self._hash(np.unique(np.concatenate([one, other])))
            known = self._hashed[one] & self._hashed[other]
            one, other = one[known], other[known]
            alike = self._bits(one, other)[0] <= MAX_BITS
            self._groups.join(one[alike], other[alike])

    def groups(self, equal: dict[str, list[Item]]) -> list[DuplicateGroup]:
        """Return the groups found; equal: files of one content, by that."""
        return [self._group(members, equal) for members in self._groups.several()]

    def _group(self, members: NDArray[np.int64], equal: dict[str, list[Item]]) -> DuplicateGroup:
        items = self._items(members)
        members = np.array(sorted(members.tolist(), key=lambda place: _worth(items[place])), np.int64)
        vectors = self._snapshot.rows(Modality.IMAGE).gather(self._rows[members])
        scores = exact_scores(vectors[0] / np.linalg.norm(vectors[0]), vectors)
        bits, turned = self._bits(members[:1], members)
        copies = []
        figures = (members.tolist(), scores.tolist(), bits.tolist(), turned.tolist())
        for place, score, differing, mirrored in zip(*figures, strict=True):
            item = items[place]
            files = sorted(equal.get(item.content_hash, [item]), key=_worth)
            copies += [Copy(file, score, differing, mirrored) for file in files]
        return DuplicateGroup(False, tuple(copies))

    def _bits(self, one: NDArray[np.int64], other: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Count in how many bits pictures differ, and tell whether one is rather a mirror image: both (pairs,)."""
        straight = distance(self._hashes[one, 0], self._hashes[other, 0])
        if not self._mirrored:
            return straight, np.zeros(len(straight), np.bool_)
        turned = distance(self._hashes[one, 0], self._hashes[other, 1])
        return np.minimum(straight, turned), turned < straight

    def _items(self, places: NDArray[np.int64]) -> dict[int, Item]:
        found = self._snapshot.matches(Modality.IMAGE, self._rows[places].tolist())
        items = {place: found[int(self._rows[place])].item for place in places.tolist()}
        complete = {item.id: item for item in self._snapshot.enrich(list(items.values()))}
        return {place: complete.get(item.id, item) for place, item in items.items()}

    def _hash(self, places: NDArray[np.int64]) -> None:
        """Read and hash the pictures that were not tried before."""
        new = places[~self._tried[places]]
        if not len(new):
            return
        self._tried[new] = True
        items = self._items(new)
        with ThreadPoolExecutor(self._settings.cores) as pool:
            for place, found in zip(items, pool.map(self._read, items.values()), strict=True):
                if isinstance(found, tuple):
                    self._hashes[place], self._hashed[place] = found, True
                elif found is not None:
                    self.unchecked[items[place].path] = str(found)

    def _read(self, item: Item) -> tuple[int, int] | PictureError | None:
        if not os.path.isabs(item.path):
            return PictureError("a record, not a file")
        pixels, size = self._settings.max_pixels, self._settings.max_picture_bytes
        try:
            picture = look_at_file(item.path, SIDE, pixels, size)
            straight = perceptual_hash(picture)
            turned = perceptual_hash(picture.transpose(Transpose.FLIP_LEFT_RIGHT)) if self._mirrored else 0
            return None if straight is None or turned is None else (straight, turned)
        except PictureError as error:
            return error
