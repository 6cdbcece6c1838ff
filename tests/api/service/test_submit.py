"""`roehub submit` and `roehub jobs …` against a running service with a runner."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI, Header, Response
from fastapi.responses import JSONResponse
from sqlalchemy.ext.asyncio import AsyncEngine

from api.client import Client, Event, Refused, ServiceFailed, ServiceUnreachable
from api.credentials import OperatorLogin
from api.following import Lines, followed, state_text
from api.identity.operator_file import OperatorFile, operator_path, write_operator_file
from api.jobs import Jobs
from api.server import listening, url_of
from ingest.stores.clickhouse import ClickHouse
from tests.api.service.job_service import ANN, job_service, request, running
from tests.api.service.market import store, store_directory
from tests.api.service.serving import served
from tests.cluster.cli import call, started, write_json
from tests.cluster.jobs.stored import claimed, leases, run, top_rows

__all__ = ["store", "store_directory"]
SYNTHETIC = "WARNING: These candles are SYNTHETIC: nothing here happened on a market"


@pytest.fixture
def service(
    store: ClickHouse, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, Jobs]]:
    """(URL, jobs) of a service that the commands find by themselves."""
    with job_service(store, database, tmp_path / "results") as (client, jobs):
        url = str(client.base_url).rstrip("/")
        monkeypatch.setenv("ROEHUB_API_URL", url)
        monkeypatch.setenv("ROEHUB_API_USER", ANN)
        yield url, jobs


def test_a_request_followed_to_its_table_and_report(
    service: tuple[str, Jobs], database: str, tmp_path: Path
) -> None:
    url, _ = service
    path = write_json(tmp_path / "request.json", request(windows=40))
    with running(database, tmp_path / "results"):
        done = call("submit", path, "--follow")
        assert done.status == 0, done.stderr
        job_id = done.stdout.split()[1]
        assert f"job {job_id} is queued at {url}" in done.stdout
        assert SYNTHETIC in done.stdout[: done.stdout.index("return %")]
        assert f"report: {url}/backtests/jobs/{job_id}/report" in done.stdout
        assert "succeeded" in done.stderr
        assert "Stage B: 16 done" in done.stderr

        told = call("submit", path, "--follow", "--json", "--key", "k")
        assert len(json.loads(told.stdout)["variants"]) == 5
    again = call("submit", path, "--json", "--key", "k")
    assert json.loads(again.stdout)["state"] == "succeeded"
    shown = call("jobs", "show", job_id)
    assert "succeeded" in shown.stdout
    assert "/report" in shown.stdout
    assert "instrument  1:BTCUSDT" in shown.stdout
    assert "timeframe   1h" in shown.stdout
    assert call("jobs", "show", job_id[:18]).stdout == shown.stdout
    several = call("jobs", "show", "")
    assert several.status == 2
    assert "2 jobs begin with ''; give more of the id" in several.stderr
    followed = call("jobs", "show", job_id, "--follow").stdout
    assert SYNTHETIC in followed[: followed.index("return %")]
    said = [line for line in followed.splitlines() if line.startswith("WARNING: ")]
    assert [line.split(" ", 3)[2] for line in said] == ["candles", "run"]
    lines = call("jobs", "top", job_id, "--limit", 2).stdout.splitlines()
    assert lines[: len(said)] == said
    rows = lines[len(said) :]
    assert len(rows) == 3
    assert "momentum.rsi source close window" in rows[1]
    listed = call("jobs", "list", "--limit", 1).stdout
    assert "more: roehub jobs list --limit 1 --cursor " in listed
    assert listed.split("\n")[1].split()[1:5] == ["1:BTCUSDT", "1h", "120", "succeeded"]
    assert listed.split("\n")[1].split()[5:7] == ["100", "%"]
    assert listed.split("\n")[1].endswith("2026-01-01 to 2026-01-08  sma, rsi")
    assert "finalizing" not in listed
    assert len(json.loads(call("jobs", "list", "--json").stdout)["items"]) == 2
    (tmp_path / "results" / "jobs" / job_id / "result.json").unlink()
    assert "is not known any more: result.json" in call("jobs", "top", job_id).stdout
    assert call("jobs", "delete", job_id).status == 0
    gone = call("jobs", "show", job_id)
    assert (gone.status, gone.stdout) == (2, "")
    assert "not found" in gone.stderr


def test_without_following_it_says_how_to_go_on(service: tuple[str, Jobs], tmp_path: Path) -> None:
    url, _ = service
    done = call("submit", write_json(tmp_path / "request.json", request()))
    job_id = done.stdout.split()[1]
    assert f"roehub jobs show {job_id} --api {url} --follow" in done.stdout
    assert "has no variants yet" in call("jobs", "top", job_id).stdout
    assert "is cancelled" in call("jobs", "cancel", job_id).stdout
    followed = call("jobs", "show", job_id, "--follow")
    assert followed.status == 1
    assert "roehub jobs top" not in followed.stdout  # it found nothing
    assert call("jobs", "top", job_id).stdout == "the job is cancelled and has no variants\n"


def test_a_cancelled_job_that_found_something_says_where_that_is(
    service: tuple[str, Jobs], database: str, tmp_path: Path
) -> None:
    done = call("submit", write_json(tmp_path / "request.json", request()))
    job_id = done.stdout.split()[1]

    async def cancelled(connections: AsyncEngine) -> None:
        job = await claimed(connections)
        await leases(connections).top(job, top_rows(2))
        await leases(connections).cancelled(job)

    run(database, cancelled)
    followed = call("jobs", "show", job_id, "--follow")
    assert followed.status == 1
    assert f"what it found so far: roehub jobs top {job_id}" in followed.stdout


def test_ctrl_c_leaves_the_job_running_and_says_so(
    service: tuple[str, Jobs], tmp_path: Path
) -> None:
    url, jobs = service
    path = write_json(tmp_path / "request.json", request())
    process = started("submit", path, "--follow", stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    job_id = process.stdout.readline().split()[1]
    assert process.stderr.readline() == "queued\n"  # the stream is open
    assert jobs.feed.waiting == 1
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert f"job {job_id} runs on" in said
    assert f"roehub jobs show {job_id} --api {url} --follow" in said
    assert "Traceback" not in said
    with Client() as client:
        assert client.job(job_id)["state"] == "queued"


def test_refusals_name_the_place_in_the_request(service: tuple[str, Jobs], tmp_path: Path) -> None:
    body = request(top_k=301, nonsense=1)
    done = call("submit", write_json(tmp_path / "request.json", body))
    assert done.status == 2
    assert "nonsense" in done.stderr
    told = call("submit", tmp_path / "request.json", "--json")
    assert json.loads(told.stdout)["error"]["code"] == "validation_error"
    with Client() as client, pytest.raises(Refused) as caught:
        client.job("00000000-0000-0000-0000-000000000000")
    assert caught.value.code == "not_found"


def test_a_service_that_is_not_there(tmp_path: Path) -> None:
    with listening("127.0.0.1", 0) as found:
        url = url_of(found)
    done = call("submit", write_json(tmp_path / "r.json", request()), "--api", url)
    assert done.status == 1
    assert f"no service answers at {url}" in done.stderr
    assert "roehub up" in done.stderr
    with Client(url) as client, pytest.raises(ServiceUnreachable):
        client.page()


def test_what_is_no_service_of_ours() -> None:
    def made() -> FastAPI:
        app = FastAPI()

        @app.get("/backtests/jobs")
        async def jobs() -> Response:
            return Response("hello", media_type="text/plain")

        return app

    with served(made) as url, Client(url) as client:
        with pytest.raises(ServiceFailed, match="no service of ours"):
            client.page()
        with pytest.raises(ServiceFailed, match="answered 404"):
            client.job("x")


@contextmanager
def cutting(url: str, after: bytes) -> Iterator[str]:
    """URL of a relay that cuts off the first connection whose answer contains `after`."""
    host, port = url.removeprefix("http://").split(":")
    cut = threading.Event()

    async def relayed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, requests = await asyncio.open_connection(host, int(port))
        there = asyncio.create_task(_copied(reader, requests))
        seen = b""
        while data := await answers.read(65536):
            writer.write(data)
            await writer.drain()
            seen += data
            if after in seen and not cut.is_set():
                cut.set()
                break
        there.cancel()
        requests.close()
        writer.close()

    async def serve(began: Future[int], stop: asyncio.Event) -> None:
        server = await asyncio.start_server(relayed, "127.0.0.1", 0)
        began.set_result(server.sockets[0].getsockname()[1])
        await stop.wait()
        server.close()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    began: Future[int] = Future()
    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(began, stop),))
    thread.start()
    try:
        yield f"http://127.0.0.1:{began.result(20)}"
        assert cut.is_set()
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)


async def _copied(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


def test_following_goes_on_where_a_connection_broke(service: tuple[str, Jobs]) -> None:
    url, _ = service
    with Client(url) as direct, cutting(url, b"event: state") as relay, Client(relay) as client:
        job_id = direct.submit(request())["job_id"]
        events = client.follow(job_id)
        first = next(events)
        assert first.data["state"] == "queued"
        direct.cancel(job_id)
        (last,) = events
        assert last.data["state"] == "cancelled"
        assert list(direct.follow(job_id, after=first.event_id)) == [last]
        assert list(direct.follow(job_id, after=last.event_id)) == []


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory of this test's own, and no token in the environment."""
    monkeypatch.setenv("ROEHUB_DATA_DIR", str(tmp_path))
    for name in ("ROEHUB_TOKEN", "ROEHUB_TOKEN_FILE", "ROEHUB_API_URL", "ROEHUB_ENV"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@contextmanager
def with_tokens(good: list[str]) -> Iterator[str]:
    """URL of a service whose job runs for the first token that was good, and succeeds later."""

    def made() -> FastAPI:
        app = FastAPI()
        first = good[-1]

        @app.get("/backtests/jobs/{job_id}/events")
        async def events(job_id: str, authorization: str = Header("")) -> Response:
            if authorization != f"Bearer {good[-1]}":
                error = {"code": "unauthorized", "message": "it was revoked", "details": {}}
                return JSONResponse({"error": error}, 401)
            state = "running" if good[-1] == first else "succeeded"
            data = json.dumps({"state": state, "attempt": len(good)})
            return Response(f"id: {len(good)}\nevent: state\ndata: {data}\n\n")

        return app

    with served(made) as url:
        yield url


def test_following_goes_on_under_the_next_token_of_the_local_operator(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.client._FIRST_PAUSE_SECONDS", 0.01)
    path, good, said = operator_path(os.environ), ["first"], []
    with with_tokens(good) as url, Client(url) as client:

        def left(line: str) -> None:
            said.append(line)
            write_operator_file(path, OperatorFile(url, "second"))

        write_operator_file(path, OperatorFile(url, "first"))
        events = client.follow("j", say=left)
        assert next(events).data["state"] == "running"
        good.append("second")  # it was started again; its file is not there yet
        path.unlink()
        (last,) = events
        assert last.data["state"] == "succeeded"
        assert said == ["the service does not answer; waiting for it"]


def test_a_token_that_stays_refused_ends_the_following_at_last(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.client._FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr("api.client._PATIENCE_SECONDS", 0.02)
    with with_tokens(["good"]) as url:
        write_operator_file(operator_path(os.environ), OperatorFile(url, "old"))
        with Client(url) as client, pytest.raises(Refused, match="it was revoked"):
            next(client.follow("j"))
        monkeypatch.setattr("api.client._PATIENCE_SECONDS", 1e9)
        with Client(url, token="mine") as client, pytest.raises(Refused, match="it was revoked"):
            next(client.follow("j"))  # a token that the user named is not waited for


def test_a_request_is_sent_again_under_the_token_that_came_meanwhile(home: Path) -> None:
    path = operator_path(os.environ)
    login = OperatorLogin("http://127.0.0.1:8000", os.environ)
    write_operator_file(path, OperatorFile("http://localhost:8000", "old"))
    flow = login.auth_flow(httpx.Request("GET", "http://127.0.0.1:8000"))
    assert next(flow).headers["Authorization"] == "Bearer old"
    write_operator_file(path, OperatorFile("http://localhost:8000", "new"))
    assert flow.send(httpx.Response(401)).headers["Authorization"] == "Bearer new"
    with pytest.raises(StopIteration):
        flow.send(httpx.Response(401))


def test_states_as_lines() -> None:
    status = {"state": "running", "attempt": 1, "max_attempts": 6}
    assert state_text(status) == "running"
    assert state_text({**status, "attempt": 3}) == "running, attempt 3"


def test_what_is_said_of_the_connection_stands_among_the_lines(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def follow(say: Callable[[str], None]) -> Iterator[Event]:
        yield Event("1", "state", {"state": "running"})
        say("the service does not answer; waiting for it")
        yield Event("2", "state", {"state": "succeeded"})

    assert followed(follow) == {"state": "succeeded"}
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["running", "the service does not answer; waiting for it", "succeeded"]


def test_the_bars_of_a_job_that_succeeded_are_full(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr("rich.console.sys.stderr", out)
    monkeypatch.setattr(out, "isatty", lambda: True)
    progress = {"stage": "finalizing", "processed_units": 0, "total_units": 1}

    def follow(say: Callable[[str], None]) -> Iterator[Event]:
        yield Event("1", "progress", progress)
        yield Event("2", "state", {"state": "succeeded"})

    followed(follow)
    last = out.getvalue().rpartition("Reports")[2]
    assert "1 of 1" in last
    assert "100%" in last


def test_lines_of_progress() -> None:
    clock = iter(range(0, 1000, 6))
    out = io.StringIO()
    see = Lines(out, lambda: float(next(clock)))

    def progress(done: int, stage: str = "stage_a", eta: float | None = 33.4) -> Event:
        data = {"stage": stage, "processed_units": done, "total_units": 1000,
                "eta_seconds": eta, "attempt": 1}  # fmt: skip
        return Event("1", "progress", data)

    see(progress(100))
    see(Event("2", "best", {"count": 1, "items": [{"total_return_pct": 12.345}]}))
    see(progress(400))
    see(progress(1000))
    see(progress(1000))
    see(progress(500, "stage_b", None))
    see(progress(600, "stage_b", 7200.0))
    assert out.getvalue().splitlines() == [
        "Stage A: 40 %, 400 of 1 000, about 33 s left, best so far 12.35 %",
        "Stage A: 1 000 done",
        "Stage B: 60 %, 600 of 1 000, about 120 min left, best so far 12.35 %",
    ]
