"""The tables of the catalog.

Rows of one modality are numbered from 0 across its segments, in the order they were committed; `row` is that
number everywhere. A file and its vectors stay when the file is deleted (items.deleted), so that it comes back at no
cost; the rows that must not be found are listed in tombstones. Paths are stored as clipsearch.paths writes them.

A root is a folder or a file that is walked, a collection of records that came with their vectors, the one of the
records that were added from Python, whose paths are the ids that the caller gave, or a data set, whose paths are the
ids of its rows. `shards` says how far each shard of a data set was read, and `shard_items` which items it has.
A record of a collection is an item
that may have a row in each modality; the passage of its text row is its caption. So may a picture with captions be,
which has a text row for each passage of them, and one with text in it, whose passages are parts from
FIRST_RECOGNISED_PART on. A film has an image row for each of its frames, a document one for each page and text rows
for the passages of its pages; `vectors.position` says where each of them lies, and `item_media` what the item is.

The second set is the vectors of another encoder, beside those that answer: see clipsearch.store.second_set.

`digest` and `vectors.checksum` are those of clipsearch.store.checksums.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData()
_big_id = BigInteger().with_variant(Integer, "sqlite")


def _digest() -> Column[int]:
    return Column("digest", BigInteger)


settings = Table(
    "settings",
    metadata,
    Column("key", String, primary_key=True),
    Column("value", Text, nullable=False),
    _digest(),
)

roots = Table(
    "roots",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("path", Text, nullable=False, unique=True),  # relative to the library's parent where portable
    Column("portable", Boolean, nullable=False),
    Column("rules", Text, nullable=False),  # JSON: exclude patterns, include_hidden
    Column("offline", Boolean, nullable=False, default=False),
    Column("kind", String(16), nullable=False, server_default="folder"),
    _digest(),
    sqlite_autoincrement=True,
)

items = Table(
    "items",
    metadata,
    Column("id", _big_id, primary_key=True),
    Column("root_id", ForeignKey("roots.id"), nullable=False),
    Column("path", Text, nullable=False),  # below the root, with "/"; "" where it is the root; or a record's name
    Column("modality", String(16), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("mtime_ns", BigInteger, nullable=False),
    Column("content_hash", String(40), nullable=False, index=True),
    Column("width", Integer),
    Column("height", Integer),
    Column("taken_at", String(32)),
    Column("camera", Text),
    Column("latitude", Float),
    Column("longitude", Float),
    Column("caption", Text),
    Column("caption_stamp", String(40)),  # of what the captions were read from; NULL where nobody has looked
    Column("deleted", Boolean, nullable=False, default=False),
    _digest(),
    # What only decides whether a file is read again has no digest; NULL where nobody has looked.
    Column("ctime_ns", BigInteger),
    Column("inode", BigInteger),
    Column("beside_ctime_ns", BigInteger),  # of the text beside a picture
    UniqueConstraint("root_id", "path"),
    sqlite_autoincrement=True,
)

vectors = Table(
    "vectors",
    metadata,
    Column("modality", String(16), primary_key=True),
    Column("row", _big_id, primary_key=True, autoincrement=False),
    Column("item_id", ForeignKey("items.id"), nullable=False, index=True),
    Column("part", Integer, nullable=False),
    Column("text", Text),
    Column("line", Integer),
    Column("end_line", Integer),
    Column("checksum", BigInteger),
    Column("position", String(24)),  # of a part of a film or a document: see clipsearch.store.positions
    sqlite_with_rowid=False,
)

tags = Table(
    "tags",
    metadata,
    Column("item_id", ForeignKey("items.id"), primary_key=True),
    Column("folded", Text, primary_key=True),  # the tag without case
    Column("source", String(8), primary_key=True),
    Column("tag", Text, nullable=False),
    Column("probability", Float),
    _digest(),
    sqlite_with_rowid=False,
)

FIRST_RECOGNISED_PART = 1 << 20
"""The number of the first passage of the text in a picture; captions have lower ones."""

recognised_text = Table(
    "recognised_text",
    metadata,
    Column("item_id", ForeignKey("items.id"), primary_key=True),
    Column("model", String(40), nullable=False),  # fingerprint of what recognised it
    Column("lines", Text, nullable=False),  # JSON: [text, four corners [x, y] in 0..1, confidence] of each
    _digest(),
)

item_metadata = Table(
    "item_metadata",
    metadata,
    Column("item_id", ForeignKey("items.id"), primary_key=True),
    Column("data", Text, nullable=False),  # JSON object: scalars and lists of strings, by name
    Column("beside", Text),  # JSON object: what of it a table of captions said when it was read last
    _digest(),
)

metadata_values = Table(
    "metadata_values",
    metadata,
    Column("name", Integer, primary_key=True),  # its number among those whose values are indexed
    Column("value", LargeBinary, primary_key=True),  # a number, a text, or a BLOB of one byte for a truth value
    Column("item_id", ForeignKey("items.id"), primary_key=True, index=True),
    Column("element", Boolean, primary_key=True),  # whether it is one of a list
    sqlite_with_rowid=False,
)

item_media = Table(
    "item_media",
    metadata,
    Column("item_id", ForeignKey("items.id"), primary_key=True),
    Column("media", String(16), nullable=False, index=True),
    Column("duration", Float),  # of a film, in seconds
    Column("pages", Integer),  # of a document
    _digest(),
)

record_contents = Table(
    "record_contents",
    metadata,
    Column("item_id", ForeignKey("items.id"), primary_key=True),
    Column("source", Text),  # path or URL of the picture
    Column("text", Text),  # all of it; its passages are in vectors
    _digest(),
)

record_pictures = Table(  # apart from the contents, which every hit reads
    "record_pictures",
    metadata,
    Column("item_id", ForeignKey("items.id"), primary_key=True),
    Column("picture", LargeBinary, nullable=False),  # encoded file: the picture itself, or a thumbnail
    Column("kept", String(16), nullable=False),  # which of the two
    _digest(),
)

collections = Table(
    "collections",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False),
    Column("folded", Text, nullable=False, unique=True),  # the name without case
    _digest(),
    sqlite_autoincrement=True,
)

collection_items = Table(
    "collection_items",
    metadata,
    Column("collection_id", ForeignKey("collections.id"), primary_key=True),
    Column("item_id", ForeignKey("items.id"), primary_key=True, index=True),
    Column("position", BigInteger, nullable=False),  # rises in the order of adding
    _digest(),
    sqlite_with_rowid=False,
)

shards = Table(
    "shards",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("root_id", ForeignKey("roots.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("version", Integer, nullable=False),  # rises each time that it is read from its start
    Column("rows", BigInteger, nullable=False),  # of its rows, those that are committed or failed
    Column("failed", BigInteger, nullable=False),
    Column("done", Boolean, nullable=False),
    Column("broken", Boolean, nullable=False),  # its end could not be read, so that rows may be missing
    _digest(),
    UniqueConstraint("root_id", "name"),
    sqlite_autoincrement=True,
)

shard_items = Table(
    "shard_items",
    metadata,
    Column("item_id", ForeignKey("items.id"), primary_key=True),
    Column("shard_id", Integer, nullable=False),
    Column("version", Integer, nullable=False),  # of the shard, when it had the item last
    _digest(),
)

tombstones = Table(
    "tombstones",
    metadata,
    Column("modality", String(16), primary_key=True),
    Column("row", _big_id, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)

segments = Table(
    "segments",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("modality", String(16), nullable=False),
    Column("name", String, nullable=False, unique=True),
    Column("first_row", BigInteger, nullable=False),
    Column("committed_rows", BigInteger, nullable=False),
    _digest(),
    sqlite_autoincrement=True,
)

failures = Table(
    "failures",
    metadata,
    Column("id", _big_id, primary_key=True),
    Column("root_id", ForeignKey("roots.id"), nullable=False),
    Column("path", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("mtime_ns", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("transient", Boolean, nullable=False),  # tried again at every run: the file could not be opened
    _digest(),
    Column("ctime_ns", BigInteger),  # as of items
    UniqueConstraint("root_id", "path"),
    sqlite_autoincrement=True,
)

generations = Table(
    "generations",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("modality", String(16), nullable=False, unique=True),  # one active generation per modality
    Column("name", String, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("params", Text, nullable=False),  # JSON of the backend's frozen dataclass
    Column("watermark", BigInteger, nullable=False),  # rows below it are in the index, the rest are scanned
    Column("checksums", Text, nullable=False),  # JSON: file name -> hexadecimal BLAKE2b
    _digest(),
    sqlite_autoincrement=True,
)

second_vectors = vectors.to_metadata(metadata, name="second_vectors")
second_tombstones = tombstones.to_metadata(metadata, name="second_tombstones")
second_segments = segments.to_metadata(metadata, name="second_segments")
second_generations = generations.to_metadata(metadata, name="second_generations")
second_settings = settings.to_metadata(metadata, name="second_settings")

second_items = Table(
    "second_items",
    metadata,
    Column("item_id", ForeignKey("items.id"), primary_key=True),
    Column("stamp", BigInteger, nullable=False),  # of what its vectors were made from
    Column("reason", Text),  # why it lacks vectors; NULL where it has all
)

SECOND = (second_vectors, second_tombstones, second_segments, second_generations, second_settings, second_items)
"""The tables of the second set. The first five are of the same columns as those that they stand beside."""

SEALED = (
    settings,
    roots,
    items,
    tags,
    segments,
    failures,
    generations,
    recognised_text,
    item_metadata,
    item_media,
    record_contents,
    record_pictures,
    collections,
    collection_items,
    shards,
    shard_items,
    second_segments,
    second_generations,
    second_settings,
)
"""The tables whose rows have a digest."""

Index("ix_items_missing", items.c.root_id, items.c.deleted)
Index("ix_tags_folded", tags.c.folded)
Index("ix_shard_items_shard", shard_items.c.shard_id, shard_items.c.version)
