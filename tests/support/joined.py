"""The same items in three libraries and in one, and what is asked of both."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from clipsearch import Filter, Indexed, Record, SearchEngine, Settings, Text
from clipsearch.copy_distance import COPY_DISTANCE_KEY
from clipsearch.query.opening import open_or_create
from clipsearch.store.catalog import get_setting
from clipsearch.store.spreads import SPREADS_KEY
from tests.support.pictures import noise_picture

SETTINGS = Settings(threads=1, offline=True)
SIZES = (30, 45, 25)
WORDS = "a dog cat sea hill snow boat child tree red blue old small house river night market bread".split()
WORDS += ["straße", "strasse"]


def records(part: int, first: int, count: int) -> list[Record]:
    """Make records: pictures with captions, pictures without, and texts; with metadata and some equal pictures."""
    chance = random.Random(part)
    made = []
    for number in range(first, first + count):
        words = " ".join(chance.choices(WORDS, k=chance.randint(3, 14)))
        more: dict[str, Any] = {"metadata": {"part": part, "price": number % 7}}
        if number % 3:
            more["image"] = noise_picture(number // 4 * 4 if number % 5 == 0 else number, (64, 48))
        if number % 3 != 1:
            more["text" if number % 3 == 0 else "caption"] = words
        made.append(Record(f"r{number:03d}", **more))
    return made


def fill(folder: Path, encoder: Any, parts: list[list[Record]]) -> SearchEngine:
    """Make a library of records with tags and a collection, and return its engine."""
    library = open_or_create(folder, SETTINGS, create=True, model="builtin-small", dim=None, timeout=1)
    engine = SearchEngine(library, SETTINGS, encoder, timeout=1, may_be_empty=True)
    for part in parts:
        assert not engine.add(part, keep="thumbnail").failed
        keys = [record.id for record in part]
        engine.tag(keys[::2], add=["Sea" if len(keys) == SIZES[0] else "sea", "even"])
        engine.collect("Best", keys[:5])
    return engine


def make(folder: Path, encoder: Any) -> tuple[SearchEngine, list[SearchEngine]]:
    """Return one library of all items, and three that share them out."""
    firsts = [sum(SIZES[:number]) for number in range(len(SIZES))]
    parts = [records(number, first, size) for number, (first, size) in enumerate(zip(firsts, SIZES, strict=True))]
    whole = fill(folder / "whole", encoder, parts)
    shared = [fill(folder / f"part{number}", encoder, [part]) for number, part in enumerate(parts)]
    share_measurements(whole, shared)
    return whole, shared


def share_measurements(whole: SearchEngine, parts: list[SearchEngine]) -> None:
    """Give libraries what was measured of one: by other queries and rows it would be a little different."""
    with whole.library.query() as connection:
        known = {key: get_setting(connection, key) for key in (SPREADS_KEY, COPY_DISTANCE_KEY)}
    for part in parts:
        with part.library.writer() as writer:
            for key, value in known.items():
                writer.set_setting(key, value)


def of_price(*prices: int) -> Filter:
    return Filter(where={"price": list(prices)})


SEARCHES = {
    "words": lambda e: e.search("a dog by the sea", k=20),
    "meaning alone": lambda e: e.search("a dog by the sea", k=20, hybrid=False),
    "a rare word": lambda e: e.search("market bread", k=40),
    "a word of two spellings": lambda e: e.search("STRASSE", k=40),
    "a page": lambda e: e.search("snow", k=7, offset=11),
    "pictures": lambda e: e.search("snow", modality="image", k=50),
    "texts": lambda e: e.search("old house", modality="text", k=50, hybrid=False),
    "a picture": lambda e: e.search(image=noise_picture(31, (64, 48)), k=20),
    "collapsed": lambda e: e.search(image=noise_picture(40, (64, 48)), k=15, collapse=True),
    "a filter": lambda e: e.search("a boat", k=30, filters=of_price(2, 3)),
    "a filter of a part": lambda e: e.search("a boat", k=30, filters=Filter(where={"part": 1})),
    "a tag": lambda e: e.search("a boat", k=30, filters=Filter(tags=("SEA",)) & ~of_price(1)),
    "keys": lambda e: e.search("a boat", filters=Filter(keys=("r001", "r050", "r099", "none"))),
    "a collection": lambda e: e.search("a boat", filters=Filter(collections=("best",)), k=30),
    "a score": lambda e: e.search("a boat", min_score=0.1, k=30),
    "terms": lambda e: e.search(Text("a dog") + Text("snow") - Text("sea"), k=20),
    "an or": lambda e: e.search((Text("a dog") | Text("snow")) - Text("sea"), k=20),
    "an or with a filter": lambda e: e.search((Text("a dog") & Filter(tags=("sea",))) | of_price(3), k=40),
    "like an item": lambda e: e.search(Indexed(e.get("r050").id), k=20),
    "terms with an item": lambda e: e.search(Text("snow") + Indexed(e.get("r091").id), k=20, fusion="feature"),
    "a batch": lambda e: e.search_batch(texts=["a dog", "market", "a small boat"], k=9),
    "a vector": lambda e: e.search(vector=e.vectors("r040")[0], k=12, kind="image"),
    "sorted by name": lambda e: e.search("red", k=12, offset=3, sort="name"),
    "sorted by size": lambda e: e.search("a dog", k=30, min_confidence=0.1, sort="size"),
    "diverse": lambda e: e.search("a dog by the sea", k=20, offset=5, diverse=True),
    "a diverse picture": lambda e: e.search(image=noise_picture(40, (64, 48)), k=15, diverse=True),
    "explained": lambda e: e.search("a dog by the sea", k=20, offset=5, explain=True),
    "explained terms": lambda e: e.search(Text("a dog") + 2 * Text("snow") - Text("sea"), k=20, explain=True),
    "an explained picture": lambda e: e.search(image=noise_picture(40, (64, 48)), k=15, collapse=True, explain=True),
    "deep": lambda e: e.search("red", k=30, offset=70),
}
READS = {
    "count": lambda e: (e.count(), e.count(of_price(3)), e.count(Filter(tags=("even",)))),
    "facets": lambda e: e.facets(),
    "some facets": lambda e: e.facets(of_price(1, 2), limit=1),
    "get": lambda e: keys(e.get(["r090", "none", "r001", "r090"])),
    "page": lambda e: keys(e.page(limit=35)),
    "pages": lambda e: keys(e.page(cursor=e.page(limit=33).cursor, limit=60)),
    "items": lambda e: keys(e.items(of_price(0, 6), batch=10)),
    "ids": lambda e: keys(e.find(Filter(ids=[e.get("r001").id, e.get("r080").id]))),
    "sorted names": lambda e: keys(e.find(of_price(1, 2), sort="name", limit=9, offset=4)),
    "sorted ratings": lambda e: keys(e.find(sort="rating", limit=20)),
    "vectors": lambda e: e.vectors(["r099", "r000", "r050"]).tolist(),
    "thumbnail": lambda e: (e.thumbnail("r001"), e.thumbnail("r050", side=32)),
    "collections": lambda e: [(each.name, each.count) for each in e.collections()],
    "a cover": lambda e: keys(e.find(Filter(ids=[e.collections()[0].cover]))),
}


def keys(found: Any) -> list[str | None]:
    return [None if item is None else item.key for item in found]


def explained(found: Any) -> Any:
    """What must be equal of explanations, of the part that matched: of equal pictures, others may be looked at."""
    if found is None:
        return None
    matched = [each for each in found.terms if each.modality is found.terms[0].modality]
    terms = [(each.term, each.weight, each.modality, round(each.score, 6)) for each in matched]
    return terms, found.words_place, found.place, found.step, found.words, found.filters


def seen(found: Any) -> Any:
    """What must be equal of answers: hits by their keys, with rank, score and all but the confidence."""
    if isinstance(found, list):
        return [seen(each) for each in found]
    return [
        (
            hit.rank,
            hit.item.key,
            round(hit.score, 6),
            hit.confidence and round(hit.confidence, 5),
            hit.modality,
            hit.part,
            hit.item.metadata,
            hit.item.tags,
            keys(hit.also or ()),
            explained(hit.explanation),
        )
        for hit in found
    ]
