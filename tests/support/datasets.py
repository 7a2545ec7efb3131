"""Data sets of small pictures and captions, in each form that `indexer.sources` reads."""

from __future__ import annotations

import csv
import io
import json
import tarfile
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from indexer.sources.base import BadRow, Row, Source
from tests.support.pictures import encode, noise_picture


def picture(seed: int) -> bytes:
    """A small picture; the same seed gives the same bytes."""
    return encode(noise_picture(seed, (32, 24)), "PNG")


def write_table(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """Write rows of the same columns as the ending of the path says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path, row_group_size=4)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    return path


def tar_of(members: Iterable[tuple[str, bytes]]) -> bytes:
    """A tar file of these members."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def samples(count: int, first: int = 0) -> list[tuple[str, bytes]]:
    """The members of a shard in WebDataset's layout."""
    found = []
    for number in range(first, first + count):
        found += [(f"s{number:03}.png", picture(number)), (f"s{number:03}.txt", f"caption {number}".encode())]
        found.append((f"s{number:03}.json", json.dumps({"number": number}).encode()))
    return found


def zip_of(path: Path, members: Iterable[tuple[str, bytes]]) -> Path:
    """Write a zip file of these members."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


def all_rows(source: Source, start: int = 0) -> list[Row]:
    """All rows of all shards, in order."""
    return [row for shard in source.shards() for row in source.read(shard, start)]


def said(rows: Iterable[Row]) -> list[tuple[int, str, object]]:
    """What rows hold, so that two readings can be compared."""
    return [
        (row.number, row.content.name, row.content.reason)
        if isinstance(row.content, BadRow)
        else (
            row.number,
            row.content.id,
            (row.content.image, row.content.text, row.content.caption, row.content.metadata),
        )
        for row in rows
    ]
