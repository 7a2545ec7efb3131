"""What a program that is checked by mypy --strict does with clipsearch; `assert_type` says what it then knows."""

from collections.abc import Iterator
from pathlib import Path
from typing import assert_type

import numpy as np
from numpy.typing import NDArray

import clipsearch
from clipsearch import (
    AddReport,
    Filter,
    Hit,
    Indexed,
    IndexReport,
    Item,
    Listing,
    Page,
    Query,
    Record,
    Results,
    SearchEngine,
    Text,
)


def find_cats(library: Path) -> list[str]:
    with clipsearch.open(library) as engine:
        assert_type(engine, SearchEngine)
        answer = engine.search("a cat", k=5, offset=5, filters=Filter(types=("image",)) & ~Filter(tags=("private",)))
        assert_type(answer, Results)
        assert_type(answer.offset, int)
        return [hit.path for hit in answer if hit.confidence is None or hit.confidence > 0.9]


def every_hit(engine: SearchEngine) -> Iterator[Hit]:
    offset = 0
    while page := engine.search("a cat", offset=offset):
        yield from page
        offset = page.offset + len(page)


def one_or_several(engine: SearchEngine) -> None:
    vector, vectors = np.zeros(512, np.float32), np.zeros((3, 512), np.float32)
    assert_type(engine.search(vector=[0.1, 0.2], kind="text"), Results)
    assert_type(engine.search(vector=[[0.1, 0.2]], kind="image"), list[Results])
    assert_type(engine.search_batch(texts=["a cat", "a dog"]), list[Results])
    assert_type(engine.search_batch(images=[Path("a.jpg"), "b.jpg"]), list[Results])
    assert_type(engine.search_batch(vectors=vectors), list[Results])
    engine.search(vector=vector)
    query = 2 * Text("a cat") - Text("grass") + Indexed(3)
    assert_type(query, Query)
    assert_type(engine.search(query, fusion="decision"), Results)
    listing = engine.find(Filter(), limit=3)
    assert_type(listing, Listing)
    assert_type(listing[0], Item)


def write(library: Path) -> int:
    with clipsearch.open(library, create=True, model="builtin") as engine:
        assert_type(engine.index([library.parent], exclude=["*.tmp"]), IndexReport)
        records = (Record(f"sku-{i}", text="a red shoe", metadata={"price": 9.5, "tags": ["a"]}) for i in range(3))
        report = engine.add(records)
        assert_type(report, AddReport)
        engine.add([{"id": "sku-4", "image": b"..."}], keep="thumbnail")
        assert_type(engine.update("sku-1", metadata={"sold": True}), int)
        assert_type(engine.delete(["sku-2"]), int)
        return report.added


def read(engine: SearchEngine) -> None:
    assert_type(engine.get("sku-1"), Item | None)
    assert_type(engine.get(["sku-1", "sku-2"]), list[Item | None])
    assert_type(engine.count(Filter(where={"price": {"lt": 20}, "brand": ["acme", "zoo"]})), int)
    assert_type(engine.items(), Iterator[Item])
    page = engine.page(limit=10)
    assert_type(page, Page)
    assert_type(page.cursor, str | None)
    assert_type(engine.vectors(["sku-1"]), NDArray[np.float32])


async def answer_requests(engine: SearchEngine) -> None:
    assert_type(await engine.asearch("a cat", k=3, min_confidence=0.5), Results)
    assert_type(await engine.asearch(vector=[[0.1, 0.2]]), list[Results])
    assert_type(await engine.asearch_batch(texts=["a cat"], hybrid=False), list[Results])


def describe(hit: Hit) -> str:
    item = hit.item
    assert_type(item.caption, str | None)
    assert_type(hit.score, float)
    if item.picture is not None:
        return f"{item.path}: {item.picture.width} x {item.picture.height}"
    return f"{item.path}: {hit.passage.text}" if hit.passage else item.path
