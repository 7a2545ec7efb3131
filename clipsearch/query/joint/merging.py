"""What several libraries answer, as one library of all items would. Pure functions, but for `keyword_search`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from itertools import pairwise

import numpy as np

from clipsearch.ann.flat import merge, no_neighbors
from clipsearch.filtering import Filter
from clipsearch.query.joint.ids import joint_id
from clipsearch.store.full_text import NOTHING, Keywords
from clipsearch.store.phrases import most_items, phrases_of, selective_words
from clipsearch.store.snapshot import Snapshot
from clipsearch.store.spreads import Spreads
from clipsearch.store.word_statistics import WordStatistics
from clipsearch.types import Box, Cluster, Collection, Facets, Neighbors, Places
from clipsearch.words import fold_tag

ALL = 1 << 40
"""So many cameras, folders and tags are asked of each library: all that it has."""


def merge_neighbors(lists: Sequence[tuple[Neighbors, int]], queries: int, k: int) -> Neighbors:
    """Return the k best rows of each query among those of several libraries, each with the number of its first row."""
    moved = [Neighbors(np.where(each.ids < 0, -1, each.ids + first), each.scores) for each, first in lists]
    return reduce(lambda left, right: merge(left, right, k), moved, no_neighbors(queries, 0))


def merge_spreads(known: Sequence[tuple[Mapping[str, int], Spreads]]) -> Spreads:
    """Return how queries at large score over several libraries: the means, each library by its rows of the modality.

    known: for each library the rows of each modality that may be found, and what was measured of it.
    """

    def mean(name: str, values: Callable[[Spreads], Mapping[str, float]]) -> float:
        modality = name.rpartition(" ")[2]
        found = [(rows.get(modality, 0), values(each)[name]) for rows, each in known if name in values(each)]
        return float(np.average([value for _, value in found], weights=[max(rows, 1) for rows, _ in found]))

    def tail(name: str, number: int) -> float:
        return mean(name, lambda each: {key: numbers[number] for key, numbers in each.tails.items()})

    names = {name for _, each in known for name in each.tails}
    return Spreads(
        dict(sum((Counter(dict(rows)) for rows, _ in known), Counter())),
        {name: mean(name, lambda each: each.values) for _, spreads in known for name in spreads.values},
        {name: mean(name, lambda each: each.centres) for _, spreads in known for name in spreads.centres},
        {name: [tail(name, number) for number in range(4)] for name in names},
        any(each.stand_ins for _, each in known),
    )


def keyword_search(parts: Sequence[tuple[int, Snapshot, Filter | None]], text: str, limit: int) -> Keywords:
    """Return the items of several libraries that have the selective words of a text, best first as in one index.

    parts: of each library its number, its state, and which of its items may be found.
    """
    words = phrases_of(text)
    phrases = [*dict.fromkeys(phrase for ways in words for phrase in ways)]
    known = [state.word_statistics() for _, state, _ in parts]
    whole = WordStatistics(
        sum(each.texts for each in known), sum(each.words for each in known), sum(each.last_id for each in known)
    )
    most = most_items(whole.last_id)
    counts = [state.word_counts(phrases, most) for _, state, _ in parts]
    totals = dict(zip(phrases, (sum(column) for column in zip(*counts, strict=True)), strict=True))
    selective = selective_words(words, totals.__getitem__, most)
    if not selective:
        return NOTHING
    all_counts = [count for ways in selective for count in ways.values()]
    found: list[tuple[float, int]] = []
    for (number, state, wanted), own in zip(parts, counts, strict=True):
        of_it = dict(zip(phrases, own, strict=True))
        for match in state.word_matches(
            [{phrase: of_it[phrase] for phrase in ways} for ways in selective], wanted, limit
        ):
            found.append((-match.score(all_counts, whole), joint_id(number, match.item_id)))
    return Keywords([number for _, number in sorted(found)[:limit]], tuple(sum(ways.values()) for ways in selective))


def merge_facets(found: Sequence[Facets], limit: int) -> Facets:
    """Add up the counts of several libraries; of cameras, folders and tags the most frequent `limit`."""

    def added(lists: Iterable[Sequence[tuple[str, int]]]) -> Counter[str]:
        return sum((Counter(dict(each)) for each in lists), Counter())

    def frequent(counts: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
        return tuple(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:limit])

    return Facets(
        total=sum(each.total for each in found),
        months=tuple(sorted(added(each.months for each in found).items(), reverse=True)),
        cameras=frequent(added(each.cameras for each in found)),
        folders=frequent(added(each.folders for each in found)),
        tags=frequent(_merge_names([each.tags for each in found])),
        modalities=frequent(added(each.modalities for each in found)),
    )


def _merge_names(lists: Sequence[Sequence[tuple[str, int]]]) -> dict[str, int]:
    """Add up counts of tags, which are compared without case and named as the library does that has it most often."""
    ways: dict[str, list[tuple[int, str]]] = {}
    for name, count in (pair for each in lists for pair in each):
        ways.setdefault(fold_tag(name), []).append((-count, name))
    return {min(each)[1]: -sum(count for count, _ in each) for each in ways.values()}


def joint_places(found: Places, part: int) -> Places:
    """Return the places of a library with the ids that its items have among several."""
    return replace(found, clusters=tuple(replace(each, id=joint_id(part, each.id)) for each in found.clusters))


def merge_places(found: Sequence[Places], cells: int) -> Places:
    """Put clusters of several libraries together where their middles lie in one cell of a grid over all of them."""
    boxes = [each.bounds for each in found if each.bounds is not None]
    if not boxes:
        return Places(0)
    south, west, north, east = bounds = _around(boxes)
    width = max(east - west if west <= east else east - west + 360, north - south, 1e-9) / cells
    together: dict[tuple[int, int], list[Cluster]] = {}
    for cluster in (cluster for each in found for cluster in each.clusters):
        column = math.floor((cluster.longitude - west) % 360 / width)
        together.setdefault((math.floor((cluster.latitude - south) / width), column), []).append(cluster)
    clusters = sorted(map(_joined, together.values()), key=lambda each: (-each.count, each.latitude, each.longitude))
    return Places(sum(each.total for each in found), tuple(clusters), bounds)


def _joined(clusters: Sequence[Cluster]) -> Cluster:
    if len(clusters) == 1:
        return clusters[0]
    count = sum(each.count for each in clusters)
    latitude = sum(each.latitude * each.count for each in clusters) / count
    first = clusters[0].longitude
    offset = sum(((each.longitude - first + 180) % 360 - 180) * each.count for each in clusters) / count
    longitude = (first + offset + 180) % 360 - 180
    return Cluster(latitude, longitude, count, max(each.id for each in clusters))


def _around(boxes: Sequence[Box]) -> Box:
    """Return the smallest box around boxes; of meridians, it leaves out the widest gap."""
    spans = sorted((west, east if west <= east else east + 360) for _, west, _, east in boxes)
    joined = [list(spans[0])]
    for west, east in spans[1:]:
        if west <= joined[-1][1]:
            joined[-1][1] = max(joined[-1][1], east)
        else:
            joined.append([west, east])
    gaps = [after[0] - before[1] for before, after in pairwise(joined)]
    gaps.append(joined[0][0] + 360 - max(each[1] for each in joined))
    first = (max(range(len(gaps)), key=lambda i: (gaps[i], i)) + 1) % len(joined)
    east = max(each[1] for each in joined) if first == 0 else joined[first - 1][1]
    return min(b[0] for b in boxes), joined[first][0], max(b[2] for b in boxes), east if east <= 180 else east - 360


def merge_collections(lists: Sequence[Sequence[Collection]]) -> list[Collection]:
    """Put collections of one name together; lists: those of each library, by their order."""
    found: dict[str, Collection] = {}
    for number, each in enumerate(lists):
        for one in each:
            cover = None if one.cover is None else joint_id(number, one.cover)
            key = fold_tag(one.name)
            before = found.get(key, Collection(one.name, 0))
            found[key] = replace(before, count=before.count + one.count, cover=before.cover or cover)
    return [found[key] for key in sorted(found)]
