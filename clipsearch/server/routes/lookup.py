"""What programs look up: items and vectors by keys, and items page by page by any filters."""

from __future__ import annotations

from fastapi import APIRouter, Response

from clipsearch.server import answers, forms, payloads
from clipsearch.server.service import TheService

router = APIRouter(tags=["items"])


@router.post("/items/get", response_model=answers.Looked)
async def get_items(service: TheService, asked: forms.KeysOf) -> Response:
    """Look items up by their keys; of a record and a file that have the same, the record."""
    found = await service.run(service.engine.get, asked.keys)
    return payloads.json_response({"items": [each and payloads.item(each, whole=True) for each in found]})


@router.post("/items/page", response_model=answers.Page)
async def page_items(service: TheService, asked: forms.ItemsOf) -> Response:
    """List the items that filters allow in order of their ids, page by page."""
    filters = None if asked.filters is None else asked.filters.build()
    found = await service.run(service.engine.page, filters, cursor=asked.cursor, limit=asked.limit)
    return payloads.json_response(payloads.page(found, whole=asked.whole))


@router.post("/vectors", response_model=answers.Vectors)
async def get_vectors(service: TheService, asked: forms.VectorsOf) -> Response:
    """Return the stored vectors of items, by their keys."""
    found = await service.run(service.engine.vectors, asked.keys, modality=asked.modality)
    return payloads.json_response(payloads.vectors(found))
