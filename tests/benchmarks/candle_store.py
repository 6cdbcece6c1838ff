"""Section store: an instrument-year of minutes out of the store, and rows into it.

The store is the embedded one, in a process of its own: it may not be forked, and it is let go with
its process. The roofline of an insert is the bare `insert_arrow` of the driver into the same raw
table, view and all; what the store adds is checking, ordering and naming. The roofline of a read
is the same columns from one merged part without looking for versions.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from compute.quantities import spaced
from tests.benchmarks.findings import Findings, Goal, Table
from tests.benchmarks.options import Options

ROOT: Final = Path(__file__).parents[2]
YEAR_MINUTES: Final = 525_600
START_MS: Final = 1_640_995_200_000  # 2022-01-01


def section_store(options: Options) -> Findings:
    """Reading a year into the engine's arrays, and the insert rate beside the driver's."""
    rows = 200_000 if options.quick else 1_000_000
    options.say(f"store: {rows} rows in, a year out")
    with tempfile.TemporaryDirectory(prefix="roehub-bench-") as scratch:
        command = [
            sys.executable, "-m", "tests.benchmarks.candle_store",
            scratch, str(rows), str(options.few),
        ]  # fmt: skip
        done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    inserts = Table(
        f"{spaced(rows)} candles into the embedded store, rows at hand",
        ("insert", "seconds", "rows/s", "of the bare insert"),
        [
            (name, seconds, rows / seconds, found["inserts"]["bare insert_arrow"] / seconds)
            for name, seconds in found["inserts"].items()
        ],
        "best of the rounds; each goes to a raw table and, by its view, to the candles",
    )
    reads = Table(
        "One instrument-year of minutes, 525 600 candles, into the engine's arrays",
        ("read", "seconds", "of the bare read"),
        [
            (name, seconds, seconds / found["reads"]["bare columns, one merged part"])
            for name, seconds in found["reads"].items()
        ],
        "best of the rounds; versions and merges are those the name tells",
    )
    best = found["inserts"]["bare insert_arrow"]
    goals = [
        Goal("a year of minutes into arrays, fresh", "at most", 1.0, found["reads"]["fresh"], "s"),
        Goal(
            "a year of minutes into arrays, three versions of each", "at most", 1.0,
            found["reads"]["three versions of every minute"], "s",
        ),
        Goal(
            "insert beside the bare insert_arrow", "at least", 0.8,
            best / found["inserts"]["store, sorted"], judged=not options.quick,
        ),
    ]  # fmt: skip
    return Findings("store", [inserts, reads], goals)


def measured(directory: Path, rows: int, rounds: int) -> dict[str, dict[str, float]]:
    """Seconds by name of what is measured, in this process."""
    import numpy as np
    import pyarrow as pa

    from compute.market.instrument import Instrument
    from compute.market.period import Period
    from ingest.rows import MINUTE_MS
    from ingest.stores.candles import CandleStore
    from ingest.stores.clickhouse import open_clickhouse
    from ingest.stores.migrate import migrate
    from ingest.stores.raw_tables import raw_rows
    from ingest.stores.settings import ClickHouseSettings

    with open_clickhouse(ClickHouseSettings(path=directory), owner="the benchmark") as db:
        migrate(db)
        store = CandleStore(db)
        columns = [
            name
            for (name,) in db.rows(
                "SELECT name FROM system.columns WHERE database = currentDatabase() "
                "AND table = 'raw_binance_klines_1m' ORDER BY position"
            )
        ]
        shuffle = pa.array(np.random.default_rng(1).permutation(rows))
        made = [_rows(f"IN{round_}", rows, 0) for round_ in range(rounds)]
        raw = [raw_rows("raw_binance_klines_1m", columns, table) for table in made]
        mixed = [table.take(shuffle) for table in made]
        inserts = {
            "bare insert_arrow": _best(
                [lambda one=one: db.insert("raw_binance_klines_1m", one) for one in raw]
            ),
            "store, sorted": _best([lambda one=one: store.insert(one) for one in made]),
            "store, unsorted": _best([lambda one=one: store.insert(one) for one in mixed]),
        }

        year, instrument = Period(START_MS, START_MS + YEAR_MINUTES * MINUTE_MS), _instrument("Y")
        store.insert(_rows("Y", YEAR_MINUTES, 0))

        def read(one: Instrument = instrument) -> None:
            assert len(store.candles(one, year)) == YEAR_MINUTES

        reads = {"fresh": _best([read] * rounds)}
        for version in (1, 2):
            store.insert(_rows("Y", YEAR_MINUTES, version))
        reads["three versions of every minute"] = _best([read] * rounds)
        db.command("OPTIMIZE TABLE canonical_candles_1m FINAL")
        reads["merged"] = _best([read] * rounds)
        db.command(
            "CREATE TABLE bare ENGINE = MergeTree ORDER BY t AS SELECT "
            "toUnixTimestamp64Milli(ts_open) AS t, toFloat32(open) AS o, toFloat32(high) AS h, "
            "toFloat32(low) AS l, toFloat32(close) AS c, toFloat32(volume_base) AS v "
            "FROM canonical_candles_1m FINAL WHERE symbol = 'Y'"
        )
        reads["bare columns, one merged part"] = _best(
            [lambda: db.arrow("SELECT t, o, h, l, c, v FROM bare ORDER BY t")] * rounds
        )
    return {"inserts": inserts, "reads": reads}


def _instrument(symbol: str) -> Any:
    from compute.market.instrument import Instrument

    return Instrument(1, symbol)


def _rows(symbol: str, count: int, version: int) -> Any:
    """A seeded walk as rows of the store, two decimals to a price as exchanges have them."""
    import numpy as np
    import pyarrow as pa

    from ingest.rows import CANDLE_SCHEMA, MINUTE_MS, TIME, instrument_key

    random = np.random.default_rng(version)
    close = np.round(30_000 * np.exp(np.cumsum(random.normal(0, 5e-4, count))), 2)
    open_ = np.append(close[:1], close[:-1])
    reach = np.round(random.random(count) * 10, 2)
    base = np.round(random.random(count) * 100, 5)
    columns = {
        "market_id": pa.array(np.ones(count, np.uint16)),
        "symbol": pa.repeat(pa.scalar(symbol), count),
        "instrument_key": pa.repeat(pa.scalar(instrument_key(_instrument(symbol))), count),
        "ts_open": pa.array(START_MS + np.arange(count) * MINUTE_MS, TIME),
        "open": pa.array(open_),
        "high": pa.array(np.maximum(open_, close) + reach),
        "low": pa.array(np.minimum(open_, close) - reach),
        "close": pa.array(close),
        "volume_base": pa.array(base),
        "volume_quote": pa.array(base * close),
        "trades_count": pa.array((base * 10).astype(np.uint32)),
        "taker_buy_volume_base": pa.array(base / 2),
        "taker_buy_volume_quote": pa.array(base * close / 2),
        "source": pa.repeat(pa.scalar("file"), count),
        "ingested_at": pa.array(np.full(count, int(time.time() * 1000) + version), TIME),
        "ingest_id": pa.nulls(count, pa.string()),
    }
    return pa.Table.from_arrays([columns[n] for n in CANDLE_SCHEMA.names], schema=CANDLE_SCHEMA)


def _best(calls: list[Callable[[], object]]) -> float:
    """Seconds of the fastest call; the first is warm-up where there are more."""
    taken: list[float] = []
    for call in calls:
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return min(taken)


if __name__ == "__main__":
    print(json.dumps(measured(Path(sys.argv[1], "clickhouse"), *map(int, sys.argv[2:]))))
