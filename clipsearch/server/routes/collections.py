"""Routes of collections: named sets of items."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Path, Response
from starlette.exceptions import HTTPException

from clipsearch.server.access import require_write
from clipsearch.server.forms_selections import CollectionChange, CollectionView, NewCollection, NewName
from clipsearch.server.problems import Problem
from clipsearch.server.routes.records import LOCKED, TheWrites, require_idle
from clipsearch.server.service import TheService
from clipsearch.store.collections import UnknownCollectionError
from clipsearch.types import Collection
from clipsearch.words import MAX_NAME

router = APIRouter(tags=["collections"])

_UNKNOWN: dict[int | str, dict[str, Any]] = {
    404: {"model": Problem, "description": "There is no such collection, and none whose name has a line break."}
}
_WRITING: dict[str, Any] = {"dependencies": [Depends(require_write), Depends(require_idle)]}
Name = Annotated[str, Path(min_length=1, max_length=MAX_NAME, description="The name of a collection.")]


@router.get("/collections")
async def list_collections(service: TheService) -> list[CollectionView]:
    """List the collections in order of their names. Filters with `collections` list what is in one."""
    return [_view(each) for each in await service.run(service.engine.collections)]


@router.put("/collections/{name:path}", responses=LOCKED | _UNKNOWN, **_WRITING)
async def make_collection(
    name: Name, service: TheService, writes: TheWrites, asked: Annotated[NewCollection | None, Body()] = None
) -> CollectionView:
    """Make a collection of items. If there is one of that name, the items are added to it."""
    return _view(await writes.run(service.engine.collect, name, add=asked.ids if asked else ()))


@router.post("/collections/{name:path}", responses=LOCKED | _UNKNOWN, **_WRITING)
async def change_collection(
    name: Name, asked: CollectionChange, service: TheService, writes: TheWrites
) -> CollectionView:
    """Add items to a collection, and take others out of it; all of the items or none."""
    with _known():
        found = await writes.run(service.engine.collect, name, add=asked.add, remove=asked.remove, create=False)
    return _view(found)


@router.patch("/collections/{name:path}", responses=LOCKED | _UNKNOWN, **_WRITING)
async def rename_collection(name: Name, asked: NewName, service: TheService, writes: TheWrites) -> CollectionView:
    """Give a collection another name, which no other may have."""
    with _known():
        return _view(await writes.run(service.engine.rename_collection, name, asked.name))


@router.delete("/collections/{name:path}", status_code=204, responses=LOCKED | _UNKNOWN, **_WRITING)
async def delete_collection(name: Name, service: TheService, writes: TheWrites) -> Response:
    """Delete a collection; its items stay in the library."""
    with _known():
        await writes.run(service.engine.delete_collection, name)
    return Response(status_code=204)


@contextmanager
def _known() -> Iterator[None]:
    """Answer 404 for an unknown collection."""
    try:
        yield
    except UnknownCollectionError as error:
        raise HTTPException(404, f"{str(error).partition('. ')[0]}. GET /v1/collections lists them.") from error


def _view(found: Collection) -> CollectionView:
    return CollectionView(name=found.name, count=found.count, cover=found.cover)
