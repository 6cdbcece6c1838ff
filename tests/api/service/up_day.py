"""A day that an exchange tells a `roehub up`, minute by minute, and a strategy over it.

Exchange and product share a clock that is moved by hand.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from compute.market.candles import Candles
from compute.market.period import instant
from compute.market.timeframe import TIMEFRAMES
from configs.load import config
from ingest.rows import MINUTE_MS, floor_minute
from ingest.synthetic import synthetic_candles
from tests.api.service.job_service import axis
from tests.api.service.up_by_hand import FILE, HandClock
from tests.api.service.up_process import Running, cleared, until
from tests.ingest.exchange_servers.binance import BinanceServer
from tests.ingest.exchange_servers.tape import TapeCandle
from tests.ingest.test_cli import written_config, written_whitelist

SYMBOL = "DAYUSDT"
HISTORY = 600
AT_A_TIME = 5
"""Minutes that the exchange may be ahead of the run: it waits ten for one that is missing."""
CLOSES_MS = 40
"""So long after its end the exchange tells a minute."""
SETTLES_MS = 6_000
"""So long after its end a minute is asked for over REST."""


class ByHand(Running):
    """A `roehub up` at a terminal, with a clock that is moved by hand."""

    program = "tests.api.service.up_by_hand"
    on_terminal = True


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


@dataclass
class Place:
    """A service over a directory, and the day that it is told."""

    up: ByHand
    day: Day
    directory: Path

    def goes_on(self, run: str) -> None:
        """Some minutes, until a run went through them and all of them are stored."""
        self.day.goes_on(min(AT_A_TIME, self.day.minutes - self.day.next))
        reaches(self.up, run, self.day)
        until(lambda: stored(self.up) == HISTORY + self.day.next, lambda: stored(self.up))


@contextmanager
def begun(root: Path, market: Candles, runners: int) -> Iterator[Place]:
    """A service that has the history of a market."""
    day, directory = Day(root, market), root / "data"
    try:
        with day.server as server:
            up = ByHand(
                directory, "--runners", runners, "--threads", 1, "--ingest", "--live",
                "--whitelist", written_whitelist(root, f"1,{SYMBOL},1"),
                MARKET_DATA_CONFIG_PATH=str(written_config(root, {1: server})),
                ROEHUB_STRATEGY_CONFIG=str(brisk(root)),
                **{FILE: str(day.clock.path)},
            )  # fmt: skip
            server.wait_for_topics(1, 1, 120)
            until(lambda: stored(up) == HISTORY, lambda: (stored(up), up.said))
            yield Place(up, day, directory)
    finally:
        cleared(directory)


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


def made_up(minutes: int) -> Candles:
    """A market of ours."""
    return synthetic_candles(
        seed=11, bars=HISTORY + minutes, frame=TIMEFRAMES["1m"], start_ms=0, gaps=False
    )
