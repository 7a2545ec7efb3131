"""The OpenAPI document: what FastAPI makes of the routes, with examples, and the problems that each may answer."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from clipsearch.server.access import OPEN
from clipsearch.server.examples import ANSWERS, PARAMETERS
from clipsearch.server.problems import MEDIA_TYPE, REASONS, Problem

_REF = {"$ref": "#/components/schemas/Problem"}

_OWN_WORK = frozenset({"jobs", "metrics", "session"})
"""Tags of routes that do not wait for the library; what else they answer, they say themselves."""

_ENCODING = frozenset({"embeddings", "records", "search", "searches"})
"""Tags of routes that need the encoder of the library."""


def describe(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document of an application; it is made once."""
    if app.openapi_schema is None:
        made = get_openapi(title=app.title, version=app.version, routes=app.routes, description=app.description)
        schemas = made.setdefault("components", {}).setdefault("schemas", {})
        problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas |= problem.pop("$defs", {})
        schemas["Problem"] = problem
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        for name, example in ANSWERS.items():
            schemas[name]["examples"] = [example]
        made["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        for path, operations in made["paths"].items():
            for operation in operations.values():
                _complete(path, operation)
        app.openapi_schema = made
    return app.openapi_schema


def _complete(path: str, operation: dict[str, Any]) -> None:
    """Document the problems that an operation may answer, its examples, and whether it needs the token."""
    responses = operation["responses"]
    for status in _statuses(path, operation):
        responses.setdefault(str(status), {"description": REASONS[status]})
    for status, response in responses.items():
        if status[0] in "45":
            response["content"] = {MEDIA_TYPE: {"schema": _REF}}
    for parameter in operation.get("parameters", ()):
        if "examples" not in parameter["schema"] and parameter["name"] in PARAMETERS:
            parameter["example"] = PARAMETERS[parameter["name"]]
    operation["security"] = [] if path in OPEN else [{"token": []}, {}]


def _statuses(path: str, operation: dict[str, Any]) -> set[int]:
    """Return the statuses of problems that an operation may answer beside those that its route names."""
    tags, found = set(operation.get("tags", ())), {403, 500}
    if "requestBody" in operation:
        found |= {400, 408, 413, 422}
    if path not in OPEN:
        found |= {401, 429}
        if not tags & _OWN_WORK:
            found |= {503}
    if tags & _ENCODING:
        found |= {409}
    return found
