"""The OpenAPI document: what FastAPI makes of the routes, with the problems that any of them may answer."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from clipsearch.server.access import OPEN
from clipsearch.server.problems import COMMON, MEDIA_TYPE, Problem

_REF = {"$ref": "#/components/schemas/Problem"}


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
        made["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        for path, operations in made["paths"].items():
            for operation in operations.values():
                _complete(operation, is_open=path in OPEN)
        app.openapi_schema = made
    return app.openapi_schema


def _complete(operation: dict[str, Any], *, is_open: bool) -> None:
    """Document what every operation may answer, all as problems."""
    responses = operation["responses"]
    for status, description in COMMON.items():
        responses.setdefault(str(status), {"description": description})
    for status, response in responses.items():
        if status[0] in "45":
            response["content"] = {MEDIA_TYPE: {"schema": _REF}}
    operation["security"] = [] if is_open else [{"token": []}, {}]
