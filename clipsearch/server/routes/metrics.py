"""The route of metrics."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from clipsearch.server.metrics import CONTENT_TYPE, Metrics

router = APIRouter(tags=["metrics"])

_TEXT: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "The text format of Prometheus."}
}


@router.get("/metrics", response_class=Response, responses=_TEXT)
async def show_metrics(request: Request) -> Response:
    """Count requests, how long they took, batches and items, as Prometheus reads it."""
    metrics: Metrics = request.app.state.metrics
    return Response(await metrics.render(), media_type=CONTENT_TYPE)
