"""The ASGI application: routes, middleware, errors."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module

from fastapi import FastAPI

import clipsearch
from clipsearch.query.engine import SearchEngine
from clipsearch.server import problems
from clipsearch.server.access import Guard
from clipsearch.server.credentials import Credentials
from clipsearch.server.document import describe
from clipsearch.server.downloads import Downloads
from clipsearch.server.jobs import Jobs
from clipsearch.server.metrics import CountRequests, Metrics
from clipsearch.server.page_files import read_page_files
from clipsearch.server.routes import page
from clipsearch.server.service import Service
from clipsearch.server.settings import ServerSettings
from clipsearch.server.writes import Writes

PREFIX = "/v1"

ROUTES = (
    "collections",
    "downloads",
    "embeddings",
    "exports",
    "items",
    "jobs",
    "library",
    "lookup",
    "match",
    "metrics",
    "records",
    "search",
    "searches",
    "session",
    "shards",
    "tags",
)
"""Modules of `routes`, each with a `router`."""

_DESCRIPTION = """A library of pictures and texts over HTTP. Where the server has a token, each request must bring it as
`Authorization: Bearer TOKEN`, also the one for this document, but for `/v1/health`, `/v1/ready` and `/v1/session`; a
browser may bring the cookie of a session instead."""


def create_app(engine: SearchEngine, settings: ServerSettings | None = None) -> FastAPI:
    """Make an ASGI application that serves the library of an engine.

    Args:
        engine: It is shared by all requests; the caller closes it when the application has stopped.
        settings: None for the defaults: only this machine, only reading.

    Returns:
        The application; `app.state.service` is its Service.

    Raises:
        InvalidInputError: The settings let somebody in without a token.
    """
    chosen = settings or ServerSettings()
    chosen.check()
    service = Service(engine, chosen)
    jobs = Jobs(engine, chosen.index_folders, service.stopping)
    metrics = Metrics(service, jobs, PREFIX)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()
        jobs.close()

    app = FastAPI(
        title="clipsearch",
        description=_DESCRIPTION,
        version=clipsearch.__version__,
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    app.state.service, app.state.jobs, app.state.metrics = service, jobs, metrics
    app.state.writes, app.state.downloads = Writes(service), Downloads(service)
    app.state.credentials, app.state.page_files = Credentials(chosen), read_page_files()
    problems.install(app)
    for name in ROUTES:
        app.include_router(import_module(f"clipsearch.server.routes.{name}").router, prefix=PREFIX)
    app.include_router(page.router)
    app.openapi = functools.partial(describe, app)  # type: ignore[method-assign]
    app.add_middleware(Guard, settings=chosen, credentials=app.state.credentials)
    app.add_middleware(CountRequests, metrics=metrics)  # around the guard: what is refused counts too
    return app
