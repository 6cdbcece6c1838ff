"""What Prometheus is told about requests."""

from __future__ import annotations

import time
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

STARTED: Final = "roehub.started"
UNANSWERED: Final = 499
"""Counted where the client had gone before there was an answer; no client ever sees it."""
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60)
_METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})


class HttpMetrics:
    """Requests by route template, never by path: there are as many series as routes."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "roehub_http_requests",
            "Requests answered.",
            ["method", "route", "status"],
            registry=registry,
        )
        self.seconds = Histogram(
            "roehub_http_request_seconds",
            "Seconds from a request to the end of its answer.",
            ["method", "route"],
            registry=registry,
            buckets=_SECONDS,
        )
        self.active = Gauge(
            "roehub_http_requests_active", "Requests being answered.", registry=registry
        )


class Measured:
    """Notes when a request began, and what came of it."""

    def __init__(self, app: ASGIApp, metrics: HttpMetrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = scope[STARTED] = time.monotonic()
        status = UNANSWERED

        async def passed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self.metrics.active.inc()
        try:
            await self.app(scope, receive, passed)
        except Exception:
            status = 500
            raise
        finally:
            self.metrics.active.dec()
            method = scope["method"] if scope["method"] in _METHODS else "other"
            route = getattr(scope.get("route"), "path", "unmatched")
            self.metrics.requests.labels(method, route, str(status)).inc()
            self.metrics.seconds.labels(method, route).observe(time.monotonic() - began)


def started(scope: Scope) -> float:
    """When a request began, on the monotonic clock."""
    return scope.get(STARTED) or time.monotonic()
