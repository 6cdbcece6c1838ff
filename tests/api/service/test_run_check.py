"""A run held against its back-test over HTTP, by its owner alone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast
from uuid import UUID

import httpx
import pytest

from api.live_cli import text_of
from compute.market.instrument import Instrument
from ingest.errors import StoreUnavailable
from ingest.rows import MINUTE_MS
from ingest.stores.clickhouse import ClickHouse
from live.strategies.runs import Run
from tests.api.service.market import BTC, START_MS, refused, store, store_directory
from tests.api.service.strategy_service import PATH, USER, own_database, strategy_service, user
from tests.live.stage import OWNER, made_market, staged
from tests.live.test_instrument import EMA
from tests.postgres import execute

__all__ = ["store", "store_directory"]
OWNED = {USER: str(OWNER)}
TRADED_MINUTES = 600


@pytest.fixture(scope="module")
def dsn(postgres: str) -> Iterator[str]:
    with own_database(postgres, "test_run_check") as found:
        yield found


@pytest.fixture(scope="module")
def client(dsn: str, store: ClickHouse) -> Iterator[httpx.Client]:
    with strategy_service(dsn, store=store) as found:
        yield found


def there(run: Run) -> str:
    return f"{PATH}/{run.strategy_id}/runs/{run.run_id}"


def ran(dsn: str, store: ClickHouse, instrument: Instrument, minutes: int) -> Run:
    """A run that was advanced so far by a runner."""
    started_ms = START_MS + 100 * MINUTE_MS

    async def work() -> Run:
        async with staged(dsn, store, instrument.symbol, made_market(1)) as stage:
            run = await stage.start(started_ms + 5, **EMA)
            if minutes:
                stage.now_ms = started_ms + minutes * MINUTE_MS + 200
                await stage.step(await stage.worker())
            return run

    return asyncio.run(work())


@pytest.fixture(scope="module")
def run(dsn: str, store: ClickHouse) -> Run:
    return ran(dsn, store, BTC, TRADED_MINUTES)


def test_it_is_the_back_test_whoever_asks_and_however_often(client: httpx.Client, run: Run) -> None:
    path = f"{there(run)}/reconciliation"
    before = client.get(path, headers=OWNED).json()
    assert (before["badge"], before["checked_at"], before["bars"]) == ("unchecked", None, 0)
    with ThreadPoolExecutor(2) as asking:
        answers = list(asking.map(lambda _: client.post(path, headers=OWNED), range(2)))
    assert {answer.status_code for answer in answers} == {200}
    kept = client.get(path, headers=OWNED).json()
    for found in (*(answer.json() for answer in answers), kept):
        assert found["badge"] == "exact"
        assert found["checked_at"].endswith("Z")
        assert found["bars"] == TRADED_MINUTES  # one closes each minute
        assert found["trades"] > 5
        assert found["differences"] == []
    assert "exactly those of the back-test" in text_of(kept)


def test_what_differs_is_shown(client: httpx.Client, run: Run, dsn: str) -> None:
    execute(
        dsn,
        "update live_trades set net = net + 1 where number in (3, 4)",
        "update live_bars set vote = -vote where bar_ts ="
        " (select max(bar_ts) from live_bars where vote <> 0)",
    )
    path = f"{there(run)}/reconciliation"
    found = client.post(path, headers=OWNED).json()
    assert found["badge"] == "different"
    assert found["differing"] == 3
    first = found["differences"][0]
    assert (first["kind"], first["cause"]) == ("trade", "unexplained")
    assert first["live"]["net"] == first["backtest"]["net"] + 1
    votes = [one for one in found["differences"] if one["kind"] == "vote"]
    assert [one["live"] for one in votes] == [-votes[0]["backtest"]]
    lines = text_of(found).splitlines()
    assert f"{found['differing']} differ" in lines[0]
    assert len(lines) == 1 + len(found["differences"])


def test_others_are_refused(client: httpx.Client, run: Run) -> None:
    path = f"{there(run)}/reconciliation"
    for call in (client.get, client.post):
        assert call(path, headers=user()).status_code == 403
        missing = path.replace(str(run.run_id), str(UUID(int=5)))
        assert call(missing, headers=OWNED).status_code == 404


def test_a_run_without_a_bar_stays_unchecked(
    client: httpx.Client, dsn: str, store: ClickHouse
) -> None:
    fresh = ran(dsn, store, BTC, 0)
    found = client.post(f"{there(fresh)}/reconciliation", headers=OWNED).json()
    assert (found["badge"], found["until"], found["checked_at"]) == ("unchecked", None, None)
    assert "not traded" in text_of(found)
    assert client.get(there(fresh), headers=OWNED).json()["lag_seconds"] is None
    # and with its strategy it is gone
    execute(dsn, f"update strategy_runs set state = 'stopped', stopped_at = updated_at"
            f" where run_id = '{fresh.run_id}'")  # fmt: skip
    assert client.delete(f"{PATH}/{fresh.strategy_id}", headers=OWNED).status_code == 204
    gone = client.post(f"{there(fresh)}/reconciliation", headers=OWNED)
    assert gone.status_code == 404


def test_how_far_behind_a_run_is(client: httpx.Client, run: Run) -> None:
    found = client.get(there(run), headers=OWNED).json()
    assert found["state"] == "running"
    assert found["lag_seconds"] > 86_400  # these minutes are long ago


class Down:
    """A store that fails."""

    def __getattr__(self, name: str) -> Any:
        raise StoreUnavailable("the store is down")


def store_of(kind: str) -> ClickHouse | None:
    return cast(ClickHouse, Down()) if kind == "down" else None


@pytest.mark.parametrize(
    ("kind", "status", "said"),
    [("none", 503, "no candle store"), ("down", 500, "storage operation failed")],
)
def test_without_candles_the_last_report_is_there(
    dsn: str, run: Run, kind: str, status: int, said: str
) -> None:
    path = f"{there(run)}/reconciliation"
    with strategy_service(dsn, store=store_of(kind)) as client:
        assert said in refused(client.post(path, headers=OWNED), status)["message"]
        assert client.get(path, headers=OWNED).json()["badge"] in ("exact", "different")
