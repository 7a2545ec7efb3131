"""The pictures, texts and libraries of the reliability runs: small, and the same at every run."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
from PIL import Image
from support import ENCODER, command

SIDE = 16
DIM = 257


def picture(path: Path, seed: int) -> Path:
    """Write a small picture with a time, a camera and a place; the same seed gives the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0110] = f"Camera {seed % 3}"
    exif.get_ifd(0x8769)[0x9003] = f"20{10 + seed % 10}:0{1 + seed % 9}:1{seed % 10} 12:00:{seed % 60:02d}"
    coarse.save(path, "JPEG", quality=90, exif=exif)
    return path


def pictures(folder: Path, count: int, first: int = 0) -> list[Path]:
    """Write pictures named by their seeds."""
    return [picture(folder / f"p{first + i:04d}.jpg", first + i) for i in range(count)]


def texts(folder: Path, count: int) -> list[Path]:
    """Write texts of some passages each."""
    folder.mkdir(parents=True, exist_ok=True)
    things = ("harbour", "mountain", "kitchen", "railway", "orchard", "library", "desert", "market")
    written = []
    for number in range(count):
        lines = [f"Line {i} of note {number} tells of the {things[(number + i) % 8]} and the sea." for i in range(12)]
        written.append(folder / f"note{number:02d}.txt")
        written[-1].write_text("\n".join(lines) + "\n")
    return written


def captions(folder: Path, names: list[Path]) -> None:
    """Write a caption beside pictures."""
    for number, path in enumerate(names):
        path.with_suffix(".txt").write_text(f"A caption of picture {number}, red and green\n")


def export(folder: Path, name: str, count: int, seed: int) -> tuple[Path, Path]:
    """Write `count` vectors that were made elsewhere, in clusters, and their records: .npy and .jsonl."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((20, DIM))
    rows = centres[rng.integers(0, 20, count)] + 0.6 * rng.standard_normal((count, DIM))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    folder.mkdir(parents=True, exist_ok=True)
    vectors, records = folder / f"{name}.npy", folder / f"{name}.jsonl"
    np.save(vectors, rows.astype(np.float32))
    lines = [
        json.dumps({"id": f"{name}-{i}", "caption": f"record {i} of {name}", "width": 8, "height": 8})
        for i in range(count)
    ]
    records.write_text("\n".join(lines) + "\n")
    return vectors, records


def index(library: Path, *paths: Path, batch: int = 8) -> list[object]:
    """Return the command that indexes paths."""
    return ["index", *paths, "--library", library, "--model", ENCODER, "--batch-size", batch, "--threads", 1]


def bring(library: Path, source: tuple[Path, Path]) -> list[object]:
    """Return the command that imports an export."""
    return ["import-embeddings", source[0], "--items", source[1], "--encoder", ENCODER, "--library", library]


def run(arguments: list[object]) -> None:
    """Run a command that must succeed."""
    code = command(*arguments)
    if code:
        raise RuntimeError(f"{arguments} ended with {code}")


def full_library(folder: Path, library: Path, records: int) -> None:
    """Make a library with pictures, captions, texts, tags, a collection, deleted files and a 4-bit index."""
    photos = folder / "photos"
    made = pictures(photos, 60)
    captions(photos, made[:6])
    texts(folder / "notes", 10)
    run(index(library, photos, folder / "notes", batch=16))
    for path in made[50:]:
        path.unlink()
    run(index(library, photos))
    run(bring(library, export(folder, "export", records, 7)))
    run(["label", "--labels", "red,green,blue", "--save", "--min-chance", 0.3, "--library", library])
    run(["build", "--index", "pq4", "--library", library])


OLD_COLUMNS = {
    "roots": ("id", "path", "portable", "rules", "offline", "kind"),
    "items": (
        "id", "root_id", "path", "modality", "size", "mtime_ns", "content_hash", "width", "height", "taken_at",
        "camera", "latitude", "longitude", "deleted", "caption", "caption_stamp",
    ),
    "vectors": ("modality", "row", "item_id", "part", "text", "line", "end_line"),
    "tombstones": ("modality", "row"),
    "segments": ("id", "modality", "name", "first_row", "committed_rows"),
    "failures": ("id", "root_id", "path", "size", "mtime_ns", "reason", "transient"),
    "generations": ("id", "modality", "name", "kind", "params", "watermark", "checksums"),
    "settings": ("key", "value"),
    "tags": ("item_id", "folded", "source", "tag", "probability"),
}  # fmt: skip
"""The tables of schema version 4."""

_INDEXES = ("ix_items_content_hash", "ix_items_missing", "ix_vectors_item_id", "ix_tags_folded")
"""The indexes of schema version 4."""

_SINCE = {2: {"roots": ("kind",), "items": ("caption",)}, 4: {"items": ("caption_stamp",)}}
_TABLES_SINCE = {3: "full_text", 4: "tags"}


def age(library: Path, version: int) -> None:
    """Turn a catalog into one of an earlier schema version: what came later is taken out."""
    with closing(sqlite3.connect(library / "catalog.db")) as db:
        later_parts = "SELECT type, name FROM sqlite_master WHERE type IN ('index', 'trigger') AND sql IS NOT NULL"
        for kind, name in db.execute(later_parts).fetchall():
            if name not in _INDEXES:
                db.execute(f"DROP {kind} {name}")
        tables = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        made = "SELECT type, name FROM sqlite_master WHERE name GLOB '*_changed' OR name GLOB '*_unsealed'"
        for kind, name in db.execute(made).fetchall():  # which keep the digests of version 5
            db.execute(f"DROP {kind} {name}")
        db.execute("DELETE FROM settings WHERE key IN ('row_checksums', 'library_id')")
        later = {table for since, table in _TABLES_SINCE.items() if since > version}
        known = {*OLD_COLUMNS, "full_text"} - later
        for table in tables:
            if not table.startswith(("sqlite_", "full_text_")) and table not in known:
                db.execute(f"DROP TABLE {table}")
        for table, columns in OLD_COLUMNS.items():
            if table in known:
                newer = {name for since, named in _SINCE.items() if since > version for name in named.get(table, ())}
                for _, name, *_ in db.execute(f"PRAGMA table_info({table})").fetchall():
                    if name not in columns or name in newer:
                        db.execute(f"ALTER TABLE {table} DROP COLUMN {name}")
        db.execute("DELETE FROM settings WHERE key IN ('row_checksums', 'library_id')")  # of version 5
        db.execute("UPDATE settings SET value = ? WHERE key = 'schema_version'", (str(version),))
        db.commit()
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def copy(source: Path, target: Path) -> Path:
    """Copy a library to a place where another one may lie."""
    shutil.rmtree(target, ignore_errors=True)
    if source.exists():
        shutil.copytree(source, target)
    return target
