"""The live runner as a process has it: its metrics, and whether it is ready, over real stores."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

import live.readiness
from cluster.postgres.engine import engine
from compute.settings import Defaults
from ingest.stores.clickhouse import ClickHouse
from ingest.stores.valkey import RedisSettings, Valkey, open_valkey
from live.readiness import Patient
from live.service import run_live
from live.settings import LiveSettings, MessageSettings, RealtimeSettings, StreamSettings
from live.strategies.spec import backtest_of_spec
from live.telegram.chats import chat_of, make_link
from tests.cluster.cli import call
from tests.live.bot_api import TOKEN, BotApi, bot_api, said_to_bot
from tests.live.test_telegram_chats import ANN, ANN_TELEGRAM
from tests.postgres import execute, rows

A_USER = (
    "INSERT INTO identity_users (user_id, telegram_user_id, created_at)"
    f" VALUES ('{ANN}', {ANN_TELEGRAM}, now())"
)
CONTRACT = {
    *(
        f"strategy_live_runner_{name}"
        for name in (
            "iterations_total", "iteration_errors_total", "messages_read_total",
            "messages_acked_total", "failed_runs_total", "iteration_duration_seconds",
            "lag_seconds", "evaluation_seconds", "reconcile_differences_total",
        )
    ),
    *(
        f"strategy_realtime_output_{name}_total"
        for name in ("publish", "publish_errors", "publish_duplicates")
    ),
    *(
        f"strategy_telegram_{name}_total"
        for name in ("notify", "notify_errors", "notify_skipped")
    ),
}  # fmt: skip


@asynccontextmanager
async def running(
    dsn: str, db: ClickHouse, settings: LiveSettings, environ: dict[str, str], port: int
) -> AsyncIterator[httpx.AsyncClient]:
    """The runner while it runs, and a client of its port."""
    stop = asyncio.Event()
    life = asyncio.create_task(
        run_live(
            dsn, db, settings, lambda spec: backtest_of_spec(spec, Defaults()), environ,
            "127.0.0.1", port, stop,
        )
    )  # fmt: skip
    try:
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", trust_env=False
        ) as client:
            async with asyncio.timeout(30):
                while not life.done():
                    try:
                        await client.get("/health")
                        break
                    except httpx.TransportError:
                        await asyncio.sleep(0.02)
            yield client
    finally:
        stop.set()
        await life


async def ready(client: httpx.AsyncClient, status: int) -> dict[str, str]:
    """The checks of /ready, as soon as it answers so."""
    async with asyncio.timeout(30):
        while (answer := await client.get("/ready")).status_code != status:
            await asyncio.sleep(0.02)
    return answer.json()["checks"]


def scraped(text: str) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in re.findall(r"^(\w+(?:\{[^}]*\})?) (\S+)$", text, re.MULTILINE)
    }


@pytest.fixture
def port() -> int:
    """One that is free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_everything_is_counted_also_where_nothing_is_told(
    database: str, db: ClickHouse, port: int
) -> None:
    settings = LiveSettings(streams=StreamSettings(enabled=False))

    async def run() -> None:
        async with running(database, db, settings, {}, port) as client:
            assert set(await ready(client, 200)) == {
                "database",
                "candle_store",
                "instruments",
                "runs",
            }
            assert (await client.get("/health")).json() == {"status": "ok"}
            text = (await client.get("/metrics")).text
            kinds = dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE))
            assert kinds.keys() >= CONTRACT
            assert kinds["strategy_live_runner_iteration_duration_seconds"] == "histogram"
            buckets = re.findall(r'iteration_duration_seconds_bucket\{le="([^"]+)"\}', text)
            assert [float(one) for one in buckets[:-1]] == [
                0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 15, 60,
            ]  # fmt: skip
            found = scraped(text)
            assert found["strategy_live_runner_iterations_total"] >= 1
            assert found["strategy_telegram_notify_total"] == 0
            assert found["strategy_realtime_output_publish_total"] == 0

    asyncio.run(run())


