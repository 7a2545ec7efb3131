"""The library as a whole: counts, and whether the server works."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from starlette.exceptions import HTTPException

import clipsearch
from clipsearch.errors import ClipSearchError
from clipsearch.filtering import Filter
from clipsearch.server import answers, forms, payloads
from clipsearch.server.service import ReplacedError, Service, TheService

router = APIRouter(tags=["library"])


class FacetsQuery(forms.QueryFilters):
    """Which items to count, in a query string."""

    limit: forms.Count = 100


@router.get("/facets", response_model=answers.Facets)
async def facets(service: TheService, asked: Annotated[FacetsQuery, Query()]) -> Response:
    """Count items by month, camera, folder, tag and kind."""
    found = await service.run(service.engine.facets, asked.build(), limit=asked.limit)
    return payloads.json_response(payloads.facets(found))


@router.post("/facets", response_model=answers.Facets)
async def facets_of(service: TheService, asked: forms.FacetsOf) -> Response:
    """Count the items that filters allow, which may be combined."""
    filters = None if asked.filters is None else asked.filters.build()
    found = await service.run(service.engine.facets, filters, limit=asked.limit)
    return payloads.json_response(payloads.facets(found))


@router.post("/places", response_model=answers.Places)
async def places(service: TheService, asked: forms.PlacesOf) -> Response:
    """Put the places of the items that filters allow together into clusters, for a map."""
    filters = None if asked.filters is None else asked.filters.build()
    found = await service.run(service.engine.places, filters, cells=asked.cells)
    return payloads.json_response(payloads.places(found))


@router.get("/stats", response_model=answers.Stats)
async def stats(service: TheService) -> Response:
    """Say what the library holds, and which encoder compares it."""
    return payloads.json_response(await service.run(_stats, service))


@router.get("/health", response_model=answers.State)
async def health() -> Response:
    """Say that the server is alive. It needs no token."""
    return payloads.json_response({"status": "alive"})


@router.get("/ready", response_model=answers.State, responses={503: {"description": "The library cannot be read."}})
async def ready(service: TheService) -> Response:
    """Say whether the library can be read. It needs no token."""
    try:
        await service.run(_stats, service)
    except ReplacedError:
        raise
    except ClipSearchError as error:
        raise HTTPException(503, "The library cannot be read now.") from error
    return payloads.json_response({"status": "ready"})


def _stats(service: Service) -> dict[str, Any]:
    engine = service.engine
    pin = engine.library.encoder
    pictures, texts = engine.count(Filter(types=("image",))), engine.count(Filter(types=("text",)))
    held = {"items": pictures + texts, "pictures": pictures, "texts": texts}
    model = {"encoder": pin and pin.name, "dimensions": pin and pin.dim}
    allowed = {"writable": service.settings.allow_write, "version": clipsearch.__version__}
    return {"library": str(engine.library.folder), **held, **model, **allowed}
