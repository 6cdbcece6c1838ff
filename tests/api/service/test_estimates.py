"""What a job will take, told before it is made: as its creation would count it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from api.measured import Measured
from api.schemas.backtests import EstimateBody
from cluster.estimates import bars_of, timeline_bars
from compute.backtest import Backtest, resolve
from compute.errors import NoMarketData
from compute.market.period import Period, instant
from compute.market.timeframe import TIMEFRAMES
from compute.market.timeline import load_window, timeline
from compute.request import parse_request
from compute.settings import Defaults, Limits
from ingest.rows import DAY_MS, MINUTE_MS
from ingest.stores.clickhouse import ClickHouse
from ingest.synthetic import synthetic_candles
from tests.api.service.job_service import request
from tests.api.service.market import (
    START_MS,
    client_of,
    context_of,
    refused,
    store,
    store_directory,
)

__all__ = ["store", "store_directory"]
PATH = "/backtests/estimate"


@pytest.fixture(scope="module")
def client(store: ClickHouse) -> Iterator[httpx.Client]:
    limits = Limits(max_variants_per_compute=100)
    with client_of(lambda: context_of(store, limits=limits)) as found:
        yield found


def estimated(client: httpx.Client, body: dict[str, Any], **query: Any) -> dict[str, Any]:
    answer = client.post(PATH, json=body, params=query)
    assert answer.status_code == 200, answer.text
    return EstimateBody.model_validate(answer.json()).model_dump()


def test_the_ends_of_the_candles_are_enough_to_count_bars() -> None:
    minute = TIMEFRAMES["1m"]
    candles = synthetic_candles(seed=3, bars=9 * 1440, frame=minute, start_ms=START_MS)
    first_ms = int(candles.ts_open_ms[0])
    body = request()
    for code in ("1m", "15m", "4h", "1d"):
        for start_ms, length_ms in (
            (START_MS, DAY_MS),
            (START_MS + 3 * DAY_MS, 2 * DAY_MS),
            (START_MS + 3 * DAY_MS + 7 * MINUTE_MS + 1, DAY_MS + 333 * MINUTE_MS + 5),
            (START_MS - DAY_MS, 3 * DAY_MS),
            (START_MS + 8 * DAY_MS, 30 * DAY_MS),
        ):
            body["time_range"] = {"start": instant(start_ms), "end": instant(start_ms + length_ms)}
            body["template"]["timeframe"] = code
            job = resolve(parse_request(body), Defaults())
            load = load_window(job.period, job.timeframe, job.warmup_bars, minute)
            there = candles.ts_open_ms[candles.ts_open_ms >= load.start_ms]
            try:
                made = timeline(
                    candles, minute, job.instrument, job.timeframe, job.period, job.warmup_bars
                )
                bars = timeline_bars(made)
            except NoMarketData:
                bars = (0, 0)
            assert bars_of(job, int(there[0])) == bars, (code, start_ms)
            if load.start_ms >= first_ms:
                assert bars_of(job) == bars


def test_an_estimate_counts_what_a_measured_one_counts(client: httpx.Client) -> None:
    found = estimated(client, request())
    assert (found["stage_a_variants_total"], found["stage_b_variants_total"]) == (12, 16)
    assert found["seconds"] is found["spans"] is found["threads"] is None
    assert [one["code"] for one in found["cautions"]] == ["synthetic_candles"]
    measured = estimated(client, request(), timed=True)
    assert sum(measured["seconds"].values()) > 0
    assert measured["threads"] >= 1
    timed = {"seconds", "spans", "threads", "cautions"}
    assert {name: value for name, value in measured.items() if name not in timed} == {
        name: value for name, value in found.items() if name not in timed
    }


def test_the_seconds_of_a_job_are_guessed_from_those_of_others() -> None:
    """In proportion to the work of each step; not from a job that ranks in another way."""

    def record(windows: int, seconds: dict[str, float] | None = None) -> dict[str, Any]:
        return {
            "ranked_bars": 1000, "stage_a_variants_total": 3 * windows, "preselect": 2,
            "stage_b_variants_total": 8, "planes": {"ma.sma": {"long": windows, "short": windows}},
            "seconds": seconds,
        }  # fmt: skip

    def job(code: str, **ranking: Any) -> Backtest:
        body = copy.deepcopy(request())
        body["template"]["timeframe"] = code
        return resolve(parse_request({**body, "ranking": ranking}), Defaults())

    profit = {"primary_metric": "total_return_pct"}
    one, measured = job("1h", **profit), Measured()
    assert measured.guess(one, record(4)) is None
    measured.keep(one, record(4))  # without seconds
    assert measured.guess(one, record(4)) is None
    seconds = {"planes": 1.0, "stage_a": 10.0, "stage_b": 5.0, "exact": 0.5, "reports": 0.25}
    measured.keep(one, record(4, seconds))
    assert measured.guess(one, record(4)) == pytest.approx(16.75)
    assert measured.guess(one, record(8)) == pytest.approx(16.75 + 11)
    assert measured.guess(one, {**record(4), "ranked_bars": 3000}) == pytest.approx(3 * 16.75)
    # Another timeframe, until it has seconds of its own.
    other = job("4h", **profit)
    assert measured.guess(other, record(4)) == pytest.approx(16.75)
    measured.keep(other, record(4, dict.fromkeys(seconds, 2.0)))
    assert measured.guess(other, record(4)) == pytest.approx(10)
    assert measured.guess(one, record(4)) == pytest.approx(16.75)
    assert measured.guess(job("1h", **profit, distinct=True), record(4)) is None
    assert measured.guess(job("1h", primary_metric="max_drawdown_pct"), record(4)) is None


def test_a_guard_that_would_refuse_is_told(client: httpx.Client) -> None:
    found = estimated(client, request(windows=60))
    assert found["stage_a_variants_total"] == 180
    assert found["refusal"]["details"]["error"] == "max_variants_per_compute_exceeded"
    assert found["seconds"] is None
    again = estimated(client, request(windows=60), timed=True)
    assert again["refusal"] == found["refusal"]
    assert again["seconds"] is None


def test_a_rule_of_too_many_settings_is_not_even_counted(client: httpx.Client) -> None:
    body = copy.deepcopy(request())
    many = {"mode": "range", "start": 1, "stop_incl": 40_000, "step": 1}
    rule = {"long_threshold": many, "short_threshold": many}
    body["template"]["signal_grids"] = {"momentum.rsi": rule}
    found = refused(client.post(PATH, json=body))
    assert found["details"]["error"] == "max_variants_per_compute_exceeded"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"top_k": 301, "top_trades_n": 1}, "body.top_k"),
        ({"strategy_id": "00000000-0000-0000-0000-00000000000a"}, "mode_conflict"),
        ({"time_range": {"start": "2030-01-01T00:00:00Z", "end": "2030-01-02T00:00:00Z"}},
         "no market data"),
        ({"time_range": {"start": "2026-01-02T00:00:01Z", "end": "2026-01-02T00:00:02Z"}},
         "no bar of 1h closes"),
    ],
)  # fmt: skip
def test_what_else_a_creation_refuses_is_refused(
    client: httpx.Client, change: dict[str, Any], said: str
) -> None:
    body = copy.deepcopy(request()) | change
    assert said in str(refused(client.post(PATH, json=body)))


def test_a_period_is_whole(client: httpx.Client) -> None:
    span = Period.parse("2026-01-01T00:00:00Z", "2026-01-08T00:00:00Z")
    assert estimated(client, request())["ranked_bars"] == span.duration_ms // 3_600_000
