"""What live runs are measured in: three servers of our own, minutes that are stored, and runs.

    python -m tests.benchmarks.live_place fill DIRECTORY INSTRUMENTS START_MS MINUTES
    python -m tests.benchmarks.live_place check DIRECTORY DSN RUN..   # as JSON, against back-tests

The embedded candle store belongs to one process, so that it is filled and read in others.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import numpy as np
import pyarrow as pa

from compute.market.candles import Candles
from compute.market.instrument import Instrument
from compute.settings import Defaults
from ingest.rows import CANDLE_SCHEMA, MINUTE_MS, TIME, instrument_key
from live.strategies.settings import StrategySettings
from live.strategies.spec import SpecRules, backtest_of_spec, spec_of
from tests.benchmarks.observed import ROOT
from tests.live.stage import made_market

USERS: Final = 20
_MANY: Final = 1_000_000
_RULES: Final = SpecRules(StrategySettings(), Defaults())


def _close(indicator_id: str, **params: float) -> dict[str, Any]:
    return {"id": indicator_id, "inputs": {"source": "close"}, "params": params}


_BAND: Final = {"momentum.rsi": {"long_threshold": 52, "short_threshold": 48}}
STRATEGIES: Final[tuple[dict[str, Any], ...]] = (
    {"indicators": [_close("ma.sma", window=50), _close("momentum.rsi", window=14)],
     "signals": _BAND},
    {"indicators": [_close("ma.ema", window=21), _close("momentum.rsi", window=9)],
     "signals": _BAND, "risk": {"sl_enabled": True, "sl_pct": 0.5}},
    {"indicators": [_close("ma.sma", window=10)]},
    {"indicators": [_close("ma.wma", window=30), _close("ma.ema", window=100)]},
    {"indicators": [_close("momentum.rsi", window=14)], "signals": _BAND,
     "risk": {"sl_enabled": True, "sl_pct": 1.0, "tp_enabled": True, "tp_pct": 1.5}},
)  # fmt: skip
"""What runs are made of, in turn; sums over windows and recursions, with stops and without."""


@dataclass(frozen=True, slots=True)
class Crowd:
    """So many instruments, each with so many runs on `frames` in turn, and minutes to come."""

    instruments: int
    runs_each: int
    frames: tuple[str, ...]
    minutes: int

    @property
    def runs(self) -> int:
        """Of all instruments."""
        return self.instruments * self.runs_each

    def instrument(self, number: int) -> Instrument:
        """One of its instruments."""
        return Instrument(1, f"LIVE{number:03d}USDT")

    def spec(self, number: int, run: int) -> dict[str, Any]:
        """The specification of a run of an instrument."""
        one = self.instrument(number)
        body = {
            "schema_version": 2,
            "instrument_id": {"market_id": one.market_id, "symbol": one.symbol},
            "timeframe": self.frames[run % len(self.frames)],
            **STRATEGIES[run % len(STRATEGIES)],
        }
        return spec_of(body, _RULES)

    @property
    def history_minutes(self) -> int:
        """Minutes before its start that the run with the longest warm-up reads, and a bar more."""
        jobs = [backtest_of_spec(self.spec(0, run), Defaults()) for run in range(self.runs_each)]
        return max((job.warmup_bars + 2) * job.timeframe.ms for job in jobs) // MINUTE_MS


@dataclass(frozen=True, slots=True)
class LivePlace:
    """A directory of stores, the DSN of a server, and a feed; `start_ms` is its first minute."""

    directory: Path
    dsn: str
    feed: Any
    crowd: Crowd
    start_ms: int
    minutes: int

    @property
    def environment(self) -> dict[str, str]:
        """Of a runner: the settings of users, messages to nobody."""
        return os.environ | {
            "ROEHUB_ENV": "dev",
            "ROEHUB_DATA_DIR": str(self.directory),
            "STRATEGY_PG_DSN": self.dsn,
        }

    def market(self, number: int) -> Candles:
        """The minutes of an instrument."""
        return market(number, self.start_ms, self.minutes)

    def check(self, run_ids: Sequence[UUID]) -> dict[str, int]:
        """Runs, and bars, trades and differences of them all, against their back-tests."""
        done = _in_store("check", self.directory, self.dsn, *run_ids)
        return json.loads(done.splitlines()[-1])


def market(number: int, start_ms: int, minutes: int) -> Candles:
    """Minutes of an instrument, the same ones in every process."""
    made = made_market(minutes, seed=number)
    return replace(made, ts_open_ms=start_ms + np.arange(minutes) * MINUTE_MS)


@contextmanager
def live_place(
    directory: Path, dsn: str, crowd: Crowd, now_ms: int, ahead: int
) -> Iterator[LivePlace]:
    """Stored minutes around `now_ms`, `ahead` after it, a feed, and runs that were just started."""
    from ingest.stores.valkey import RedisSettings, open_valkey

    before = crowd.history_minutes
    start_ms = (now_ms // MINUTE_MS - before) * MINUTE_MS
    minutes = before + ahead
    _in_store("fill", directory, crowd.instruments, start_ms, minutes)
    with open_valkey(RedisSettings(path=directory / "valkey")) as valkey, ExitStack() as stack:
        client = valkey.blocking_client()
        stack.callback(client.close)
        asyncio.run(_started(dsn, crowd))
        yield LivePlace(directory, dsn, client, crowd, start_ms, minutes)


async def _started(dsn: str, crowd: Crowd) -> None:
    """Strategies and runs of several users, through the stores that the API uses."""
    from cluster.postgres.engine import engine
    from live.strategies.run_store import RunStore
    from live.strategies.store import Draft, StrategyStore

    opened = engine(dsn, application="the benchmark")
    strategies, runs, turns = StrategyStore(opened), RunStore(opened), asyncio.Semaphore(8)

    async def started(number: int, run: int) -> None:
        user = UUID(int=1000 + (number * crowd.runs_each + run) % USERS)
        async with turns:
            made, _ = await strategies.create(Draft(crowd.spec(number, run)), user, most=_MANY)
            await runs.start(made.strategy_id, user, most=_MANY)

    await asyncio.gather(
        *(started(n, run) for n in range(crowd.instruments) for run in range(crowd.runs_each))
    )
    await opened.dispose()


def _in_store(verb: str, directory: Path, *arguments: object) -> str:
    """What a process says that opens the candle store of a place."""
    command = [sys.executable, "-m", "tests.benchmarks.live_place", verb, str(directory)]
    done = subprocess.run(
        [*command, *map(str, arguments)], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout


def _fill(directory: Path, instruments: int, start_ms: int, minutes: int) -> None:
    from ingest.stores.candles import CandleStore
    from ingest.stores.clickhouse import open_clickhouse
    from ingest.stores.migrate import migrate
    from ingest.stores.settings import ClickHouseSettings

    crowd = Crowd(instruments, 1, ("1m",), 0)
    with open_clickhouse(ClickHouseSettings(path=directory / "clickhouse"), "the benchmark") as db:
        migrate(db)
        store = CandleStore(db)
        for number in range(instruments):
            store.insert(_rows(crowd.instrument(number), market(number, start_ms, minutes)))


def _rows(instrument: Instrument, candles: Candles) -> pa.Table:
    """Candles as rows of the store."""
    count = len(candles)
    known: Mapping[str, Any] = {
        "market_id": pa.array(np.full(count, instrument.market_id, np.uint16)),
        "symbol": pa.repeat(pa.scalar(instrument.symbol), count),
        "instrument_key": pa.repeat(pa.scalar(instrument_key(instrument)), count),
        "ts_open": pa.array(candles.ts_open_ms, TIME),
        **{
            name: pa.array(getattr(candles, column).astype(np.float64))
            for name, column in zip(
                ("open", "high", "low", "close", "volume_base"),
                ("open", "high", "low", "close", "volume"),
                strict=True,
            )
        },
        "source": pa.repeat(pa.scalar("ws"), count),
        "ingested_at": pa.array(candles.ts_open_ms + MINUTE_MS, TIME),
    }
    columns = [
        known[one.name] if one.name in known else pa.nulls(count, one.type) for one in CANDLE_SCHEMA
    ]
    return pa.Table.from_arrays(columns, schema=CANDLE_SCHEMA)


def _check(directory: Path, dsn: str, run_ids: Sequence[UUID]) -> dict[str, int]:
    from cluster.postgres.engine import engine
    from ingest.stores.clickhouse import open_clickhouse
    from ingest.stores.settings import ClickHouseSettings
    from live.checks import check_run

    async def checked() -> dict[str, int]:
        opened = engine(dsn, application="the benchmark")
        total = {"runs": 0, "bars": 0, "trades": 0, "differing": 0}
        with open_clickhouse(
            ClickHouseSettings(path=directory / "clickhouse"), "the benchmark"
        ) as db:
            for run_id in run_ids:
                found = await check_run(
                    opened, db, run_id, lambda spec: backtest_of_spec(spec, Defaults())
                )
                total["runs"] += 1
                total["bars"] += found.bars
                total["trades"] += found.trades
                total["differing"] += found.differing
        await opened.dispose()
        return total

    return asyncio.run(checked())


def _main(verb: str, directory: str, *arguments: str) -> None:
    if verb == "fill":
        instruments, start_ms, minutes = map(int, arguments)
        _fill(Path(directory), instruments, start_ms, minutes)
    else:
        dsn, *run_ids = arguments
        print(json.dumps(_check(Path(directory), dsn, [UUID(one) for one in run_ids])))


if __name__ == "__main__":
    _main(*sys.argv[1:])
