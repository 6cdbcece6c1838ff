"""A strategy traded over a file of minutes, without a service."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from compute.market.timeframe import TIMEFRAMES
from ingest.synthetic import synthetic_candles, write_candles
from tests.cluster.cli import INSTRUMENT, START_MS, call
from tests.live.test_instrument import EMA

FRAME = TIMEFRAMES["1m"]


def market(path: Path, minutes: int = 1200, frame: str = "1m") -> Path:
    made = synthetic_candles(seed=3, bars=minutes, frame=TIMEFRAMES[frame], start_ms=START_MS)
    write_candles(path, made, frame=TIMEFRAMES[frame], instrument=INSTRUMENT, synthetic=True)
    return path


@pytest.fixture
def strategy(tmp_path: Path) -> Path:
    place = {"market_id": INSTRUMENT.market_id, "symbol": INSTRUMENT.symbol}
    body = {"schema_version": 2, "instrument_id": place, **EMA, "timeframe": "5m"}
    path = tmp_path / "strategy.json"
    path.write_text(json.dumps(body))
    return path


def test_it_trades_as_its_back_test(strategy: Path, tmp_path: Path) -> None:
    done = call("live", "replay", strategy, "--candles", market(tmp_path / "day.parquet"))
    assert done.status == 0, done.stderr
    first, *events, last = done.stdout.splitlines()
    assert "SYNTHETIC" in first
    closed = [line for line in events if "  close " in line]
    assert len(closed) > 5
    assert events == sorted(events, key=lambda line: line.partition("Z")[0])
    assert last.startswith(f"{240 - 30 + 1} bars and {len(closed)} trades until 2024-01-01T20:00")
    assert last.endswith("exactly those of the back-test")
    # What GET /strategies/{id} gives is a strategy, too.
    whole = {**json.loads(strategy.read_text()), "spec_kind": "roehub.strategy.v2", "source": None}
    strategy.write_text(json.dumps({"strategy_id": "x", "spec": whole}))
    again = call("live", "replay", strategy, "--candles", tmp_path / "day.parquet")
    assert again.stdout == done.stdout


@pytest.mark.parametrize(
    ("minutes", "frame", "said"),
    [
        (140, "1m", "trades after 30 bars of 5m"),
        (300, "5m", "holds candles of 5m; live is made of 1m"),
    ],
)
def test_candles_that_do_not_do(
    strategy: Path, tmp_path: Path, minutes: int, frame: str, said: str
) -> None:
    path = market(tmp_path / "some.parquet", minutes, frame)
    done = call("live", "replay", strategy, "--candles", path)
    assert done.status == 2
    assert said in done.stderr
