"""What a repair changes in a library past its ordinary commits."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, select, text

from clipsearch.store import catalog, commit, full_text, schema, tags
from clipsearch.store.checksums import is_sound
from clipsearch.store.damage import Damage
from clipsearch.store.database import transaction
from clipsearch.store.schema import failures, generations, items, vectors
from clipsearch.store.writer import Writer, bump_revision


def erase(writer: Writer, ids: Sequence[int]) -> None:
    """Take items out of a library, with all that belongs to them."""
    connection, _ = writer.storage
    for chunk in catalog.chunks(ids):
        with transaction(connection):
            commit.tombstone(connection, select(items.c.id).where(items.c.id.in_(chunk)))
            full_text.remove(connection, chunk)
            tags.remove(connection, chunk)
            connection.execute(delete(vectors).where(vectors.c.item_id.in_(chunk)))
            connection.execute(delete(items).where(items.c.id.in_(chunk)))
            bump_revision(connection)


def drop_notes(writer: Writer, damage: Damage) -> None:
    """Forget approximate indexes, failures and tags whose entries are damaged: a run makes or finds them again."""
    connection, _ = writer.storage
    with transaction(connection):
        for table, ids in ((generations, damage.generations), (failures, damage.failures)):
            for chunk in catalog.chunks(ids):
                connection.execute(delete(table).where(table.c.id.in_(chunk)))
        for row in connection.execute(select(schema.tags)).all():
            if row.digest is None or not is_sound(row, schema.tags):
                key = [column == getattr(row, column.name) for column in schema.tags.primary_key]
                connection.execute(delete(schema.tags).where(*key))
        bump_revision(connection)


def rebuild_words(writer: Writer) -> None:
    """Make the index of words again from captions and passages."""
    connection, _ = writer.storage
    with transaction(connection):
        connection.execute(text("DROP TABLE IF EXISTS full_text"))
        connection.execute(text(full_text.CREATE))
        full_text.fill(connection)
        bump_revision(connection)


def rebuild_indexes(writer: Writer) -> None:
    """Make SQLite's own indexes again from their tables."""
    connection, _ = writer.storage
    with transaction(connection):
        connection.execute(text("REINDEX"))
