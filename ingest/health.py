"""GET /metrics, /health and /ready of a process, over a small HTTP server of its own."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, Self

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from compute.errors import InvalidInput

REQUEST_BYTES: Final = 8192
REQUEST_S: Final = 5.0
CHECK_S: Final = 2.0
CONNECTIONS: Final = 64

Check = Callable[[], Awaitable[str | None]]
"""What keeps a part from working, in words; None when nothing does."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, type and body of a response."""

    status: str
    content_type: str
    body: bytes


class HealthServer:
    """Answers while the block lasts; `port` is the real one, also where 0 was asked for.

    `/health` says that the process and its event loop live. `/ready` runs the checks, each for
    `check_s` at most, and is 503 with the reasons when one fails. `refresh` runs before metrics
    are written: gauges that depend on the time are set there.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        checks: Mapping[str, Check],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        refresh: Callable[[], None] = lambda: None,
        check_s: float = CHECK_S,
    ) -> None:
        self._registry = registry
        self._checks = dict(checks)
        self._host = host
        self._refresh = refresh
        self._check_s = check_s
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self.port = port

    async def __aenter__(self) -> Self:
        try:
            self._server = await asyncio.start_server(
                self._serve, self._host, self.port, limit=REQUEST_BYTES
            )
        except OSError as error:
            raise InvalidInput(
                f"metrics cannot be served on {self._host}:{self.port}: {error.strerror}; "
                f"name another port with --metrics-port"
            ) from error
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
            for writer in list(self._open):  # from 3.12 on, the wait would be for their clients
                writer.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._open) >= CONNECTIONS:
            writer.close()
            return
        self._open.add(writer)
        try:
            async with asyncio.timeout(REQUEST_S):
                head = await reader.readuntil(b"\r\n\r\n")
            method, _, rest = head.split(b"\r\n", 1)[0].decode("latin-1").partition(" ")
            answer = await self.answer(method, rest.split(" ", 1)[0].split("?", 1)[0])
            lines = (
                f"HTTP/1.1 {answer.status}\r\nContent-Type: {answer.content_type}\r\n"
                f"Content-Length: {len(answer.body)}\r\nCache-Control: no-store\r\n"
                f"Connection: close\r\n\r\n"
            )
            writer.write(lines.encode("latin-1") + (b"" if method == "HEAD" else answer.body))
            async with asyncio.timeout(REQUEST_S):
                await writer.drain()
        except (
            asyncio.IncompleteReadError,
            asyncio.LimitOverrunError,
            TimeoutError,
            ConnectionError,
        ):
            pass  # a client that went away or sent no request
        finally:
            self._open.discard(writer)
            writer.close()

    async def answer(self, method: str, path: str) -> Answer:
        """The response to a request."""
        if path not in ("/metrics", "/health", "/ready"):
            return _text("404 Not Found", "there are /metrics, /health and /ready\n")
        if method not in ("GET", "HEAD"):
            return _text("405 Method Not Allowed", "only GET and HEAD are answered\n")
        if path == "/health":
            return _json("200 OK", {"status": "ok"})
        if path == "/ready":
            return await self._ready()
        try:
            self._refresh()
        except Exception:
            log.exception("gauges could not be refreshed")
        return Answer("200 OK", CONTENT_TYPE_LATEST, generate_latest(self._registry))

    async def _ready(self) -> Answer:
        names = list(self._checks)
        reasons = await asyncio.gather(*(self._checked(self._checks[name]) for name in names))
        ready = not any(reasons)
        body = {
            "status": "ready" if ready else "not ready",
            "checks": {name: reason or "ok" for name, reason in zip(names, reasons, strict=True)},
        }
        return _json("200 OK" if ready else "503 Service Unavailable", body)

    async def _checked(self, check: Check) -> str | None:
        try:
            async with asyncio.timeout(self._check_s):
                return await check()
        except TimeoutError:
            return f"no answer within {self._check_s:g} s"
        except Exception as error:
            return str(error) or type(error).__name__


def _text(status: str, text: str) -> Answer:
    return Answer(status, "text/plain; charset=utf-8", text.encode())


def _json(status: str, body: object) -> Answer:
    return Answer(status, "application/json", json.dumps(body).encode() + b"\n")
