"""Runs within a request when something goes wrong: full, late, left alone, killed, stuck."""

from __future__ import annotations

import asyncio
import copy
import gc
import json
import logging
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from api.schemas.examples import BACKTESTS
from api.settings import SyncSettings
from ingest.stores.clickhouse import ClickHouse
from tests.api.service.market import client_of, context_of, refused, store, store_directory

__all__ = ["store", "store_directory"]

QUICK = BACKTESTS["two indicators with stops"]
SLOW: dict[str, Any] = copy.deepcopy(QUICK)
SLOW["template"]["timeframe"] = "1m"
SLOW["template"]["indicator_grids"][0]["params"]["window"] = {
    "mode": "range", "start": 2, "stop_incl": 501, "step": 1,
}  # fmt: skip
SLOW["template"]["indicator_grids"][1]["params"]["window"] = {
    "mode": "range", "start": 2, "stop_incl": 251, "step": 1,
}  # fmt: skip
SLOW["ranking"] = {"primary_metric": "max_drawdown_pct"}


@pytest.fixture(autouse=True)
def nothing_is_left_unheard(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No future whose error nobody took, and no defect of ours in the log of the server."""
    with caplog.at_level(logging.WARNING):
        yield
    gc.collect()  # a future complains when it goes
    said = [*caplog.get_records("call"), *caplog.get_records("teardown")]
    unheard = [
        record.getMessage()
        for record in said
        if record.name == "asyncio"
        or (record.exc_info is not None and record.exc_info[0] is not asyncio.CancelledError)
    ]
    assert not unheard, unheard


@pytest.fixture
def one_at_a_time(store: ClickHouse) -> Iterator[httpx.Client]:
    """A service that computes one run at a time, without a deadline to speak of."""
    settings = SyncSettings(600.0, max_concurrent_runs=1, grace_seconds=30.0)
    with client_of(lambda: context_of(store, sync=settings)) as client:
        yield client


def workers() -> list[psutil.Process]:
    """The worker processes of the service in this process."""
    return [
        child
        for child in psutil.Process().children()
        if child.status() != psutil.STATUS_ZOMBIE and "api.sync_worker" in child.cmdline()
    ]


def number(client: httpx.Client, series: str) -> float:
    """A sample of the service's metrics, 0 where there is none."""
    found = re.search(rf"^{re.escape(series)} (\S+)$", client.get("/metrics").text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def until(true: Callable[[], bool], seconds: float = 60.0) -> None:
    """Waits for something to be so; fails when it is not in time."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.02)


class Sent:
    """A request that is being answered on a thread."""

    def __init__(self, client: httpx.Client, body: Any) -> None:
        self.response: httpx.Response | None = None
        url = client.base_url

        def send() -> None:
            self.response = httpx.post(f"{url}/backtests", json=body, timeout=120)

        self.thread = threading.Thread(target=send)
        self.thread.start()

    def answer(self) -> httpx.Response:
        self.thread.join(120)
        assert self.response is not None
        return self.response


def hung_up(client: httpx.Client, body: Any) -> Callable[[], None]:
    """Sends a request and returns what closes its connection."""
    url = urlsplit(str(client.base_url))
    assert url.hostname
    assert url.port
    connection = socket.create_connection((url.hostname, url.port))
    raw = json.dumps(body).encode()
    head = (
        f"POST /backtests HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(raw)}\r\n\r\n"
    )
    connection.sendall(head.encode() + raw)
    return connection.close


def computing(client: httpx.Client) -> bool:
    return number(client, "roehub_sync_runs_active") == 1 and bool(workers())


def test_a_full_service_says_so_and_stays_responsive(one_at_a_time: httpx.Client) -> None:
    hang_up = hung_up(one_at_a_time, SLOW)
    until(lambda: computing(one_at_a_time))
    response = one_at_a_time.post("/backtests", json=QUICK)
    error = refused(response, 429)
    assert error["code"] == "too_many_requests"
    assert error["details"] == {
        "error": "max_concurrent_runs_exceeded", "max_concurrent_runs": 1,
    }  # fmt: skip
    assert "POST /backtests/jobs" in error["message"]
    assert response.headers["retry-after"] == "1"
    assert one_at_a_time.get("/health").status_code == 200
    assert one_at_a_time.get("/ready").json()["status"] == "ready"
    hang_up()
    left = 'roehub_sync_runs_total{kind="backtest",outcome="client_disconnected"}'
    until(lambda: number(one_at_a_time, left) == 1)
    assert one_at_a_time.post("/backtests", json=QUICK).status_code == 200
    assert number(one_at_a_time, "roehub_sync_workers_replaced_total") == 0
    refusals = 'roehub_sync_runs_total{kind="backtest",outcome="refused"}'
    assert number(one_at_a_time, refusals) == 1


def test_two_runs_at_a_time(store: ClickHouse) -> None:
    settings = SyncSettings(600.0, max_concurrent_runs=2)
    with client_of(lambda: context_of(store, sync=settings)) as client:
        hang_up = hung_up(client, SLOW)
        until(lambda: computing(client))
        assert client.post("/backtests", json=QUICK).status_code == 200
        assert len(workers()) == 2
        assert number(client, "roehub_sync_runs_active") == 1
        hang_up()
    assert not workers()


def test_a_deadline_runs_from_the_request_s_start(store: ClickHouse) -> None:
    settings = SyncSettings(2.0, max_concurrent_runs=1, grace_seconds=30.0)
    with client_of(lambda: context_of(store, sync=settings)) as client:
        began = time.monotonic()
        error = refused(client.post("/backtests", json=SLOW))
        assert 2.0 <= time.monotonic() - began < 25
        assert error["code"] == "validation_error"
        assert error["details"]["error"] == "deadline_exceeded"
        assert "POST /backtests/jobs" in error["message"]
        # The process stopped by itself and goes on with the next one.
        (worker,) = workers()
        until(lambda: client.post("/backtests", json=QUICK).status_code == 200)
        assert workers() == [worker]


def test_a_run_that_does_not_obey_loses_its_process(store: ClickHouse) -> None:
    settings = SyncSettings(4.0, max_concurrent_runs=1, grace_seconds=0.5)
    with client_of(lambda: context_of(store, sync=settings)) as client:
        sent = Sent(client, SLOW)
        until(lambda: computing(client))
        (worker,) = workers()
        worker.send_signal(signal.SIGSTOP)  # deaf to flags and deadlines
        error = refused(sent.answer())
        assert error["details"]["error"] == "deadline_exceeded"
        assert worker not in workers()
        assert number(client, "roehub_sync_workers_replaced_total") == 1
    assert not workers()


def test_a_process_that_dies_is_told_and_replaced(one_at_a_time: httpx.Client) -> None:
    sent = Sent(one_at_a_time, SLOW)
    until(lambda: computing(one_at_a_time))
    (worker,) = workers()
    worker.kill()
    error = refused(sent.answer(), 500)
    assert error["code"] == "unexpected_error"
    assert error["details"]["error"] == "run_lost"
    assert error["details"]["exit_status"] == -signal.SIGKILL
    assert one_at_a_time.post("/backtests", json=QUICK).status_code == 200
    (other,) = workers()
    assert other.pid != worker.pid


def test_a_service_that_ends_takes_its_runs_with_it(store: ClickHouse) -> None:
    settings = SyncSettings(600.0, max_concurrent_runs=1)
    with client_of(lambda: context_of(store, sync=settings)) as client:
        hang_up = hung_up(client, SLOW)
        until(lambda: computing(client))
    hang_up()
    assert not workers()
