"""Section backfill: a million candles from files into the store, and what memory they take.

Each measurement is a process of its own with a store of its own, for its peak memory and because
an embedded store may not be forked. The roofline is the bare `insert_arrow` of the driver with
the same rows, in the same batches, into the same raw table, view and all; the backfill reads the
file twice, checks every row and brings it in order on top of that.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from compute.quantities import spaced
from tests.benchmarks.findings import Findings, Goal, Table
from tests.benchmarks.observed import ROOT, peak_rss_bytes
from tests.benchmarks.options import Options

MIB: Final = 1 << 20
SYMBOL: Final = "FILEUSDT"
FORMS: Final = ("bare insert_arrow", "sorted.parquet", "shuffled.parquet", "sorted.csv")


def section_backfill(options: Options) -> Findings:
    """Rows a second of every kind of file beside the bare insert; memory over the rows."""
    rows = 200_000 if options.quick else 1_000_000
    with tempfile.TemporaryDirectory(prefix="roehub-bench-") as scratch:
        place = Path(scratch)
        _child("files", place, rows)
        found: dict[str, list[dict[str, float]]] = {form: [] for form in FORMS}
        for round_ in range(options.few):
            for form in FORMS:
                options.say(f"backfill: round {round_ + 1}, {rows} rows, {form}")
                found[form].append(_child("load", place, form, 1))
        options.say(f"backfill: memory of {4 * rows} rows")
        many = {form: _child("load", place, form, 4) for form in FORMS}
    best = {form: min(one["seconds"] for one in ones) for form, ones in found.items()}
    peak = {
        form: statistics.median(one["peak_bytes"] for one in ones) for form, ones in found.items()
    }
    bare = best[FORMS[0]]
    table = Table(
        f"{spaced(rows)} candles into the embedded store, from files",
        ("from", "seconds", "rows/s", "of the bare insert", "peak MiB", "peak MiB of 4 times"),
        [
            (
                form,
                best[form],
                rows / best[form],
                bare / best[form],
                peak[form] / MIB,
                many[form]["peak_bytes"] / MIB,
            )
            for form in FORMS
        ],
        "best seconds and median memory of the rounds, a process each, chDB included; imports are "
        "done before; the bare insert holds all its rows",
    )

    def growth(form: str) -> float:
        """Memory that four times the rows take more, the store's own included."""
        return (many[form]["peak_bytes"] - peak[form]) / MIB

    full = not options.quick
    goals = [
        Goal(
            "backfill of sorted Parquet", "at least", 300_000, rows / best["sorted.parquet"],
            "rows/s", judged=full,
        ),
        Goal(
            "four times the rows, sorted: more memory", "at most", 64,
            growth("sorted.parquet"), "MiB", judged=full,
        ),
        Goal(
            "four times the rows, shuffled: more memory", "at most", 64,
            growth("shuffled.parquet"), "MiB", judged=full,
        ),
    ]  # fmt: skip
    return Findings("backfill", [table], goals)


def _child(work: str, place: Path, *arguments: object) -> dict[str, Any]:
    command = [
        sys.executable, "-m", "tests.benchmarks.backfill", work, str(place), *map(str, arguments),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def make_files(place: Path, rows: int) -> dict[str, Any]:
    """Writes the same candles as files of every kind, `rows` and four times as many."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.csv as pc
    import pyarrow.parquet as pq

    from ingest.file_rows import ROW_SCHEMA
    from tests.benchmarks.candle_store import _rows

    pq.write_table(_rows(SYMBOL, 1_000, 0).select(ROW_SCHEMA.names), place / "few.parquet")
    for times in (1, 4):
        table = _rows(SYMBOL, times * rows, 0).select(ROW_SCHEMA.names)
        order = pa.array(np.random.default_rng(1).permutation(times * rows))
        pq.write_table(table, place / f"{times}-sorted.parquet")
        pq.write_table(table.take(order), place / f"{times}-shuffled.parquet")
        at = table.schema.get_field_index("ts_open")
        numbered = table.set_column(at, "ts_open", table.column("ts_open").cast(pa.int64()))
        pc.write_csv(numbered, place / f"{times}-sorted.csv")
    return {}


def load(place: Path, form: str, times: int) -> dict[str, float]:
    """Seconds and peak memory of loading one file into a new store."""
    from compute.market.instrument import Instrument
    from ingest.backfill import backfill
    from ingest.stores.candles import CandleStore
    from ingest.stores.clickhouse import open_clickhouse
    from ingest.stores.migrate import migrate
    from ingest.stores.settings import ClickHouseSettings

    instrument = Instrument(1, SYMBOL)
    settings = ClickHouseSettings(path=Path(tempfile.mkdtemp(dir=place)) / "clickhouse")
    with open_clickhouse(settings, owner="the benchmark") as db:
        migrate(db)
        store = CandleStore(db)
        # Imports and first uses of the libraries are a command's start, not its rate.
        backfill(store, Instrument(1, "FEWUSDT"), [place / "few.parquet"], clock=_now_ms)
        if form == FORMS[0]:
            seconds = _bare(store, place / f"{times}-sorted.parquet", instrument)
        else:
            began = time.perf_counter()
            backfill(store, instrument, [place / f"{times}-{form}"], clock=_now_ms)
            seconds = time.perf_counter() - began
        return {"seconds": seconds, "peak_bytes": peak_rss_bytes()}


def _now_ms() -> int:
    return int(time.time() * 1000)


def _bare(store: Any, path: Path, instrument: Any) -> float:
    """Seconds that the driver alone takes for rows that are ready, a batch at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from ingest.backfill import BATCH_ROWS
    from ingest.file_rows import stamped
    from ingest.rows import Origin
    from ingest.stores.raw_tables import raw_rows

    names = [
        name
        for (name,) in store.db.rows(
            "SELECT name FROM system.columns WHERE database = currentDatabase() "
            "AND table = 'raw_binance_klines_1m' ORDER BY position"
        )
    ]
    origin = Origin("file", _now_ms())
    ready = [
        raw_rows("raw_binance_klines_1m", names, rows)
        for batch in pq.ParquetFile(path).iter_batches(BATCH_ROWS)
        for rows in [stamped(pa.Table.from_batches([batch]), instrument, origin)]
    ]
    began = time.perf_counter()
    for rows in ready:
        store.db.insert("raw_binance_klines_1m", rows)
    return time.perf_counter() - began


if __name__ == "__main__":
    place = Path(sys.argv[2])
    if sys.argv[1] == "files":
        print(json.dumps(make_files(place, int(sys.argv[3]))))
    else:
        print(json.dumps(load(place, sys.argv[3], int(sys.argv[4]))))
