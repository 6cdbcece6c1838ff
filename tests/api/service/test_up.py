"""`roehub up` as a user runs it: processes of its own, killed and stopped, jobs that go on.

A start takes long, so the tests share one; the last of them that uses it kills it.
"""

from __future__ import annotations

import json
import random
import re
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.app import add_users, configured
from api.client import Client
from api.identity.users import OPERATOR
from api.up import Plan, Up
from cluster.postgres.engine import engine
from compute.results import canonical_result
from ingest.rows import MINUTE_MS, floor_minute
from ingest.stores.clickhouse import open_clickhouse
from ingest.stores.settings import ClickHouseSettings
from tests.api.identity.people import SETTINGS
from tests.api.service.job_service import axis
from tests.api.service.market import store_directory
from tests.api.service.test_backtests import expected
from tests.api.service.up_process import (
    STOPS_S,
    Running,
    alive,
    cleared,
    environment,
    fetched,
    servers_over,
    until,
)
from tests.cluster.cli import call
from tests.ingest.exchange_servers.binance import BinanceServer
from tests.ingest.test_cli import written_config, written_whitelist
from tests.postgres import rows

__all__ = ["store_directory"]
FOLLOWED = "SOLUSDT"


def wall_clock() -> int:
    return time.time_ns() // 1_000_000


def copied(store: Path, directory: Path) -> Path:
    """A data directory with candles."""
    shutil.copytree(store, directory / "clickhouse", symlinks=True)
    return directory


@pytest.fixture(scope="module")
def exchange() -> Iterator[BinanceServer]:
    with BinanceServer(wall_clock) as server:
        first_ms = floor_minute(wall_clock()) - 40 * MINUTE_MS
        server.tape(1).enlist(FOLLOWED, first_ms=first_ms)
        yield server


@pytest.fixture(scope="module")
def up(
    store_directory: Path, tmp_path_factory: pytest.TempPathFactory, exchange: BinanceServer
) -> Iterator[Running]:
    """Everything, with ingestion from `exchange` and Ray's dashboard."""
    root = tmp_path_factory.mktemp("up")
    directory = copied(store_directory, root / "data")
    try:
        yield Running(
            directory, "--threads", 1, "--dashboard", "--ingest",
            "--whitelist", written_whitelist(root, f"1,{FOLLOWED},1"),
            MARKET_DATA_CONFIG_PATH=str(written_config(root, {1: exchange})),
        )  # fmt: skip
    finally:
        cleared(directory)


def request() -> dict[str, Any]:
    """A grid whose Stage A takes some seconds: it is ranked by drawdown over one-minute bars."""
    windows = {"mode": "range", "start": 5, "stop_incl": 54, "step": 1}
    return {
        "time_range": {"start": "2026-01-01T00:00:00Z", "end": "2026-01-11T00:00:00Z"},
        "template": {
            "instrument_id": {"market_id": 1, "symbol": "BTCUSDT"},
            "timeframe": "1m",
            "indicator_grids": [
                {
                    "indicator_id": "ma.sma",
                    "source": axis("close"),
                    "params": {"window": windows},
                },
                {
                    "indicator_id": "momentum.rsi",
                    "source": axis("close"),
                    "params": {"window": windows},
                },
            ],
            "signal_grids": {
                "momentum.rsi": {
                    "long_threshold": axis(48, 50, 52, 54, 56),
                    "short_threshold": axis(44, 46, 48, 50, 52),
                }
            },
        },
        "ranking": {"primary_metric": "return_over_max_drawdown"},
        "warmup_bars": 200,
        "top_k": 5,
        "preselect": 20,
        "top_trades_n": 1,
    }


def undisturbed(store: Path) -> bytes:
    """The result of `request` as the engine itself gives it."""
    with open_clickhouse(ClickHouseSettings(path=store), "the tests") as db:
        return canonical_result(expected(db, request()))


def committed(up: Running) -> int:
    """Spans of all jobs that are done, by the database."""
    place = up.directory / "postgres"
    port = json.loads((place / "server.json").read_text())["port"]
    password = (place / "password").read_text().strip()
    dsn = f"postgresql://roehub:{password}@127.0.0.1:{port}/roehub"
    ((found,),) = rows(dsn, "select count(*) from backtest_spans")
    assert isinstance(found, int)
    return found


def midway(up: Running, client: Client, job_id: str, spans: int, attempt: int = 1) -> bool:
    """Whether an attempt at a job is under way and so many spans are done."""
    job = client.job(job_id)
    assert job["state"] in ("queued", "running"), "the job was too quick to be killed"
    return job["attempt"] == attempt and committed(up) >= spans


