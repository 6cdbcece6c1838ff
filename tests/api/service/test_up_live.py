"""From a back-test to a strategy that trades: a day that an exchange tells, as a user sees it.

Exchange and product share a clock that the test moves, so a day takes seconds; the processes, the
stores and everything between them are those of `roehub up`.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml

from compute.market.candles import Candles
from compute.market.period import instant
from compute.market.timeframe import TIMEFRAMES
from configs.load import config
from ingest.candle_files import read_candles
from ingest.rows import MINUTE_MS, floor_minute
from ingest.synthetic import synthetic_candles
from tests.api.service.job_service import axis
from tests.api.service.test_up import cleared
from tests.api.service.up_by_hand import FILE, HandClock
from tests.api.service.up_process import Running, environment, until
from tests.cluster.cli import call
from tests.ingest.exchange_servers.binance import BinanceServer
from tests.ingest.exchange_servers.tape import TapeCandle
from tests.ingest.test_cli import written_config, written_whitelist

SYMBOL = "DAYUSDT"
HISTORY = 600
AT_A_TIME = 5
"""Minutes that the exchange may be ahead of the run: it waits ten for one that is missing."""
CLOSES_MS = 40
"""So long after its end the exchange tells a minute."""
COMPARED = (
    "direction", "exit_reason", "entry_fill_price", "exit_fill_price", "qty_base", "net_pnl_quote",
)  # fmt: skip
SETTLES_MS = 6_000
"""So long after its end a minute is asked for over REST."""


class ByHand(Running):
    """A `roehub up` with a clock that is moved by hand."""

    program = "tests.api.service.up_by_hand"


class Day:
    """An exchange on which a recorded market happens again: its history, and the day to come."""

    def __init__(self, directory: Path, market: Candles) -> None:
        self.start_ms = floor_minute(time.time_ns() // 1_000_000)
        self.clock = HandClock(directory / "clock", self.start_ms + SETTLES_MS)
        self.server = BinanceServer(self.clock)
        self.minutes = len(market) - HISTORY
        self.next = 0
        first_ms = self.start_ms - HISTORY * MINUTE_MS
        tape = self.server.tape(1)
        tape.enlist(SYMBOL, first_ms=first_ms)
        for i in range(len(market)):
            tape.tell(SYMBOL, told(market, i, first_ms + i * MINUTE_MS))

    def moment(self, minute: int) -> str:
        """The open of a minute of the day."""
        return instant(self.start_ms + minute * MINUTE_MS)

    def goes_on(self, minutes: int) -> None:
        """The exchange closes some minutes and tells them to whoever listens."""
        for _ in range(minutes):
            at_ms = self.start_ms + self.next * MINUTE_MS
            self.clock.put(at_ms + MINUTE_MS + CLOSES_MS)
            self.server.publish(1, SYMBOL, at_ms)
            self.next += 1

    def settles(self) -> None:
        """Time enough goes by for the last minute to be asked for."""
        self.clock.put(self.start_ms + self.next * MINUTE_MS + SETTLES_MS)


def told(market: Candles, row: int, at_ms: int) -> TapeCandle:
    """A recorded minute, that happens at another time."""
    opened, high, low, close, volume = (float(column[row]) for column in market.series())
    paid = volume * close
    return TapeCandle(at_ms, opened, high, low, close, volume, paid, 10, volume / 2, paid / 2)


class Reader:
    """Reads the events of a run on a thread; comes back where a connection broke."""

    def __init__(self, up: Running, path: str) -> None:
        self.up, self.path = up, path
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.failed: Exception | None = None
        self._last = ""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def kinds(self, *wanted: str) -> list[dict[str, Any]]:
        """The payloads of events of some kinds, so far."""
        return [data for kind, data in list(self.events) if kind in wanted]

    def joined(self) -> None:
        """Returns when the stream has ended by itself."""
        self._thread.join(30)
        assert not self._thread.is_alive(), self.events[-3:]
        assert self.failed is None

    def _read(self) -> None:
        try:
            while not self._connected():
                time.sleep(0.1)
        except Exception as error:
            self.failed = error

    def _connected(self) -> bool:
        """Whether a connection was read to the end of the run."""
        try:
            headers = {"Authorization": f"Bearer {self.up.token()}"}
            headers |= {"Last-Event-ID": self._last} if self._last else {}
            url = f"{self.up.url()}{self.path}"
            with httpx.stream("GET", url, headers=headers, timeout=60) as answer:
                fields: dict[str, str] = {}
                for line in answer.iter_lines():
                    name, _, value = line.partition(": ")
                    fields |= {name: value} if name else {}
                    if not line and "data" in fields:
                        self._last = fields["id"]
                        self.events.append((fields["event"], json.loads(fields["data"])))
                        fields = {}
        except (httpx.TransportError, AssertionError):  # killed; the next one is not up yet
            return False
        return bool(self.kinds("run_stopped", "run_failed"))


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    found = tmp_path / "data"
    try:
        yield found
    finally:
        cleared(found)


def brisk(tmp_path: Path) -> Path:
    """The test settings, but what a dead runner held is free at once."""
    document = yaml.safe_load(config("strategy", {"ROEHUB_ENV": "test"}).path.read_text())
    document["strategy"]["live_worker"]["lease_seconds"] = 2.0
    path = tmp_path / "strategy.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def search(day: Day) -> dict[str, Any]:
    """A small grid over the history."""
    return {
        "time_range": {"start": day.moment(60 - HISTORY), "end": day.moment(0)},
        "template": {
            "instrument_id": {"market_id": 1, "symbol": SYMBOL},
            "timeframe": "1m",
            "indicator_grids": [
                {
                    "indicator_id": "ma.ema",
                    "source": axis("close"),
                    "params": {"window": axis(5, 8, 13)},
                },
                {
                    "indicator_id": "momentum.rsi",
                    "source": axis("close"),
                    "params": {"window": axis(7)},
                },
            ],
            "signal_grids": {
                "momentum.rsi": {"long_threshold": axis(52), "short_threshold": axis(48)}
            },
            "risk_grid": {"sl_enabled": True, "sl": axis(0.5), "tp_enabled": True, "tp": axis(0.8)},
        },
        "warmup_bars": 60,
        "top_k": 1,
        "top_trades_n": 1,
    }


def lived(tmp_path: Path, directory: Path, market: Candles, kills: tuple[int, ...]) -> None:
    """The whole way; everything is killed when the exchange comes to one of the minutes `kills`."""
    day = Day(tmp_path, market)
    with day.server as server:
        up = ByHand(
            directory, "--runners", 0, "--ingest", "--live",
            "--whitelist", written_whitelist(tmp_path, f"1,{SYMBOL},1"),
            MARKET_DATA_CONFIG_PATH=str(written_config(tmp_path, {1: server})),
            ROEHUB_STRATEGY_CONFIG=str(brisk(tmp_path)),
            **{FILE: str(day.clock.path)},
        )  # fmt: skip
        server.wait_for_topics(1, 1, 120)
        until(lambda: stored(up) == HISTORY, lambda: (stored(up), up.said))
        strategy = saved(up, search(day))
        path = f"/strategies/{strategy}"
        run_id = up.post(f"{path}/run")["run_id"]
        there = f"{path}/runs/{run_id}"
        reader = Reader(up, f"{there}/events")
        assert up.get(f"{there}/reconciliation")["badge"] == "unchecked"

        while day.next < day.minutes:
            day.goes_on(min(AT_A_TIME, day.minutes - day.next))
            if any(day.next - AT_A_TIME < at <= day.next for at in kills):
                up.end(signal.SIGKILL)
                day.goes_on(3)  # told to nobody
                day.settles()
                up = reader.up = up.again()
                server.wait_for_topics(1, 1, 120)
            reaches(up, there, day)

        judged(up, directory, path, run_id, reader, day)
        assert up.end(signal.SIGTERM) == 0


def stored(up: Running) -> int:
    """Minutes that the product has of the exchange."""
    items = up.get("/market-data/coverage", market_id=1, symbol=SYMBOL)["items"]
    return items[0]["minutes"] if items else 0


def saved(up: Running, request: dict[str, Any]) -> str:
    """The strategy made of the best row of a back-test."""
    best = up.post("/backtests", request)["variants"][0]
    assert best["metrics"]["num_trades"] > 3
    context = {name: request[name] for name in ("time_range", "template", "warmup_bars")}
    made = up.post("/strategies/from-variant", {**context, "variant": best["payload"]})
    return made["strategy_id"]


def reaches(up: Running, there: str, day: Day) -> None:
    """Returns when the run went through all that the exchange has told."""
    last = day.moment(day.next - 1)
    until(
        lambda: (up.get(there)["checkpoint_ts_open"] or "") >= last,
        lambda: (last, up.get(there), up.said),
    )


def judged(up: Running, directory: Path, path: str, run_id: str, reader: Reader, day: Day) -> None:
    """What the run did is what it should have done, and everybody says so."""
    there = f"{path}/runs/{run_id}"
    until(lambda: stored(up) == HISTORY + day.minutes, lambda: stored(up))
    found = reconciled(directory, run_id)
    assert found["badge"] == "exact", (found, up.said)
    kept = up.get(f"{there}/reconciliation")
    assert {**kept, "checked_at": None} == {**found, "checked_at": None}

    run = up.get(there)
    assert (run["state"], run["last_error"]) == ("running", None)
    first_ms = run["metadata"]["live"]["trading_from_ms"]
    last_ms = day.start_ms + day.minutes * MINUTE_MS
    bars = (last_ms - first_ms) // MINUTE_MS + 1
    assert found["bars"] == bars > day.minutes - 5  # each once: they are rows by their time
    assert found["until"].startswith(day.moment(day.minutes).removesuffix("Z"))

    trades = pages(up, f"{there}/trades")
    assert len(trades) == found["trades"] > day.minutes / 60
    # Another way to the same trades: the strategy back-tested over the day, with a last close.
    body = {
        "strategy_id": path.rpartition("/")[2],
        "time_range": {"start": instant(first_ms), "end": instant(last_ms + MINUTE_MS)},
    }
    (row,) = up.post("/backtests", body)["variants"]
    asked = {**body, "variant": row["payload"], "include_trades": True}
    expected = up.post("/backtests/variant-report", asked)["trades"]
    some = [{name: one[name] for name in COMPARED} for one in expected[: len(trades)]]
    assert [{name: one[name] for name in COMPARED} for one in trades] == some
    assert len(expected) - len(trades) in (0, 1)

    assert "strategy_live_runner_runs 1.0" in httpx.get(up.place("live")).text
    up.post(f"{path}/stop")
    reader.joined()
    closed = reader.kinds("trade_close")
    assert [one["trade_id"] for one in closed] == [one["trade_id"] for one in trades]
    assert [one["net_pnl_quote"] for one in closed] == [one["net_pnl_quote"] for one in trades]
    opened = reader.kinds("trade_open")
    assert [one["price"] for one in opened][: len(trades)] == [
        one["entry_fill_price"] for one in trades
    ]
    assert len(opened) - len(closed) in (0, 1)
    states = [one["state"] for one in reader.kinds("run_started", "run_state_changed")]
    assert states == ["starting", "warming_up", "running"]


def reconciled(directory: Path, run_id: str) -> dict[str, Any]:
    """What `roehub live reconcile` says while the service has the candles."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(directory).items():
            patch.setenv(name, value)
        said = call("live", "reconcile", run_id, "--json")
    assert said.status == 0, (said.stdout, said.stderr)
    return json.loads(said.stdout)


def pages(up: Running, path: str) -> list[dict[str, Any]]:
    """All items of a list."""
    found, cursor = [], ""
    while cursor is not None:
        page = up.get(path, cursor=cursor)
        found += page["items"]
        cursor = page["next_cursor"]
    return found


def made_up(minutes: int) -> Candles:
    """A market of ours."""
    return synthetic_candles(
        seed=11, bars=HISTORY + minutes, frame=TIMEFRAMES["1m"], start_ms=0, gaps=False
    )


def test_a_strategy_of_a_back_test_trades_as_it_says(tmp_path: Path, directory: Path) -> None:
    lived(tmp_path, directory, made_up(150), kills=(72,))


@pytest.mark.soak
def test_a_whole_day(tmp_path: Path, directory: Path) -> None:
    recorded = os.environ.get("ROEHUB_CANDLES_DIR", "")
    files = sorted(Path(recorded).glob("*-1m-*.parquet")) if recorded else []
    whole = HISTORY + 1440
    market = read_candles(files[0]).candles.slice(0, whole) if files else made_up(1440)
    assert (np.diff(market.ts_open_ms) == MINUTE_MS).all()
    lived(tmp_path, directory, market, kills=(301, 777, 1200))
