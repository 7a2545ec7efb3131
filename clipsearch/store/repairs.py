"""Changes that only a repair makes to a library."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, select, text

from clipsearch.errors import StoreCorruptError
from clipsearch.store import collections, full_text, item_media, metadata_index, schema, shards
from clipsearch.store.checksums import is_sound
from clipsearch.store.damage import Damage
from clipsearch.store.database import transaction
from clipsearch.store.deletion import erase_items
from clipsearch.store.dialect import is_postgres
from clipsearch.store.library import Library
from clipsearch.store.revision import change
from clipsearch.store.schema import failures, generations
from clipsearch.store.second_check import find_damaged_seconds
from clipsearch.store.second_writer import SecondWriter
from clipsearch.store.sql_values import chunks, listed
from clipsearch.store.verification import count_damaged
from clipsearch.store.writer import Writer
from clipsearch.types import Modality


def erase(writer: Writer, ids: Sequence[int]) -> None:
    """Erase items with their words, tags and vectors."""
    connection, _ = writer.storage
    for chunk in chunks(ids):
        with change(connection):
            erase_items(connection, chunk)


def drop_notes(writer: Writer, damage: Damage) -> None:
    """Delete damaged entries of approximate indexes, failures and recognised text, which a run creates, and of tags.

    Collections and data sets are mended. Entries of metadata and contents of records go too; their items are repaired
    as damaged ones. The index of metadata is made again.
    """
    connection, _ = writer.storage
    with change(connection):
        for table, ids in ((generations, damage.generations), (failures, damage.failures)):
            for chunk in chunks(ids):
                connection.execute(delete(table).where(table.c.id.in_(chunk)))
        for table in (schema.tags, schema.recognised_text):
            for row in connection.execute(select(table)).all():
                if row.digest is None or not is_sound(row, table):
                    key = [column == getattr(row, column.name) for column in table.primary_key]
                    connection.execute(delete(table).where(*key))
        collections.mend(connection)
        shards.mend(connection)
        unsound = count_damaged(connection)
        for table in (schema.item_metadata, schema.item_media, schema.record_contents, schema.record_pictures):
            connection.execute(delete(table).where(table.c.item_id.in_(listed(unsound[table.name][1]))))
        item_media.mend(connection)
        metadata_index.rebuild(connection)


def mend_second(library: Library, writer: Writer) -> None:
    """Take out of the second set what is damaged, which a reindex makes again; discard a set that cannot be read."""
    second = SecondWriter(writer)
    try:
        unsound = find_damaged_seconds(library)
        with library.query() as connection:
            counts = count_damaged(connection)
        if any(counts[table.name][0] for table in (schema.second_segments, schema.second_settings)):
            raise StoreCorruptError("The catalog of the second set is damaged.")
        for modality in Modality:  # an index that is lost is built again
            second.activate(modality, None)
        second.forget_rows(unsound)
    except StoreCorruptError:
        second.discard()


def rebuild_words(writer: Writer) -> None:
    """Rebuild the full-text index from captions and passages."""
    connection, _ = writer.storage
    with change(connection):
        full_text.rebuild(connection)


def rebuild_indexes(writer: Writer) -> None:
    """Rebuild SQLite's own indexes from their tables."""
    connection, _ = writer.storage
    with transaction(connection):  # no new revision: the rows of the tables stay as they are
        if is_postgres(connection):
            for table in connection.dialect.get_table_names(connection):
                connection.exec_driver_sql(f'REINDEX TABLE "{table}"')
        else:
            connection.execute(text("REINDEX"))