def succeeded(up: Running, job_id: str) -> dict[str, Any]:
    """A job that ends well, at its end."""
    with up.client() as client:
        until(lambda: client.job(job_id)["finished_at"], lambda: up.log("runner-1.log"))
        found = client.job(job_id)
    assert found["state"] == "succeeded", up.log("runner-1.log")
    return found


def test_the_table_says_where_everything_is(up: Running) -> None:
    url = up.url()
    assert up.link() is None  # nobody looks on: a link in a file is for whoever reads the file
    assert fetched(f"{url}/ready").json()["status"] == "ready"
    assert fetched(up.place("API docs")).status_code == 200
    api, runner = re.findall(r"http\S+/metrics", up.place("metrics"))
    assert "roehub_http_requests_total" in fetched(api).text
    until(lambda: "backtest_job_runner_claim_total" in answer(runner), up.said)
    home, _, inside = up.place("data").partition(", with ")
    names = inside.split(", ")
    assert {"postgres", "clickhouse", "results", "logs", "operator.json"} == {*names}
    assert all((Path(home) / name).exists() for name in names)
    # What to open is told last, apart from the rest.
    block = up.said.partition(" is up, pid ")[2].partition("\n\n")[2]
    rule, opened, trial, end = block.splitlines()[:4]
    assert rule == end == "─" * 78
    assert opened == f"  Open {url}/ in a browser, which `roehub login` logs in"
    assert trial.endswith(f"try: roehub submit REQUEST.json --follow --api {url}")


def answer(url: str) -> str:
    try:
        return fetched(url).text
    except httpx.TransportError:
        return ""


def test_the_dashboard_lets_in_who_may_read_its_token(up: Running) -> None:
    up.url()
    dashboard = up.place("Ray").partition("dashboard ")[2]
    token = Path(up.place("Ray token"))
    assert token.stat().st_mode & 0o777 == 0o600
    assert fetched(f"{dashboard}/api/version").status_code == 401
    bearer = {"Authorization": f"Bearer {token.read_text().strip()}"}
    assert "ray_version" in fetched(f"{dashboard}/api/version", headers=bearer).json()
    page = fetched(dashboard)
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")


def test_ingestion_shares_the_candles_with_the_api(up: Running, exchange: BinanceServer) -> None:
    up.url()
    exchange.wait_for_topics(1, 1, 60)
    ingestion = up.place("ingestion").removesuffix("/metrics")
    until(lambda: fetched(f"{ingestion}/ready").status_code == 200, lambda: up.said)
    params = {"market_id": 1, "symbol": FOLLOWED}

    def stored() -> dict[str, Any]:
        items = up.get("/market-data/coverage", **params)["items"]
        return items[0] if items else {"minutes": 0, "last": ""}

    until(lambda: stored()["minutes"] >= 39, lambda: (stored(), up.said))  # history, over REST
    last_ms = floor_minute(wall_clock()) - MINUTE_MS
    assert exchange.publish(1, FOLLOWED, last_ms) == 1  # live
    wanted = 'insert_rows_total{market_id="1"} '
    until(
        lambda: re.search(rf"^{re.escape(wanted)}[1-9]", answer(f"{ingestion}/metrics"), re.M),
        lambda: up.said,
    )
    assert stored()["missing"] == 0
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(last_ms / 1000))
    assert stored()["last"] >= moment
    assert up.get("/market-data/instruments", **params)["items"]


