"""A search service, by words or by a picture. Needs fastapi and uvicorn: python fastapi_service.py ~/Pictures."""

import sys
from typing import Annotated

import uvicorn
from fastapi import Body, FastAPI, Query, Response
from fastapi.responses import JSONResponse

import clipsearch
from clipsearch.present import to_payload

Count = Annotated[int, Query(ge=1, le=100)]


def create_app(engine: clipsearch.SearchEngine) -> FastAPI:
    """Serve the library of an engine; http://127.0.0.1:8000/docs describes the service."""
    app = FastAPI(title="clipsearch")
    app.add_exception_handler(clipsearch.ClipSearchError, lambda _, error: JSONResponse({"detail": str(error)}, 422))

    @app.get("/search")
    def search(text: str, k: Count = 10, offset: Annotated[int, Query(ge=0)] = 0) -> dict:
        return to_payload(engine.search(text, k=k, offset=offset))

    @app.post("/search")
    def search_by_picture(picture: Annotated[bytes, Body(media_type="image/jpeg")], k: Count = 10) -> dict:
        return to_payload(engine.search(image=picture, k=k))

    @app.get("/thumbnail")
    def thumbnail(key: str, side: int = 256) -> Response:
        return Response(engine.thumbnail(key, side=side), media_type="image/jpeg")

    return app


if __name__ == "__main__":
    with clipsearch.open(f"{sys.argv[1]}/.clipsearch", create=True) as engine:
        engine.index([sys.argv[1]])
        uvicorn.run(create_app(engine))
