"""Small data sets of real files: tables of pictures, texts and rows that cannot be used."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from clipsearch.config import Settings
from clipsearch.types import EncoderPin
from indexer.embed_shard import EmbedTask
from indexer.shard_plan import ShardPlan
from indexer.sources.registry import open_source
from tests.support.pictures import encode, noise_picture
from tests.support.state import read_state

SETTINGS = Settings(threads=1, offline=True)


def table(path: Path, rows: int, *, pictures: int = 3, bad: int = 2) -> Path:
    """Write a table of `rows` rows: the first are pictures beside it, the last cannot be used, the others are texts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = []
    for number in range(rows):
        said: dict[str, Any] = {"id": f"{path.stem}-{number}", "number": number}
        if number < pictures:
            name = f"{path.stem}-{number}.jpg"
            (path.parent / name).write_bytes(encode(noise_picture(number, (40, 30))))
            said |= {"path": name, "caption": f"Picture {number} of {path.stem}"}
        elif number >= rows - bad:
            said |= {"path": f"missing-{number}.jpg"}
        else:
            said |= {"text": f"Row {number} of {path.stem} tells of the number {number}."}
        lines.append(json.dumps(said))
    path.write_text("\n".join(lines) + "\n")
    return path


def tables(folder: Path, count: int, rows: int, **more: int) -> str:
    """Write several tables; return the pattern that stands for them."""
    for number in range(count):
        table(folder / f"t{number:02d}.jsonl", rows, **more)
    return str(folder / "t*.jsonl")


def pin_of(encoder: Any) -> EncoderPin:
    return EncoderPin(encoder.name, encoder.fingerprint, encoder.dim)


def plan_of(address: str, encoder: Any, *, parts: int = 1) -> ShardPlan:
    source = open_source(address)
    return ShardPlan(source.address, pin_of(encoder), tuple(source.shards()), parts=parts)


def tasks_of(address: str, encoder: Any) -> list[EmbedTask]:
    plan = plan_of(address, encoder)
    return [plan.task(shard, SETTINGS) for shard in plan.shards]


def contents(library: Path) -> dict[str, Any]:
    """All that a library says of its items, by their keys: no ids, numbers of rows or order of adding."""
    state = read_state(library)
    with closing(sqlite3.connect(library / "catalog.db")) as db:
        metadata = dict(db.execute("SELECT item_id, data FROM item_metadata"))
        sources = {item: row for item, *row in db.execute("SELECT item_id, source, text FROM record_contents")}
        sizes = {item: row for item, *row in db.execute("SELECT id, width, height, taken_at FROM items")}
        shards = {name: tuple(row) for name, *row in db.execute("SELECT name, rows, failed, done, broken FROM shards")}
        owners = dict(db.execute("SELECT item_id, name FROM shard_items JOIN shards ON shards.id = shard_id"))
    items = {
        path: (
            each.content_hash[-32:], each.modality, each.texts, each.caption, metadata.get(each.id),
            sources.get(each.id), sizes[each.id], owners.get(each.id),
        )
        for path, each in state.live.items()
    }  # fmt: skip
    rows = {path: np.frombuffer(each.vectors + each.caption_vectors, "<f2") for path, each in state.live.items()}
    return {"items": items, "rows": rows, "shards": shards}


def same_library(first: Path, second: Path) -> None:
    """Assert that two libraries hold the same; vectors may differ as another layout of batches rounds, to float16."""
    one, other = contents(first), contents(second)
    assert one["items"] == other["items"]
    assert one["shards"] == other["shards"]
    for path, rows in one["rows"].items():
        np.testing.assert_allclose(rows.astype(np.float32), other["rows"][path].astype(np.float32), atol=1e-3)
