"""What requests change in a library; each call blocks, and is durable once it returns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from clipsearch.errors import InvalidInputError, MediaError
from clipsearch.filtering import Filter
from clipsearch.media.decode import check_pixels
from clipsearch.present import encodable
from clipsearch.query.engine import SearchEngine
from clipsearch.records import Record
from clipsearch.server.data_urls import is_data_url, read_data_url
from clipsearch.server.forms_records import ChangeRequest, FailedRecord, RecordForm, RecordsAdded
from clipsearch.server.forms_selections import TagsRequest
from clipsearch.server.settings import ServerSettings

_SIDE = 512
"""Pixels that are needed of the shorter side of a picture, for its vector and its thumbnail."""


def add_records(
    engine: SearchEngine, forms: Iterable[RecordForm], keep: str | None, settings: ServerSettings
) -> RecordsAdded:
    """Add records; one that cannot be used fails alone. Raises as `SearchEngine.add`."""
    failed: list[tuple[str, str]] = []

    def records() -> Iterator[Record]:
        for form in forms:
            try:
                yield _bounded(_to_record(form, settings.allow_urls), settings)
            except (InvalidInputError, MediaError) as error:
                failed.append((form.id, str(error)))

    report = engine.add(records(), keep=keep)
    return RecordsAdded(
        added=report.added,
        replaced=report.replaced,
        unchanged=report.unchanged,
        failed=[FailedRecord(id=name, reason=encodable(reason)) for name, reason in [*failed, *report.failed]],
        seconds=report.seconds,
    )


def add_picture(engine: SearchEngine, record: Record, keep: str | None, settings: ServerSettings) -> RecordsAdded:
    """Add one record. Raises InvalidInputError or MediaError where it cannot be used; else as `SearchEngine.add`."""
    report = engine.add([_bounded(record, settings)], keep=keep)
    for _, reason in report.failed:
        raise InvalidInputError(f"The record {record.id!r:.80} cannot be added: {reason}.")
    return RecordsAdded(
        added=report.added,
        replaced=report.replaced,
        unchanged=report.unchanged,
        failed=[],
        seconds=report.seconds,
    )


def change_items(engine: SearchEngine, asked: ChangeRequest) -> int:
    """Change what is said of items; all of them or none. Raises as `SearchEngine.update`."""
    _require_one(asked.keys, asked.ids)
    keys = asked.keys or _keys_of(engine, asked.ids)
    return engine.update(keys, metadata=asked.metadata, remove=asked.remove, caption=asked.caption)


def tag_items(engine: SearchEngine, asked: TagsRequest) -> int:
    """Add tags to items, and remove others; all of them or none. Raises as `SearchEngine.tag`."""
    _require_one(asked.keys, asked.ids)
    if not asked.add and not asked.remove:
        raise InvalidInputError("There is nothing to change. Name tags to add or to remove.")
    return engine.tag(asked.keys or asked.ids, add=asked.add, remove=asked.remove)


def delete_items(engine: SearchEngine, keys: Sequence[str], ids: Sequence[int]) -> int:
    """Delete items by their keys or ids; unknown ones are passed over. Raises as `SearchEngine.delete`."""
    _require_one(keys, ids)
    return engine.delete(keys) if keys else engine.delete(filters=Filter(ids=frozenset(ids)))


def delete_matching(engine: SearchEngine, filters: Filter) -> int:
    """Delete what a filter allows. Raises InvalidInputError for one without a condition; as `SearchEngine.delete`."""
    if filters == Filter():
        raise InvalidInputError("filters has no condition, so that all would be deleted. Name at least one.")
    return engine.delete(filters=filters)


def _to_record(form: RecordForm, allow_urls: bool) -> Record:
    image: bytes | str | None = form.image
    if form.image is not None:
        if is_data_url(form.image) or not allow_urls:
            image = read_data_url(form.image)
        elif not form.image.lower().startswith(("http://", "https://")):
            raise InvalidInputError(f"A picture is a data: or an http: URL, not {form.image[:40]!r}.")
    return Record(form.id, image, form.text, form.caption, form.metadata, form.vector, form.modality)


def _bounded(record: Record, settings: ServerSettings) -> Record:
    """Return a record whose picture is no larger than that of a search may be. Raises MediaError."""
    if isinstance(record.image, bytes):
        check_pixels(record.image, min_side=_SIDE, max_pixels=settings.max_pixels)
    return record


def _require_one(keys: Sequence[str], ids: Sequence[int]) -> None:
    if bool(keys) == bool(ids):
        raise InvalidInputError("Name items by their keys or by their ids: one of the two.")


def _keys_of(engine: SearchEngine, ids: Sequence[int]) -> list[str]:
    found = {item.id: item.key for item in engine.items(Filter(ids=frozenset(ids)))}
    for item_id in ids:
        if item_id not in found:
            raise InvalidInputError(f"There is no item {item_id} in the library.")
    return list(found.values())
