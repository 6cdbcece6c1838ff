"""Signals as a question: kept for the next check, whatever a library was doing when they came."""

from __future__ import annotations

import itertools
import os
import signal
import time

import pytest

from compute.market.instrument import Instrument
from ingest.backfill import backfill
from ingest.signals import stoppable
from ingest.stores.candles import CandleStore
from ingest.stores.clickhouse import ClickHouse
from ingest.stores.deletion import EVER, delete_candles
from tests.ingest.candle_tables import candle_table, parquet

ROWS = 2_000
NOW = int(time.time() * 1000)


@pytest.fixture(scope="module")
def store(db: ClickHouse) -> CandleStore:
    return CandleStore(db)


def nth(number: int):
    """A check that raises when it is called the `number`-th time."""
    calls = itertools.count(1)

    def check() -> None:
        if next(calls) == number:
            raise KeyboardInterrupt

    return check


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_a_check_and_a_second_one_does_not(
    number: signal.Signals, capfd: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(number)
    with stoppable("stopping soon") as check:
        check()
        os.kill(os.getpid(), number)
        assert "stopping soon; once more" in capfd.readouterr().err
        with pytest.raises(KeyboardInterrupt):
            check()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert signal.getsignal(number) == before


def test_a_load_may_be_stopped_at_every_check(store: CandleStore, tmp_path) -> None:
    file = parquet(tmp_path / "a.parquet", candle_table(ROWS))
    stored = []
    for number in itertools.count(1):
        instrument = Instrument(1, f"STOP{number}USDT")
        try:
            backfill(
                store, instrument, [file], clock=lambda: NOW, batch_rows=500, check=nth(number)
            )
        except KeyboardInterrupt:
            stored.append(len(store.minutes(instrument, EVER)))
            backfill(store, instrument, [file], clock=lambda: NOW + 1)
            assert len(store.minutes(instrument, EVER)) == ROWS
        else:
            break
    assert stored[0] == 0
    assert stored == sorted(stored)
    assert 0 < stored[-1] < ROWS


def test_a_deletion_is_stopped_before_it_begins_or_not_at_all(store: CandleStore, tmp_path) -> None:
    instrument = Instrument(1, "STOPDELUSDT")
    file = parquet(tmp_path / "a.parquet", candle_table(ROWS))
    backfill(store, instrument, [file], clock=lambda: NOW)
    with pytest.raises(KeyboardInterrupt):
        delete_candles(store, instrument, None, clock=lambda: NOW, dry=False, check=nth(1))
    assert len(store.minutes(instrument, EVER)) == ROWS
    delete_candles(store, instrument, None, clock=lambda: NOW, dry=False, check=nth(2))
    assert len(store.minutes(instrument, EVER)) == 0
