"""The originals of a picture that is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, File, Form, Response, UploadFile
from pydantic import Json

from clipsearch.matches import Matches
from clipsearch.media.local_features import SIDE, require_opencv
from clipsearch.server import answers, forms, payloads, pictures
from clipsearch.server.service import Service, TheService

if TYPE_CHECKING:
    from PIL.Image import Image

router = APIRouter(tags=["search"])


@router.post("/match", response_model=answers.Matches)
async def match(
    service: TheService,
    image: Annotated[UploadFile, File(description="A picture file: a crop, a screenshot, an edited copy.")],
    options: Annotated[
        Json[forms.MatchOptions] | None,
        Form(description="Options, as JSON.", examples=['{"k": 3}']),
    ] = None,
) -> Response:
    """Find the pictures that a picture was made from, which is sent along as multipart/form-data."""
    asked = options or forms.MatchOptions()
    picture = await service.run_upload(_open, service, await image.read(), asked)
    found = await service.run_match(_match, service, picture, asked)
    return payloads.json_response(payloads.matches(found, whole=asked.whole))


def _open(service: Service, data: bytes, asked: forms.MatchOptions) -> Image:
    """Decode the picture within the limits of the server. It blocks."""
    require_opencv()
    return pictures.open_given(service, data, asked.crop, SIDE)


def _match(service: Service, picture: Image, asked: forms.MatchOptions) -> Matches:
    """Compare the picture. It blocks."""
    filters = None if asked.filters is None else asked.filters.build()
    return service.engine.match(picture, k=asked.k, filters=filters)
