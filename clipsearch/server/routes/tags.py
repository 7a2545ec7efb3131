"""The route of tags."""

from __future__ import annotations

from fastapi import APIRouter, Depends

from clipsearch.server import changes
from clipsearch.server.access import require_write
from clipsearch.server.forms_records import Changed
from clipsearch.server.forms_selections import TagsRequest
from clipsearch.server.routes.records import LOCKED, TheWrites, require_idle
from clipsearch.server.service import TheService

router = APIRouter(tags=["items"], dependencies=[Depends(require_write), Depends(require_idle)], responses=LOCKED)


@router.post("/tags")
async def change_tags(asked: TagsRequest, service: TheService, writes: TheWrites) -> Changed:
    """Add tags to items, and remove tags from them; all of the items or none. Files are not touched."""
    return Changed(items=await writes.run(changes.tag_items, service.engine, asked))
