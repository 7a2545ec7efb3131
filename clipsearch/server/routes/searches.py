"""Routes of saved searches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Path, Response
from starlette.exceptions import HTTPException

from clipsearch.saved_searches import SavedSearch
from clipsearch.server import payloads
from clipsearch.server.access import require_write
from clipsearch.server.forms_searches import NewSearch, SavedRun, SavedSearchAnswer, SavedSearchView, SeenMark
from clipsearch.server.problems import Problem
from clipsearch.server.routes.records import LOCKED, TheWrites, require_idle
from clipsearch.server.routes.search import read_search
from clipsearch.server.service import TheService
from clipsearch.store.searches import UnknownSearchError
from clipsearch.words import MAX_NAME

router = APIRouter(tags=["searches"])

_UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"model": Problem, "description": "There is no such saved search."}}
_WRITING: dict[str, Any] = {"dependencies": [Depends(require_write), Depends(require_idle)]}
Name = Annotated[str, Path(min_length=1, max_length=MAX_NAME, description="The name of a saved search.")]


@router.get("/searches")
async def list_searches(service: TheService) -> list[SavedSearchView]:
    """List the saved searches in order of their names."""
    return [_view(each) for each in await service.run(service.engine.saved_searches)]


@router.put("/searches/{name:path}", responses=LOCKED | _UNKNOWN, **_WRITING)
async def save_search(name: Name, asked: NewSearch, service: TheService, writes: TheWrites) -> SavedSearchView:
    """Save a search. One of that name is replaced."""
    query, options = await read_search(service, asked)
    shown = asked.shown or asked.image_url
    return _view(await writes.run(service.engine.save_search, name, query, shown=shown, **options))


@router.post("/searches/{name:path}/run", response_model=SavedSearchAnswer, responses=_UNKNOWN)
async def run_search(name: Name, service: TheService, asked: Annotated[SavedRun | None, Body()] = None) -> Response:
    """Run a saved search. What is new stays new until its `mark` is sent to `/seen`."""
    how = asked or SavedRun()
    with _known():
        found = await service.run(service.engine.run_search, name, new=how.new, k=how.k, offset=how.offset)
    about = {"k": found.k, "offset": found.results.offset, "mark": found.mark}
    return payloads.json_response({**payloads.answer(found.results, found.k, whole=how.whole), **about})


@router.post("/searches/{name:path}/seen", status_code=204, responses=LOCKED | _UNKNOWN, **_WRITING)
async def remember_search(name: Name, asked: SeenMark, service: TheService, writes: TheWrites) -> Response:
    """Let the matches of an answer count as seen: they are not new from then on."""
    with _known():
        await writes.run(service.engine.remember_search, name, asked.mark)
    return Response(status_code=204)


@router.delete("/searches/{name:path}", status_code=204, responses=LOCKED | _UNKNOWN, **_WRITING)
async def delete_search(name: Name, service: TheService, writes: TheWrites) -> Response:
    """Delete a saved search; what it finds stays."""
    with _known():
        await writes.run(service.engine.delete_search, name)
    return Response(status_code=204)


@contextmanager
def _known() -> Iterator[None]:
    """Answer 404 for an unknown search."""
    try:
        yield
    except UnknownSearchError as error:
        raise HTTPException(404, f"{str(error).partition('. ')[0]}. GET /v1/searches lists them.") from error


def _view(found: SavedSearch) -> SavedSearchView:
    return SavedSearchView(name=found.name, query=found.query, options=dict(found.options), saved_at=found.saved_at)
