"""Migrations: numbered, applied once, safe to run twice, and refused when they were changed."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from compute.market.instrument import Instrument
from compute.market.period import Period
from ingest.errors import SchemaOutdated, StoreFailed
from ingest.exchanges.registry import MARKETS
from ingest.stores.candles import CandleStore
from ingest.stores.clickhouse import ClickHouse
from ingest.stores.migrate import DIRECTORY, Migration, migrate, migrations, require_schema
from tests.ingest.stores.made import START_MS, table

NAMES = [
    "0001_reference", "0002_raw", "0003_canonical", "0004_views",
    "0005_gap_ledger", "0006_quality", "0007_listings",
]  # fmt: skip


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A copy of the migrations, to be changed."""
    return Path(shutil.copytree(DIRECTORY, tmp_path / "migrations"))


def tables(db: ClickHouse) -> list[str]:
    rows = db.rows(
        "SELECT name FROM system.tables WHERE database = currentDatabase() ORDER BY name"
    )
    return [row[0] for row in rows]


def test_migrating_again_changes_nothing(db: ClickHouse) -> None:
    before = tables(db)
    assert migrate(db) == []
    require_schema(db)
    assert tables(db) == before
    rows = db.rows("SELECT name FROM schema_migrations FINAL ORDER BY version")
    assert [row[0] for row in rows] == NAMES == [m.name for m in migrations()]


def test_every_statement_may_run_twice(db: ClickHouse) -> None:
    """So one that was cut off in the middle is begun again."""
    CandleStore(db).insert(table(Instrument(1, "TWICEUSDT"), range(3)))
    for migration in migrations():
        for statement in migration.statements:
            db.command(statement)
    period = Period(START_MS, START_MS + 86_400_000)
    assert len(CandleStore(db).candles(Instrument(1, "TWICEUSDT"), period)) == 3


def test_a_changed_file_is_refused(db: ClickHouse, directory: Path) -> None:
    file = directory / "0003_canonical.sql"
    file.write_text(file.read_text() + "\n-- harmless\n")
    for check in (migrate, require_schema):
        with pytest.raises(SchemaOutdated, match=r"0003_canonical .* never changes"):
            check(db, directory)


def test_a_store_that_is_ahead_is_refused(db: ClickHouse, directory: Path) -> None:
    (directory / "0007_listings.sql").unlink()
    for check in (migrate, require_schema):
        with pytest.raises(SchemaOutdated, match="0007_listings, which this version"):
            check(db, directory)


def test_a_store_that_is_behind_names_what_it_lacks(db: ClickHouse, directory: Path) -> None:
    (directory / "0900_later.sql").write_text(
        "CREATE TABLE IF NOT EXISTS later (a UInt8) ENGINE = Memory;\nnonsense;\n"
    )
    with pytest.raises(SchemaOutdated, match="lacks 0900_later; run `roehub ingest migrate`"):
        require_schema(db, directory)
    with pytest.raises(StoreFailed, match="refused a statement"):
        migrate(db, directory)
    with pytest.raises(SchemaOutdated, match="lacks 0900_later"):  # half done is not done
        require_schema(db, directory)
    require_schema(db)


def test_statements_are_cut_at_semicolons_that_end_a_line() -> None:
    text = "-- a; b\nSELECT ';' ;\n\n  -- c\nSELECT 2\n  , 3;\n;\nSELECT 4"
    assert Migration(1, "x", text).statements == ["SELECT ';'", "SELECT 2\n  , 3", "SELECT 4"]


def test_raw_tables_are_those_of_the_registry(db: ClickHouse) -> None:
    assert {market.raw_table for market in MARKETS.values()} == {
        name for name in tables(db) if name.startswith("raw_")
    }


def test_partitions_are_months_and_raw_rows_expire(db: ClickHouse) -> None:
    rows = db.rows(
        "SELECT name, partition_key, create_table_query FROM system.tables "
        "WHERE database = currentDatabase() AND name LIKE '%1m' AND engine LIKE '%MergeTree'"
    )
    assert len(rows) == 3
    for name, partition_key, statement in rows:
        assert partition_key.startswith("toYYYYMM(")
        expires = re.search(r"TTL toDateTime\(ingested_at\) \+ toIntervalDay\(180\)", statement)
        assert bool(expires) == name.startswith("raw_")


def test_an_expired_raw_row_leaves_its_candle(db: ClickHouse) -> None:
    instrument = Instrument(3, "OLDUSDT")
    rows = table(instrument, range(4))
    old = rows.set_column(
        rows.schema.get_field_index("ingested_at"),
        rows.schema.field("ingested_at"),
        rows.column("ts_open"),  # written when they happened, years ago
    )
    store, period = CandleStore(db), Period(START_MS, START_MS + 86_400_000)
    store.insert(old)
    assert store.raw_count(instrument, period) == 4
    db.command("SYSTEM START TTL MERGES")
    try:
        db.command("OPTIMIZE TABLE raw_bybit_klines_1m FINAL")
    finally:
        db.command("SYSTEM STOP TTL MERGES")
    assert store.raw_count(instrument, period) == 0
    assert len(store.candles(instrument, period)) == 4
