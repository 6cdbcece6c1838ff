"""The embedded store as a thing of one process: its lock, its threads, its forks, its end."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from compute.errors import InvalidInput
from compute.market.instrument import Instrument
from compute.market.period import Period
from ingest.errors import SchemaOutdated, StoreFailed, StoreInUse
from ingest.stores.candles import CandleStore
from ingest.stores.clickhouse import LOCK_NAME, open_clickhouse
from ingest.stores.migrate import migrate
from ingest.stores.settings import ClickHouseSettings
from tests.ingest.stores.made import START_MS, table

ROOT = Path(__file__).parents[3]
HELD = Instrument(1, "HELDUSDT")
YEAR = Period(START_MS, START_MS + 365 * 86_400_000)


@pytest.fixture
def settings(tmp_path: Path) -> ClickHouseSettings:
    return ClickHouseSettings(path=tmp_path / "clickhouse")


@pytest.fixture
def holder(settings: ClickHouseSettings) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the store open."""
    command = [sys.executable, "-m", "tests.ingest.stores.holder", str(settings.path)]
    process = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    yield process
    process.kill()
    process.communicate()


def test_a_taken_store_says_whose_it_is_and_a_dead_owner_blocks_nobody(
    settings: ClickHouseSettings, holder: subprocess.Popen[str]
) -> None:
    with pytest.raises(StoreInUse, match=rf"is used by roehub up \(pid {holder.pid}\)"):
        open_clickhouse(settings)
    holder.kill()  # no farewell: what was acknowledged has to be there
    holder.wait()
    assert settings.path is not None
    assert str(holder.pid) in (settings.path / LOCK_NAME).read_text()
    with open_clickhouse(settings) as db:
        assert len(CandleStore(db).candles(HELD, YEAR)) == 3


def test_a_store_opens_once_in_a_process_and_again_after_its_close(
    settings: ClickHouseSettings, tmp_path: Path
) -> None:
    with open_clickhouse(settings, owner="the tests") as db:
        with pytest.raises(StoreInUse, match=f"the tests \\(pid {os.getpid()}\\)"):
            open_clickhouse(settings)
        with pytest.raises(StoreInUse, match="this process has another one open"):
            open_clickhouse(ClickHouseSettings(path=tmp_path / "another"))
        assert db.ping()
    assert not db.ping()
    with pytest.raises(StoreFailed, match="is closed"):
        db.rows("SELECT 1")
    db.close()
    with open_clickhouse(settings) as again:
        assert again.rows("SELECT 1") == [(1,)]
    with open_clickhouse(ClickHouseSettings(path=tmp_path / "another")) as other:
        assert other.rows("SELECT currentDatabase()") == [("market_data",)]


def test_a_store_without_tables_names_the_cure(settings: ClickHouseSettings) -> None:
    with (
        open_clickhouse(settings) as db,
        pytest.raises(SchemaOutdated, match="run `roehub ingest migrate`"),
    ):
        CandleStore(db).bounds(HELD)


def test_threads_share_an_open_store(settings: ClickHouseSettings) -> None:
    with open_clickhouse(settings) as db, ThreadPoolExecutor(8) as pool:
        migrate(db)
        store = CandleStore(db)

        def work(number: int) -> int:
            instrument = Instrument(1 + number % 4, f"T{number}USDT")
            store.insert(table(instrument, range(number + 1)))
            assert store.missing(instrument, YEAR)[0].start_ms > START_MS
            return len(store.candles(instrument, YEAR))

        assert list(pool.map(work, range(24))) == list(range(1, 25))
        assert len(store.instruments()) == 24


def test_a_forked_child_is_refused_at_once(settings: ClickHouseSettings) -> None:
    """It would hang in the engine."""
    with open_clickhouse(settings) as db:
        child = os.fork()
        if child == 0:
            try:
                db.rows("SELECT 1")
            except StoreFailed as error:
                os._exit(7 if "forked" in error.message else 8)
            finally:
                db.close()  # must not touch the parent's
                os._exit(9)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert db.rows("SELECT 1") == [(1,)]
        with pytest.raises(StoreInUse):
            open_clickhouse(settings)


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput, match="cannot be used: Not a directory"):
        open_clickhouse(ClickHouseSettings(path=tmp_path / "file" / "clickhouse"))


def test_a_strange_database_name_is_only_a_name(settings: ClickHouseSettings) -> None:
    odd = ClickHouseSettings(path=settings.path, database="a`b\\c'd")
    with open_clickhouse(odd) as db:
        migrate(db)
        assert db.rows("SELECT currentDatabase()") == [("a`b\\c'd",)]
        assert CandleStore(db).insert(table(HELD, range(2))) == 2
        assert len(CandleStore(db).candles(HELD, YEAR)) == 2


def test_an_urgent_insert_waits_for_one_statement_however_many_want_a_turn(
    settings: ClickHouseSettings,
) -> None:
    """A live candle beside the fills of a long history, in one process."""
    done: list[str] = []
    instrument = Instrument(1, "URGENTUSDT")

    def slow() -> None:
        db.rows("SELECT sleepEachRow(0.05) FROM numbers(4)")
        done.append("slow")

    def insert() -> None:
        store.insert(table(instrument, range(3)), urgent=True)
        done.append("urgent")

    with open_clickhouse(settings) as db, ThreadPoolExecutor(8) as pool:
        migrate(db)
        store = CandleStore(db)
        store.insert(table(instrument, range(1)))  # knows its columns from then on
        waits = [pool.submit(slow) for _ in range(6)]
        while not done:
            time.sleep(0.001)
        waits.append(pool.submit(insert))
        for wait in waits:
            wait.result(60)
    assert sorted(done) == ["slow"] * 6 + ["urgent"]
    assert done.index("urgent") <= 2  # the one that ran, and one that may just have begun