def test_a_second_one_over_the_same_directory_is_refused(
    up: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = up.url()
    for name, value in environment(up.directory).items():
        monkeypatch.setenv(name, value)
    second = call("up", "--port", 0)
    assert second.status == 2
    assert f"(pid {up.process.pid}, API at {url})" in second.stderr


def test_a_runner_that_dies_is_started_again_at_another_port_where_its_own_is_taken(
    up: Running,
) -> None:
    up.url()
    _, its = re.findall(r"http\S+/metrics", up.place("metrics"))
    port = int(re.findall(r"\d+", its)[-1])
    first = until(lambda: up.member("jobs"), up.said)
    with ExitStack() as held:
        up.process.send_signal(signal.SIGSTOP)  # it shall not be faster than we are
        try:
            first.kill()
            until(lambda: not alive(first), "it is still there")
            held.enter_context(socket.create_server(("127.0.0.1", port)))
        finally:
            up.process.send_signal(signal.SIGCONT)
        until(lambda: "job runner was ended by SIGKILL; starting it again in" in up.said, up.said)
        told = rf"port {port} is taken; metrics of job runner are at (\S+)"
        [other] = until(lambda: re.findall(told, up.said), lambda: up.said)
        until(lambda: "backtest_job_runner_claim_total" in answer(other), lambda: up.said)


def test_a_job_killed_with_everything_goes_on_where_it_was(
    up: Running, store_directory: Path
) -> None:
    with up.client() as client:
        job_id = client.submit(request())["job_id"]
        until(lambda: midway(up, client, job_id, 2), lambda: up.log("runner-1.log"))
    up.end(signal.SIGKILL)

    assert len(servers_over(up.directory)) == 1
    again = up.again()
    with again.client() as client:
        assert f"job {job_id} was left by a runner that is gone; it goes on" in again.said
        assert succeeded(again, job_id)["attempt"] == 2
        result = canonical_result(client.result(job_id))
        assert result == undisturbed(store_directory)
        spans, reused = folds(again, attempt=2)[0]
        assert 0 < reused < spans

        # The cluster is lost, too: jobs run on the next one, and the same plan over the same
        # candles leaves nothing to compute.
        host = again.member("api.ray_host")
        assert host is not None
        host.kill()
        until(lambda: "Ray was ended by SIGKILL; starting it again" in again.said, again.said)
        second_id = client.submit(request())["job_id"]
        assert succeeded(again, second_id)["attempt"] <= 2  # one may be lost with the cluster
        assert canonical_result(client.result(second_id)) == result
        told = client.result(second_id)["run"]
        assert (told["spans_computed"], told["executor"]) == (0, "ray")
    began = time.monotonic()
    assert again.end(signal.SIGTERM) == 0
    assert time.monotonic() - began < STOPS_S
    assert "everything is stopped" in again.said
    assert not servers_over(up.directory)


def folds(up: Running, attempt: int) -> list[tuple[int, int]]:
    """(spans, those that were committed before) of each pass over spans."""
    log = (up.directory / "logs" / "runner-1.log").read_text()
    found = re.findall(rf"event=fold .*?attempt={attempt} .*?spans=(\d+) reused=(\d+)", log)
    return [(int(spans), int(reused)) for spans, reused in found]


def test_what_is_left_of_a_start_that_is_stopped(tmp_path: Path, exchange: BinanceServer) -> None:
    config = written_config(tmp_path, {1: exchange})
    listed = written_whitelist(tmp_path, f"1,{FOLLOWED},1")
    directory = tmp_path / "data"
    up = Running(directory, "--ingest", "--market-data-config", config, "--whitelist", listed)
    try:
        until(lambda: (directory / "logs" / "ray.log").exists(), lambda: up.said)
        until(lambda: "/ready are on" in up.said, lambda: up.said)
        up.process.send_signal(signal.SIGINT)
        assert up.process.wait(STOPS_S) == 0
        until(lambda: not up.family(), "something is left", STOPS_S)
    finally:
        cleared(directory)
    assert "left behind: 0 not stored" in up.said


def test_the_port_that_is_taken_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from api.server import listening

    monkeypatch.setenv("ROEHUB_DATA_DIR", str(tmp_path))
    with listening("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        done = call("up", "--port", port)
    assert done.status == 2
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr
    assert done.stdout == ""


def test_a_person_at_a_terminal_gets_a_link(tmp_path: Path) -> None:
    from api.server import listening

    context = configured({"ROEHUB_ENV": "test"})
    context.engine = engine("postgresql://nobody@127.0.0.1/nothing")
    add_users(context, SETTINGS, development=False)
    assert context.identity is not None
    with listening("127.0.0.1", 0) as place:
        table = Up(context, Plan(place, tmp_path, runners=0, operator=OPERATOR), print).table()
    # It stands on a line of its own in the last lines, between two rules.
    *_, within, link, _ = table.split("\n\n")
    assert within.splitlines()[0] == "─" * 78
    assert "once, within a minute" in within
    (code,) = re.findall(r"^  \S+/auth/links/(\S+)$", link)
    assert context.identity.links.use(code) == OPERATOR


@pytest.mark.soak
def test_everything_is_killed_again_and_again(store_directory: Path, tmp_path: Path) -> None:
    chance = random.Random(20260103)
    directory = copied(store_directory, tmp_path / "data")
    job_id = None
    try:
        moments = sorted(chance.sample(range(1, 9), 3))
        for attempt, spans in enumerate(moments, start=1):
            up = Running(directory, "--threads", 1, "--runners", 2)
            with up.client() as client:
                job_id = job_id or client.submit(request())["job_id"]
                at = (up, client, job_id, spans, attempt)
                until(lambda at=at: midway(*at), up.said)
            up.end(signal.SIGKILL)
        up = Running(directory, "--threads", 1, "--runners", 2)
        assert job_id is not None
        assert succeeded(up, job_id)["attempt"] == len(moments) + 1
        with up.client() as client:
            assert canonical_result(client.result(job_id)) == undisturbed(store_directory)
        assert up.end(signal.SIGTERM) == 0
    finally:
        cleared(directory)
