"""Routes that change what the library holds."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Depends, File, Form, Query, Request, UploadFile

from clipsearch.errors import InvalidInputError
from clipsearch.forms import MAX_KEYS, Key
from clipsearch.metadata import check_metadata
from clipsearch.records import Record
from clipsearch.server import changes, forms_records
from clipsearch.server.access import require_write
from clipsearch.server.problems import Problem
from clipsearch.server.routes.jobs import TheJobs
from clipsearch.server.service import TheService
from clipsearch.server.writes import Writes

LOCKED: dict[int | str, dict[str, Any]] = {
    403: {"model": Problem, "description": "The server only reads."},
    423: {"model": Problem, "description": "A job or another process is writing to the library."},
}


def require_idle(jobs: TheJobs) -> None:
    """Refuse a change while a job is running, at once: the job holds the library for as long as it takes."""
    jobs.require_idle()


def get_writes(request: Request) -> Writes:
    """Return the changes of the application of a request."""
    writes: Writes = request.app.state.writes
    return writes


TheWrites = Annotated[Writes, Depends(get_writes)]

router = APIRouter(tags=["records"], dependencies=[Depends(require_write), Depends(require_idle)], responses=LOCKED)


@router.post("/records")
async def add_records(
    asked: forms_records.RecordsRequest, service: TheService, writes: TheWrites
) -> forms_records.RecordsAdded:
    """Add records, or replace those of the same ids. One that cannot be used is in `failed`; the others are added."""
    return await writes.run(changes.add_records, service.engine, asked.records, asked.keep, service.settings)


@router.post("/records/image")
async def add_picture(
    service: TheService,
    writes: TheWrites,
    image: Annotated[UploadFile, File(description="The file of a picture.")],
    id: Annotated[forms_records.RecordId, Form()],
    caption: Annotated[forms_records.Caption | None, Form()] = None,
    metadata: Annotated[str | None, Form(max_length=1 << 20, description="A JSON object.")] = None,
    keep: Annotated[forms_records.FormKeep, Form()] = "thumbnail",
) -> forms_records.RecordsAdded:
    """Add a picture, or replace the record of the same id."""
    record = Record(id, await image.read(), caption=caption, metadata=_read_metadata(metadata))
    return await writes.run(
        changes.add_picture, service.engine, record, None if keep == "null" else keep, service.settings
    )


@router.patch("/records")
async def change_records(
    asked: forms_records.ChangeRequest, service: TheService, writes: TheWrites
) -> forms_records.Changed:
    """Change the metadata of items name by name, or their caption; all of the items or none."""
    return forms_records.Changed(items=await writes.run(changes.change_items, service.engine, asked))


@router.delete("/records")
async def delete_records(
    service: TheService,
    writes: TheWrites,
    key: Annotated[list[Key] | None, Query(max_length=MAX_KEYS, description="Keys of items.")] = None,
    id: Annotated[forms_records.Ids | None, Query(description="Ids of items.")] = None,
) -> forms_records.Changed:
    """Delete items by their keys or ids. Records are erased; files are hidden, and stay on the disk."""
    count = await writes.run(changes.delete_items, service.engine, key or (), id or ())
    return forms_records.Changed(items=count)


@router.post("/records/delete")
async def delete_matching(
    asked: forms_records.DeleteRequest, service: TheService, writes: TheWrites
) -> forms_records.Changed:
    """Delete the items that filters allow. Records are erased; files are hidden, and stay on the disk."""
    count = await writes.run(changes.delete_matching, service.engine, asked.filters.build())
    return forms_records.Changed(items=count)


def _read_metadata(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"metadata is not JSON: {error}. Send an object such as {{}}.") from error
    check_metadata(found)
    metadata: dict[str, Any] = found
    return metadata
