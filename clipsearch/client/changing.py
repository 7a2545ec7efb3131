"""Changes of the library as requests: records, metadata, deletion, and jobs that index."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from clipsearch.client import answers
from clipsearch.client.calls import MAX_KEYS, Call, Pause, Steps, encode
from clipsearch.client.filters import to_form
from clipsearch.client.pictures import data_url, read_picture_file
from clipsearch.client.reading import Fields
from clipsearch.errors import InvalidInputError, LibraryError, MediaError
from clipsearch.filtering import Filter
from clipsearch.metadata import check_metadata, parse_metadata
from clipsearch.query.validation import as_floats, read_keys, read_names
from clipsearch.records import AddReport, Record, as_record, name_of

if TYPE_CHECKING:
    from indexer.report import IndexReport

BATCH, BATCH_BYTES = 256, 12 << 20
"""Records of one request, and their bytes, unless one has more."""

MAX_LENGTH = 6000
"""Bytes of the keys of one request to delete: a server bounds the length of an address."""

FIRST_LOOK, LATER_LOOK = 0.1, 2.0
"""Seconds between two looks at a job, at first and at most."""

OnProgress = Callable[[int, int | None], None]


def add(
    records: Iterable[Record | Mapping[str, object]],
    keep: str | None,
    batch_size: int | None,
    progress: OnProgress | None,
) -> Steps[AddReport]:
    """Add records, batch by batch. One that cannot be used is in the report."""
    if isinstance(records, Record | Mapping | str | bytes) or not isinstance(records, Iterable):
        raise InvalidInputError(
            f"Records must be an iterable of Record, not {type(records).__name__}. Put one into a list."
        )
    if batch_size is not None and (type(batch_size) is not int or batch_size < 1):
        raise InvalidInputError(f"batch_size is {batch_size!r}, but must be a whole number of at least 1.")
    if keep not in (None, "thumbnail", "bytes"):
        raise InvalidInputError(f"keep is {keep!r}, but must be 'thumbnail', 'bytes' or None.")
    started, done = time.monotonic(), 0
    report = AddReport()
    failed: list[tuple[str, str]] = []
    for taken, part in _batches(records, min(batch_size or BATCH, BATCH), failed):
        if part:
            report = _sum(report, (yield from _add(part, keep)))
        done += taken
        if progress is not None:
            progress(done, None)
    seconds = round(time.monotonic() - started, 3)
    return replace(report, failed=(*failed, *report.failed), seconds=seconds)


def update(
    ids: str | Iterable[str], metadata: Mapping[str, object] | None, remove: str | Iterable[str], caption: str | None
) -> Steps[int]:
    """Change what is said of items."""
    keys = list(dict.fromkeys(read_keys(ids)))
    changed = None if metadata is None else parse_metadata(check_metadata(metadata))
    removed = list(read_names(remove))
    if not keys:
        return 0
    asked = {"keys": keys, "metadata": changed, "remove": removed, "caption": caption}
    count: int = yield Call("PATCH", "/v1/records", answers.read_count("items"), asked, is_repeatable=False)
    return count


def delete(ids: str | Iterable[str] | None, filters: Filter | None) -> Steps[int]:
    """Delete items."""
    if (ids is None) == (filters is None):
        raise InvalidInputError("delete takes ids or filters, one of the two.")
    read = answers.read_count("items")
    if ids is None:
        asked = {"filters": to_form(filters)}
        count: int = yield Call("POST", "/v1/records/delete", read, asked, is_repeatable=False)
        return count
    count = 0
    for keys in _short_parts(dict.fromkeys(read_keys(ids))):
        params = tuple(("key", key) for key in keys)
        count += yield Call("DELETE", "/v1/records", read, params=params, is_repeatable=False)
    return count


def index(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    retry_failed: bool,
    rehash: bool,
    ocr: bool | None,
    progress: OnProgress | None,
    should_stop: Callable[[], bool] | None,
) -> Steps[IndexReport]:
    """Start a job that indexes folders of the server, and look at it until it ends."""
    given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    asked: dict[str, Any] = {"paths": [os.fspath(path) for path in given], "retry_failed": retry_failed, "ocr": ocr}
    if rehash:
        asked["rehash"] = True
    job: _Job = yield Call("POST", "/v1/jobs", _read_job, asked, is_repeatable=False)
    path, pause, shown = f"/v1/jobs/{job.id}", FIRST_LOOK, (-1, -1)
    while not job.is_over:
        if progress is not None and job.total is not None and (job.done, job.total) != shown:
            shown = (job.done, job.total)
            progress(job.done, job.total)
        if should_stop is not None and should_stop():
            should_stop = None
            yield Call("DELETE", path, _read_job)
        yield Pause(pause)
        pause = min(pause * 1.5, LATER_LOOK)
        job = yield Call("GET", path, _read_job)
    if job.report is None:
        raise LibraryError(job.error or "The job failed on the server. Its log has the details.")
    if progress is not None and job.total is not None and (job.done, job.total) != shown:
        progress(job.done, job.total)
    return job.report


class _Job:
    """What a server says of a job. Raises ValueError for anything else."""

    def __init__(self, value: object) -> None:
        from indexer.report import IndexReport

        found = Fields(value)
        self.id = found.text("id")
        if not self.id.isalnum():  # it becomes a part of a path
            raise ValueError("the id of the job is none")
        state = found.text("state")
        self.is_over = state in ("done", "cancelled", "failed")
        self.done, self.total = found.whole("done"), found.whole_or_none("total")
        self.error = found.text_or_none("error")
        self.report: IndexReport | None = None
        if self.is_over and not found.is_null("report"):
            said = found.object("report")
            self.report = IndexReport(
                failed=[(each.text("path"), each.text("reason")) for each in said.objects("failed")],
                offline=list(said.texts("offline")),
                interrupted=state == "cancelled",
                seconds=said.number("seconds"),
            )
            if "notes" in said:  # servers of earlier versions do not say these
                self.report.notes = [(each.text("path"), each.text("note")) for each in said.objects("notes")]
                passed_over = said.object("passed_over")
                self.report.passed_over = {name: passed_over.whole(name) for name in said.mapping("passed_over")}
                self.report.beside, self.report.live_photos = said.whole("beside"), said.whole("live_photos")
            for name in ("added", "changed", "moved", "removed", "unchanged", "encoded", "read", "with_text"):
                setattr(self.report, name, said.whole(name))


def _read_job(value: object) -> _Job:
    return _Job(value)


def _add(part: list[dict[str, Any]], keep: str | None) -> Steps[AddReport]:
    """Add records by one request; where the server takes it not as a whole, by one for each."""
    try:
        report: AddReport = yield _add_call(part, keep)
        return report
    except InvalidInputError as error:
        if len(part) == 1:
            return AddReport(failed=((part[0]["id"], str(error)),))
    report = AddReport()
    for each in part:
        report = _sum(report, (yield from _add([each], keep)))
    return report


def _add_call(part: list[dict[str, Any]], keep: str | None) -> Call[AddReport]:
    return Call("POST", "/v1/records", _read_added, {"records": part, "keep": keep}, is_repeatable=False)


def _read_added(value: object) -> AddReport:
    found = Fields(value)
    failed = tuple((each.text("id"), each.text("reason")) for each in found.objects("failed"))
    return AddReport(found.whole("added"), found.whole("replaced"), found.whole("unchanged"), failed)


def _sum(first: AddReport, second: AddReport) -> AddReport:
    return AddReport(
        first.added + second.added,
        first.replaced + second.replaced,
        first.unchanged + second.unchanged,
        (*first.failed, *second.failed),
    )


def _batches(
    records: Iterable[Record | Mapping[str, object]], most: int, failed: list[tuple[str, str]]
) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """Yield how many records were taken, and those of them that can be sent; the others go to `failed`."""
    part: list[dict[str, Any]] = []
    taken = size = 0
    for record in records:
        taken += 1
        try:
            form = _to_form(record)
            length = len(encode(form))
        except (InvalidInputError, MediaError) as error:
            failed.append((name_of(record), str(error)))
            continue
        except Exception as error:  # of an object of the caller's own
            failed.append((name_of(record), f"it cannot be read: {type(error).__name__}"))
            continue
        if part and (len(part) >= most or size + length > BATCH_BYTES):
            yield taken - 1, part
            part, taken, size = [], 1, 0
        part.append(form)
        size += length
    if taken:
        yield taken, part


def _to_form(given: Record | Mapping[str, object]) -> dict[str, Any]:
    """Return a record as a request has it, with its picture read. Raises InvalidInputError or MediaError."""
    record = as_record(given)
    if not isinstance(record.id, str) or not record.id:
        raise InvalidInputError(f"the id is {record.id!r:.80}, but must be a text that is not empty")
    form: dict[str, Any] = {"id": record.id, "text": record.text, "caption": record.caption}
    if record.image is not None:
        form["image"] = data_url(read_picture_file(record.image))
    if record.metadata is not None:
        form["metadata"] = parse_metadata(check_metadata(record.metadata))
    if record.vector is not None:
        form["vector"] = as_floats(record.vector).tolist()
    if record.modality is not None:
        form["modality"] = str(record.modality)
    return {name: value for name, value in form.items() if value is not None}


def _short_parts(keys: Iterable[str]) -> Iterator[list[str]]:
    """Cut keys into lists that an address has room for. Raises InvalidInputError for one that it cannot have."""
    part: list[str] = []
    size = 0
    for key in keys:
        try:
            length = len(quote(key, safe=""))
        except UnicodeEncodeError:
            raise InvalidInputError(f"The key {key!r:.200} is not UTF-8. Delete it by its id, with filters.") from None
        if part and (len(part) == MAX_KEYS or size + length > MAX_LENGTH):
            yield part
            part, size = [], 0
        part.append(key)
        size += length
    if part:
        yield part
