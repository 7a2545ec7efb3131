"""What a query that finds nothing confident may have meant: other spellings, and the nearest tags and captions.

It is made of the answer itself and of a few look-ups, after the search and only where nothing stands out. Each
suggestion finds something: a live item that the filters allow has the word, the tag or the caption.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice

from clipsearch.errors import InvalidInputError
from clipsearch.filtering import Filter
from clipsearch.store.near_words import fold, is_spelled
from clipsearch.store.snapshot import Snapshot
from clipsearch.types import Hit, Results, Suggestion
from clipsearch.words import fold_tag

MOST = 3
"""Suggestions of each kind."""

_WORDS, _MISSPELLED = 20, 3
"""Words of a query that are looked at, and how many that the library lacks are looked for in other spellings."""

_CANDIDATES = 20

_HOLDERS = 2
"""How many of the nearest items must have a tag (benchmarks/suggested_tags.py)."""

_EXCERPT = 100


def suggest(
    snapshot: Snapshot, found: Results, text: str | None, wanted: Filter | None, captions: Callable[[], Iterable[Hit]]
) -> Results:
    """Return an answer with suggestions, if nothing in it stands out.

    text: the query, if it is words. captions: finds the nearest texts; where there are none, those of the hits count.
    """
    if found.confident or found.offset:
        return found
    spelled = [] if text is None else _spellings(snapshot, text, wanted)
    named = _tags(snapshot, found, text, wanted)
    nearest = _captions(captions()) or _captions(found)
    kinds = (("spelling", spelled), ("tag", named), ("caption", nearest))
    made = tuple(Suggestion(kind, each) for kind, texts in kinds for each in texts[:MOST])
    return replace(found, suggestions=made)


def _spellings(snapshot: Snapshot, text: str, wanted: Filter | None) -> list[str]:
    """Return the text with each word that the library lacks in the spellings that it has: the likeliest first."""
    ways = [text]
    misspelled = 0
    for word in dict.fromkeys(re.findall(r"[^\W\d_]+", text)[:_WORDS]):
        near = snapshot.near_words(word, wanted, MOST) if misspelled < _MISSPELLED else ()
        misspelled += near is not None and is_spelled(fold(word))
        written = re.compile(rf"\b{re.escape(word)}\b")
        if near:
            best = [written.sub(near[0].word, way) for way in ways]
            others = [written.sub(other.word, ways[0]) for other in near[1:]]
            ways = [*best, *others]
    return [way for way in dict.fromkeys(ways) if way != text]


def _tags(snapshot: Snapshot, found: Results, text: str | None, wanted: Filter | None) -> list[str]:
    """Return tags: those that are spelled like the text or a word of it, then those that the nearest items have.

    Of these, the ones that are frequent among the nearest and rare otherwise come first. A tag of one of them is mostly
    chance, and so is one that as many of all items have.
    """
    words = [] if text is None else [text, *re.findall(r"[^\W\d_]+", text)[:_WORDS]]
    spelled = snapshot.tags_like(words, wanted) if words else []
    weights: dict[str, float] = {}
    holders: Counter[str] = Counter()
    names = {fold_tag(name): name for hit in found for name in hit.item.tags}
    for hit in found:
        for name in {fold_tag(name) for name in hit.item.tags}:
            weights[name] = weights.get(name, 0.0) + 1 / (1 + hit.rank)
            holders[name] += 1
    shared = [name for name in weights if holders[name] >= _HOLDERS]
    nearest = sorted(shared, key=lambda name: (-weights[name], name))[:_CANDIDATES]
    counts = snapshot.tag_counts(nearest) if nearest else {}
    nearest.sort(key=lambda name: (-weights[name] / math.log(2 + counts.get(name, 1)), name))
    near = islice(_frequent(snapshot, {name: holders[name] for name in nearest}, len(found), wanted), MOST)
    return [names.get(name, name) for name in dict.fromkeys([*spelled, *near])]


def _frequent(snapshot: Snapshot, holders: Mapping[str, int], hits: int, wanted: Filter | None) -> Iterator[str]:
    """Yield the tags that a larger share of the nearest items has than of all that may be found.

    holders: how many of so many hits have each.
    """
    total = snapshot.count_items(Filter() if wanted is None else wanted) if holders else 0
    for name, count in holders.items():
        tagged = Filter(tags=(name,))
        try:
            allowed = tagged if wanted is None else wanted & tagged
        except InvalidInputError:  # the filter is as large as one may be
            return
        if count * total > snapshot.count_items(allowed) * hits:
            yield name


def _captions(hits: Iterable[Hit]) -> list[str]:
    """Return the first lines of the captions and passages of hits."""
    texts = (hit.passage.text if hit.passage is not None else hit.item.caption or "" for hit in hits)
    lines = (" ".join(text.strip().partition("\n")[0].split()) for text in texts)
    cut = (line if len(line) <= _EXCERPT else line[: _EXCERPT - 1] + "…" for line in lines)
    return [line for line in dict.fromkeys(cut) if line][:MOST]
