"""The route of embeddings, which clients of OpenAI's API can use."""

from __future__ import annotations

from fastapi import APIRouter, Response
from starlette.exceptions import HTTPException

from clipsearch.server.embeddings import UnknownModelError, embed
from clipsearch.server.forms_embeddings import Embeddings, EmbeddingsRequest
from clipsearch.server.problems import Problem
from clipsearch.server.service import TheService

router = APIRouter(tags=["embeddings"])


@router.post(
    "/embeddings",
    response_model=Embeddings,
    responses={404: {"model": Problem, "description": "The library has no such model."}},
)
async def create_embeddings(asked: EmbeddingsRequest, service: TheService) -> Response:
    """Embed texts and pictures with the encoder of the library, as OpenAI's API does; nothing is stored."""
    try:
        body = await service.run_upload(embed, service, asked)
    except UnknownModelError as error:
        raise HTTPException(404, str(error)) from error
    return Response(body, media_type="application/json")
