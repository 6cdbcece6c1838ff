"""Event streams over a real connection: what comes, where it resumes, what it may cost."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from uuid import UUID, uuid4

import httpx
import psutil
import pytest
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine

from api.events import BoundedStream, EventFeed, last_event_id
from cluster.jobs.events import EventHub, EventLog
from cluster.jobs.job import Job
from cluster.jobs.store import JobStore
from cluster.postgres.engine import engine
from compute.errors import InvalidRequest
from tests.api.service.serving import served
from tests.cluster.jobs.stored import claimed, created, leases, run, top_rows


@contextmanager
def streams(
    database: str, *, heartbeat: float = 15, write: float = 30
) -> Iterator[tuple[str, Any]]:
    """(URL, feed) of a service that has nothing but streams."""
    held: list[EventFeed] = []

    def made() -> FastAPI:
        connections = engine(database)
        feed = EventFeed(EventLog(connections), EventHub(database), JobStore(connections))
        held.append(feed)

        @asynccontextmanager
        async def lifespan(_: FastAPI) -> AsyncIterator[None]:
            async with feed:
                yield
            await connections.dispose()

        app = FastAPI(lifespan=lifespan)

        @app.get("/{job_id}")
        async def events(job_id: UUID, after: int = 0) -> BoundedStream:
            pieces = feed.stream(job_id, after, heartbeat)
            return BoundedStream(pieces, "text/event-stream", write_seconds=write)

        @app.get("/flood/{job_id}")
        async def flood(job_id: UUID) -> BoundedStream:
            async def pieces() -> AsyncIterator[bytes]:
                while True:
                    yield b"x" * 16384

            return BoundedStream(pieces(), "text/event-stream", write_seconds=write)

        return app

    with served(made, stopping=lambda: held[0].close(), unread_seconds=write) as url:
        yield url, held[0]


def parsed(text: str) -> list[tuple[int, str, dict[str, Any]]]:
    """(id, kind, data) of each event of a stream."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if line[:1] != ":")
        if "id" in fields:
            found.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
    return found


async def _ended(found: AsyncEngine, units: int = 100) -> Job:
    """A job that ran through all its stages."""
    await created(found)
    job = await claimed(found)
    mine = leases(found)
    await mine.progress(job, "stage_a", units, units, 0.0)
    await mine.top(job, top_rows(3))
    await mine.progress(job, "stage_b", 5, 10, 2.5)
    await mine.succeed(job, "f" * 64)
    return job


def test_a_late_reader_gets_what_is_kept_and_then_the_end(database: str) -> None:
    job = run(database, _ended)
    with streams(database) as (url, _):
        answer = httpx.get(f"{url}/{job.job_id}", timeout=20)
        assert answer.headers["content-type"].startswith("text/event-stream")
        found = parsed(answer.text)
        kinds = [kind for _, kind, _ in found]
        assert kinds == ["state", "state", "progress", "best", "progress", "state"]
        assert [id for id, _, _ in found] == sorted({id for id, _, _ in found})
        assert found[-1][2]["state"] == "succeeded"
        assert found[4][2]["eta_seconds"] == 2.5
        assert found[3][2]["items"][0]["rank"] == 1
        assert all(data["at"].endswith("Z") for _, _, data in found)
        middle = found[2][0]
        resumed = parsed(httpx.get(f"{url}/{job.job_id}?after={middle}", timeout=20).text)
        assert resumed == found[3:]
        after_the_end = httpx.get(f"{url}/{job.job_id}?after={found[-1][0]}", timeout=20)
        assert parsed(after_the_end.text) == []
        assert parsed(httpx.get(f"{url}/{uuid4()}", timeout=20).text) == []


def test_events_come_as_they_happen_with_heartbeats_between(database: str) -> None:
    job = run(database, created)
    with (
        streams(database, heartbeat=0.1) as (url, _),
        httpx.stream("GET", f"{url}/{job.job_id}", timeout=20) as answer,
    ):
        lines = answer.iter_lines()
        assert next(line for line in lines if line.startswith("event")) == "event: state"
        assert next(line for line in lines if line.startswith(":")) == ": still there"
        run(database, claimed)
        assert next(line for line in lines if line.startswith("event")) == "event: state"
        assert '"state":"running"' in next(lines)

        async def cancel(found: AsyncEngine) -> None:
            await leases(found).cancelled(await _running(found, job))

        run(database, cancel)
        rest = "\n".join(lines)
        assert '"state":"cancelled"' in rest


async def _running(found: AsyncEngine, job: Job) -> Job:
    now = await JobStore(found).get(job.job_id)
    assert now is not None
    return now


