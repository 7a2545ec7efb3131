"""What a server counts, in a registry of its own, as Prometheus reads it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clipsearch.errors import ClipSearchError
from clipsearch.filtering import Filter
from clipsearch.server.access import is_page
from clipsearch.server.jobs import Jobs
from clipsearch.server.service import Service
from clipsearch.types import Modality

CONTENT_TYPE = CONTENT_TYPE_LATEST

ITEMS_SECONDS = 10.0
"""Seconds for which the number of items is taken from memory."""

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Metrics:
    """The counts of one application. Labels are names of routes, never what a client sent."""

    def __init__(self, service: Service, jobs: Jobs, prefix: str) -> None:
        """Count for a service. prefix: of the paths of all routes."""
        self._service = service
        self._prefix = prefix
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "clipsearch_requests",
            "Requests that were answered.",
            ("method", "route", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "clipsearch_request_seconds",
            "Seconds until the answer began.",
            ("route",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._now = _Now(service, jobs)
        self._registry.register(self._now)
        ProcessCollector(registry=self._registry)
        self._counting = asyncio.Lock()
        self._counted = float("-inf")

    async def render(self) -> bytes:
        """Return all counts as text. The items are counted a few times a minute at most, the rest is in memory."""
        async with self._counting:
            if time.monotonic() - self._counted > ITEMS_SECONDS:
                # Not in the queue of the service: what it counts is asked for when that is full.
                self._now.items = await asyncio.to_thread(self._count_items)
                self._counted = time.monotonic()
        return generate_latest(self._registry)

    def count(self, scope: Scope, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        method = scope["method"] if scope["method"] in _METHODS else "other"
        path = getattr(scope.get("route"), "path", None)
        # Of a router that an application includes, FastAPI gives the path with the prefix or without, by its version.
        inner = None if path is None else path.removeprefix(self._prefix)
        route = "none" if inner is None else inner if is_page(inner) else self._prefix + inner
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def _count_items(self) -> dict[str, int]:
        """Count the items by what they are; those that cannot be counted are left out."""
        try:
            self._service.require_library()
            return {str(each): self._service.engine.count(Filter(types=(str(each),))) for each in Modality}
        except ClipSearchError:
            return {}


class _Now(Collector):
    """What is read when it is asked for."""

    def __init__(self, service: Service, jobs: Jobs) -> None:
        self.items: dict[str, int] = {}
        self._service = service
        self._jobs = jobs

    def collect(self) -> Iterator[Metric]:
        pending = GaugeMetricFamily("clipsearch_pending_requests", "Requests at work or waiting.")
        pending.add_metric([], self._service.pending)
        yield pending
        running = GaugeMetricFamily("clipsearch_jobs_running", "Jobs that are running: 0 or 1.")
        running.add_metric([], int(self._jobs.running is not None))
        yield running
        items = GaugeMetricFamily("clipsearch_items", "Items of the library.", labels=["modality"])
        for modality, count in self.items.items():
            items.add_metric([modality], count)
        yield items
        sizes = self._service.engine.batch_sizes
        batches = HistogramMetricFamily("clipsearch_search_batch_size", "Searches that were answered together.")
        buckets = [(str(float(most)), sum(n for size, n in sizes.items() if size <= most)) for most in _SIZES]
        total = sum(size * count for size, count in sizes.items())
        batches.add_metric([], [*buckets, ("+Inf", sum(sizes.values()))], total)
        yield batches


class CountRequests:
    """ASGI middleware that counts each request, and how long its answer took to begin."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        start = time.perf_counter()
        is_answered = False

        async def count_and_send(message: Message) -> None:
            nonlocal is_answered
            if message["type"] == "http.response.start":
                is_answered = True
                self._metrics.count(scope, message["status"], time.perf_counter() - start)
            await send(message)

        try:
            await self._app(scope, receive, count_and_send)
        except Exception:
            if not is_answered:
                self._metrics.count(scope, 500, time.perf_counter() - start)
            raise
