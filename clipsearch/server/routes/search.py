"""Ranked search: by words, terms, items, vectors and pictures."""

from __future__ import annotations

import functools
import operator
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, File, Form, Query, Response, UploadFile
from pydantic import Json

from clipsearch.errors import InvalidInputError
from clipsearch.forms import Words
from clipsearch.paths import is_url
from clipsearch.query import parser, terms
from clipsearch.server import answers, forms, payloads, pictures
from clipsearch.server.service import Service, TheService

if TYPE_CHECKING:
    from PIL.Image import Image

router = APIRouter(tags=["search"])

_UPLOADED = terms.Picture("upload")
"""Stands in a query for the picture that is sent."""


class SearchQuery(forms.QueryFilters):
    """A search by words in a query string."""

    q: Annotated[Words, Query(description="What to look for, in plain words.", examples=["a cat on a sofa"])]
    k: forms.Count = 10
    offset: forms.Offset = 0
    modality: forms.Kind = "any"
    min_confidence: forms.Confidence = None
    suggest: forms.Suggest = False


@router.get("/search", response_model=answers.Answer)
async def search_words(service: TheService, asked: Annotated[SearchQuery, Query()]) -> Response:
    """Find the pictures and texts that match some words."""
    options = {"k": asked.k, "offset": asked.offset, "modality": asked.modality}
    more = {"filters": asked.build(), "min_confidence": asked.min_confidence, "suggest": asked.suggest}
    found = await service.search(asked.q, **options, **more)
    return payloads.json_response(payloads.answer(found, asked.k))


@router.post("/search", response_model=answers.Answer)
async def search(service: TheService, asked: forms.Search) -> Response:
    """Find the pictures and texts that match a query of one kind."""
    query, options = await read_search(service, asked)
    found = await service.search(query, **options)
    return payloads.json_response(payloads.answer(found, asked.k, whole=asked.whole, group=asked.group))


async def read_search(service: Service, asked: forms.Search) -> tuple[Any, dict[str, Any]]:
    """Return the query of a request, and its options by keyword. Raises InvalidInputError, MediaError."""
    options = asked.keywords()
    query: Any = asked.text
    if asked.text is not None:
        options |= {"hybrid": asked.hybrid, "understand": asked.understand}
    elif asked.query is not None:
        query = _read_query(asked.query, service.settings.allow_urls)
    elif asked.id is not None:
        query = terms.Indexed(asked.id)
    elif asked.key is not None:
        query = terms.Indexed(await service.run(_id_of, service, asked.key))
    elif asked.vector is not None:
        options |= {"vector": asked.vector, "kind": asked.kind}
    else:
        options["image"] = await service.run_upload(
            pictures.open_given, service, _allowed_url(service, asked.image_url), options.pop("crop")
        )
    return query, options


@router.post("/search/image", response_model=answers.Answer)
async def search_picture(
    service: TheService,
    image: Annotated[UploadFile, File(description="A picture file.")],
    options: Annotated[
        Json[forms.Options] | None,
        Form(description="Options of the search, as JSON.", examples=['{"k": 5}']),
    ] = None,
    query: Annotated[
        Words | None,
        Form(
            description="Terms with weights, in which `image:upload` stands for the picture.",
            examples=['image:upload + 2:"at night"'],
        ),
    ] = None,
) -> Response:
    """Find what looks like a picture that is sent along, as multipart/form-data, or matches terms with it."""
    asked = options or forms.Options()
    wanted = None if query is None else _read_query(query, service.settings.allow_urls, has_upload=True)
    chosen = asked.keywords()
    crop = chosen.pop("crop") if wanted is None else None
    picture = await service.run_upload(pictures.open_given, service, await image.read(), crop)
    if wanted is None:
        found = await service.search(image=picture, **chosen)
    else:
        found = await service.search(_with_upload(wanted, picture), **chosen)
    return payloads.json_response(payloads.answer(found, asked.k, whole=asked.whole, group=asked.group))


@router.post("/understand", response_model=answers.Understood)
async def understand(service: TheService, asked: forms.Understand) -> Response:
    """Lift what is certainly a filter out of the words of a query: dates, places, people and tags, cameras."""
    found = await service.run(service.engine.understand, asked.text)
    return payloads.json_response(found.to_values())


@router.post("/similar", response_model=answers.Answer)
async def similar(service: TheService, asked: forms.Similar) -> Response:
    """Find more like one or several items, and less like others; they are left out themselves."""
    liked = functools.reduce(operator.add, map(terms.Indexed, asked.ids))
    query = functools.reduce(operator.sub, map(terms.Indexed, asked.unlike), liked)
    found = await service.search(query, **asked.keywords())
    return payloads.json_response(payloads.answer(found, asked.k, whole=asked.whole, group=asked.group))


def _read_query(written: str, allow_urls: bool, *, has_upload: bool = False) -> terms.Query:
    """Read a query; it names no path of the server. Raises QuerySyntaxError or InvalidInputError.

    has_upload: a term, and at least one, stands for the picture that was sent.
    """
    query = parser.parse(written)
    if has_upload and all(term != _UPLOADED for term in query.leaves()):
        raise InvalidInputError(
            "No term of the query stands for the picture that was sent. Write image:upload, or no query."
        )
    for term in query.leaves():
        if has_upload and term == _UPLOADED:
            continue
        if isinstance(term, terms.Picture) and not (allow_urls and _is_web(term.source)):
            raise InvalidInputError(
                f"{term} names a picture by its path or URL, which this server does not read. Send the picture "
                'itself, or name an item, such as id:17. For words that look like a path, write text:"...".'
            )
    return query


def _with_upload(query: terms.Query, picture: Image) -> terms.Query:
    """Put the picture that was sent where terms stand for it."""
    sent = terms.Picture(_UPLOADED.source, picture)
    return query.replace_leaves(lambda term: sent if term == _UPLOADED else term)


def _allowed_url(service: Service, url: str | None) -> str:
    if not service.settings.allow_urls:
        raise InvalidInputError("This server fetches no URLs. Send the picture itself, to /v1/search/image.")
    if url is None or not _is_web(url):
        raise InvalidInputError("A picture is fetched by http or https only.")
    return url


def _is_web(source: str) -> bool:
    return is_url(source) and source.lower().startswith(("http://", "https://"))


def _id_of(service: Service, key: str) -> int:
    item = service.engine.get(key)
    if item is None:
        raise InvalidInputError(f"No item has the key {key!r}. Take keys from hits.")
    return item.id