def test_it_is_not_ready_while_something_is_gone(
    database: str,
    db: ClickHouse,
    port: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    postgres: str,
) -> None:
    name = database.rpartition("/")[2]
    opened = f"ALTER DATABASE {name} ALLOW_CONNECTIONS true"
    shut = (
        f"ALTER DATABASE {name} ALLOW_CONNECTIONS false",
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'",
    )
    monkeypatch.setattr(live.readiness, "PATIENCE_S", 0.05)
    environ = {"ROEHUB_DATA_DIR": str(tmp_path)}
    server = RedisSettings(path=tmp_path / "valkey")
    settings = LiveSettings(realtime=RealtimeSettings(enabled=True))
    settings = replace(settings, worker=replace(settings.worker, poll_interval_seconds=0.2))

    async def run(feed: Valkey) -> None:
        async with running(database, db, settings, environ, port) as client:
            names = {"database", "candle_store", "feed", "instruments", "runs"}
            assert set(await ready(client, 200)) == names
            with monkeypatch.context() as gone:
                gone.setattr(ClickHouse, "ping", lambda _: False)
                assert "does not answer" in (await ready(client, 503))["candle_store"]
            await ready(client, 200)
            await asyncio.to_thread(feed.close)
            checks = await ready(client, 503)
            assert "the live feed does not answer" in checks["feed"]
            assert checks["database"] == checks["candle_store"] == "ok"
            again = await asyncio.to_thread(open_valkey, server)
            await ready(client, 200)
            await asyncio.to_thread(execute, postgres, *shut)
            assert "not currently accepting connections" in (await ready(client, 503))["database"]
            await asyncio.to_thread(execute, postgres, opened)
            await ready(client, 200)
            again.close()

    with open_valkey(server) as feed:
        asyncio.run(run(feed))


def test_a_check_is_patient_with_what_was_good_once() -> None:
    answers: list[Any] = ["gone", None, "gone", "gone", RuntimeError("broken"), None, "gone"]
    clock = iter([0.0, 1.0, 10.0, 16.0, 20.0])

    async def check() -> str | None:
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    async def run() -> list[str | None]:
        patient = Patient(check, 15.0, clock.__next__)
        return [await patient.reason() for _ in range(7)]

    assert asyncio.run(run()) == ["gone", None, None, None, "broken", None, None]


def test_a_check_that_hangs_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live.readiness, "_ANSWER_S", 0.01)
    asked: list[int] = []

    async def check() -> None:
        asked.append(1)
        await asyncio.sleep(3600)

    async def run() -> list[str | None]:
        patient = Patient(check)
        return [await patient.reason() for _ in range(3)]

    assert asyncio.run(run()) == ["no answer within 0.01 s"] * 3
    assert len(asked) == 1


@pytest.fixture
def api() -> Any:
    with bot_api() as opened:
        yield opened


def test_a_runner_with_a_bot_listens_to_it(
    database: str, db: ClickHouse, port: int, api: BotApi
) -> None:
    execute(database, A_USER)
    settings = LiveSettings(
        streams=StreamSettings(enabled=False),
        messages=MessageSettings(
            enabled=True, mode="telegram", api_base_url=api.url, bot_token_env="MINE"
        ),
    )

    async def run() -> None:
        opened = engine(database)
        async with running(database, db, settings, {"MINE": TOKEN}, port) as client:
            async with asyncio.timeout(20):
                while not api.asked_of("getUpdates"):
                    await asyncio.sleep(0.01)
            async with opened.begin() as connection:
                link = await make_link(connection, ANN)
            assert link.url == f"https://t.me/roehub_test_bot?start={link.token}"
            api.put(said_to_bot(1, f"/start {link.token}", ANN_TELEGRAM))
            async with asyncio.timeout(20):
                while not api.said():
                    await asyncio.sleep(0.01)
            assert await chat_of(opened, ANN) == ANN_TELEGRAM
            found = scraped((await client.get("/metrics")).text)
            assert found["strategy_telegram_polling"] == 1
            assert found["strategy_telegram_updates_total"] == 1
        await opened.dispose()

    asyncio.run(run())


def test_a_chat_is_bound_by_a_command_where_messages_go_to_the_log(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(database, A_USER)
    monkeypatch.setenv("STRATEGY_PG_DSN", database)

    async def link() -> str:
        opened = engine(database)
        async with opened.begin() as connection:
            found = await make_link(connection, ANN)
        await opened.dispose()
        return found.token

    token = asyncio.run(link())
    done = call("live", "bind", token, "--chat", "-77")
    assert (done.status, done.stdout) == (0, "chat -77 is bound\n")
    done = call("live", "bind", token, "--chat", "-77")
    assert done.status == 2
    assert "the link is not known, was used, or has expired" in done.stderr
    assert token not in done.stderr
    query = "SELECT chat_id, is_confirmed FROM identity_telegram_channels"
    assert rows(database, query) == [(-77, True)]