def test_a_stream_does_not_mind_the_wall_clock(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = run(database, created)
    real, ahead = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: real() + ahead[0])
    with (
        streams(database, heartbeat=0.2) as (url, _),
        httpx.stream("GET", f"{url}/{job.job_id}", timeout=20) as answer,
    ):
        lines = answer.iter_lines()
        for hours, change in ((5, claimed), (-12, lambda found: _cancelled(found, job))):
            assert next(line for line in lines if line.startswith("event")) == "event: state"
            ahead[0] += hours * 3600
            assert next(line for line in lines if line.startswith(":")) == ": still there"
            run(database, change)
        assert '"state":"cancelled"' in "\n".join(lines)


async def _cancelled(found: AsyncEngine, job: Job) -> None:
    await leases(found).cancelled(await _running(found, job))


def test_a_deleted_job_ends_its_streams(database: str) -> None:
    job = run(database, created)
    with (
        streams(database) as (url, _),
        httpx.stream("GET", f"{url}/{job.job_id}", timeout=20) as answer,
    ):
        lines = answer.iter_lines()
        next(line for line in lines if line.startswith("event"))

        async def delete(found: AsyncEngine) -> None:
            await JobStore(found).cancel(job.job_id)
            await JobStore(found).delete(job.job_id)

        run(database, delete)
        list(lines)


def test_a_stop_ends_streams_at_once(database: str) -> None:
    job = run(database, created)
    with streams(database) as (url, feed):
        ended = threading.Event()
        began = threading.Event()

        def read() -> None:
            with httpx.stream("GET", f"{url}/{job.job_id}", timeout=60) as answer:
                for line in answer.iter_lines():
                    if line.startswith("event"):
                        began.set()
            ended.set()

        threading.Thread(target=read).start()
        assert began.wait(20)
        assert feed.waiting == 1
    assert ended.wait(5)


def test_a_thousand_readers_share_queries_and_all_hear_the_end(database: str) -> None:
    count = 1000
    job = run(database, created)

    async def read_all(url: str, feed: EventFeed) -> list[bytes]:
        host, port = url.removeprefix("http://").split(":")
        request = f"GET /{job.job_id} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()

        async def connected() -> asyncio.StreamReader:
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(request)
            held.append(writer)
            await reader.readuntil(b'"state":"queued"')
            return reader

        held: list[asyncio.StreamWriter] = []
        readers = await asyncio.gather(*(connected() for _ in range(count)))
        assert feed.waiting == count
        before = feed.queries
        await asyncio.to_thread(run, database, claimed)
        await asyncio.gather(*(one.readuntil(b'"state":"running"') for one in readers))
        shared.append(feed.queries - before)

        async def end(found: AsyncEngine) -> None:
            await leases(found).succeed(await _running(found, job), "f" * 64)

        await asyncio.to_thread(run, database, end)
        rest = await asyncio.gather(*(one.read() for one in readers))
        for writer in held:
            writer.close()
        return rest

    shared: list[int] = []
    before = psutil.Process().memory_info().rss
    with streams(database) as (url, feed):
        rest = asyncio.run(asyncio.wait_for(read_all(url, feed), 120))
        grown = psutil.Process().memory_info().rss - before
    assert all(b'"state":"succeeded"' in one for one in rest)
    assert shared[0] < count / 100
    assert grown < 200 << 20  # both ends of a thousand connections are in this process


def test_a_reader_that_takes_nothing_is_dropped(database: str) -> None:
    with streams(database, write=0.5) as (url, _):
        host, port = url.removeprefix("http://").split(":")
        before = psutil.Process().memory_info().rss
        mute = socket.create_connection((host, int(port)))
        mute.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        mute.sendall(f"GET /flood/{uuid4()} HTTP/1.1\r\nHost: x\r\n\r\n".encode())

        def dropped() -> bool:
            ours = [c for c in psutil.Process().net_connections("tcp") if c.laddr.port == int(port)]
            return all(one.status == psutil.CONN_LISTEN for one in ours)

        async def until_dropped() -> None:
            async with asyncio.timeout(30):
                while dropped():
                    await asyncio.sleep(0.01)  # until it is accepted
                while not dropped():
                    await asyncio.sleep(0.05)

        asyncio.run(until_dropped())
        assert psutil.Process().memory_info().rss - before < 32 << 20
        mute.close()


@pytest.mark.parametrize("raw", ["x", "-1", "1.5", "9" * 19, "١"])
def test_an_id_that_no_event_has_is_refused(raw: str) -> None:
    with pytest.raises(InvalidRequest, match="Last-Event-ID"):
        last_event_id(raw, "17")
    with pytest.raises(InvalidRequest, match="cursor"):
        last_event_id(None, raw)
    assert last_event_id("", "17") == last_event_id("17", "16") == 17
    assert last_event_id(" 17 ") == 17
    assert last_event_id("") == last_event_id(None) == 0
