"""/metrics, /health and /ready over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable

import httpx
import pytest
from prometheus_client import CollectorRegistry, Gauge

from compute.errors import InvalidInput
from ingest.health import HealthServer


def asked(server: HealthServer, *requests: tuple[str, str]) -> list[httpx.Response]:
    """Answers to (method, path), one after the other."""

    async def run() -> list[httpx.Response]:
        async with server, httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client:
            return [await client.request(method, path) for method, path in requests]

    return asyncio.run(run())


async def fine() -> str | None:
    return None


async def hanging() -> str | None:
    await asyncio.Event().wait()


async def down() -> str | None:
    return "the store is down"


async def broken() -> str | None:
    raise RuntimeError("no such thing")


def test_metrics_are_refreshed_and_written() -> None:
    registry = CollectorRegistry()
    gauge = Gauge("seen", "Times looked at", registry=registry)
    server = HealthServer(registry, {}, refresh=gauge.inc)
    first, second = asked(server, ("GET", "/metrics"), ("GET", "/metrics?x=1"))
    assert first.status_code == 200
    assert first.headers["content-type"].startswith("text/plain")
    assert "seen 1.0" in first.text
    assert "seen 2.0" in second.text


def test_a_gauge_that_fails_does_not_take_the_others_along() -> None:
    registry = CollectorRegistry()
    Gauge("kept", "A gauge", registry=registry)

    def refresh() -> None:
        raise RuntimeError("no")

    (answer,) = asked(HealthServer(registry, {}, refresh=refresh), ("GET", "/metrics"))
    assert "kept 0.0" in answer.text


@pytest.mark.parametrize(
    ("check", "reason"),
    [(hanging, "no answer within 0.05 s"), (down, "the store is down"), (broken, "no such thing")],
)
def test_ready_says_what_is_wrong(check: Callable[[], Awaitable[str | None]], reason: str) -> None:
    server = HealthServer(CollectorRegistry(), {"a": fine, "b": check}, check_s=0.05)
    health, ready = asked(server, ("GET", "/health"), ("GET", "/ready"))
    assert health.status_code == 200
    assert health.json() == {"status": "ok"}
    assert ready.status_code == 503
    assert ready.json() == {"status": "not ready", "checks": {"a": "ok", "b": reason}}


def test_ready() -> None:
    (answer,) = asked(HealthServer(CollectorRegistry(), {"a": fine}), ("GET", "/ready"))
    assert answer.status_code == 200
    assert answer.json()["status"] == "ready"


def test_other_requests() -> None:
    server = HealthServer(CollectorRegistry(), {})
    head, post, other = asked(
        server, ("HEAD", "/health"), ("POST", "/health"), ("GET", "/../etc/passwd")
    )
    assert (head.status_code, head.text) == (200, "")
    assert post.status_code == 405
    assert other.status_code == 404


@pytest.mark.parametrize("sent", [b"", b"\r\n\r\n", b"GET", b"\xff\xfe\r\n\r\n", b"x" * 20_000])
def test_nonsense_harms_nobody(sent: bytes) -> None:
    server = HealthServer(CollectorRegistry(), {})

    async def run() -> bytes:
        async with server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(sent)
            if writer.can_write_eof():
                writer.write_eof()
            with contextlib.suppress(ConnectionError):
                await reader.read()
            writer.close()
            async with httpx.AsyncClient() as client:
                answer = await client.get(f"http://127.0.0.1:{server.port}/health")
                return answer.content

    assert json.loads(asyncio.run(run())) == {"status": "ok"}


def test_a_client_that_stays_does_not_hold_up_the_end() -> None:
    server = HealthServer(CollectorRegistry(), {})

    async def run() -> None:
        async with server:
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            async with httpx.AsyncClient() as client:  # so that the first one has been accepted
                await client.get(f"http://127.0.0.1:{server.port}/health")
        writer.close()

    asyncio.run(asyncio.wait_for(run(), 30))


def test_a_port_in_use_is_bad_input() -> None:
    async def run() -> None:
        async with HealthServer(CollectorRegistry(), {}) as one:
            with pytest.raises(InvalidInput, match=f"{one.port}.*--metrics-port"):
                async with HealthServer(CollectorRegistry(), {}, port=one.port):
                    pass

    asyncio.run(run())
