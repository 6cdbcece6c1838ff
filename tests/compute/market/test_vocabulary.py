from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from compute.errors import InvalidInput
from compute.market.instrument import MARKETS, Instrument
from compute.market.period import Period, epoch_ms, instant
from compute.market.timeframe import TIMEFRAMES, timeframe


def test_timeframes_are_the_six_of_the_contract() -> None:
    seconds = {code: frame.ms / 1000 for code, frame in TIMEFRAMES.items()}
    assert seconds == {"1m": 60, "5m": 300, "15m": 900, "1h": 3600, "4h": 14400, "1d": 86400}


def test_timeframe_is_trimmed_and_lower_cased() -> None:
    assert timeframe(" 15M\n") is TIMEFRAMES["15m"]
    assert str(timeframe("1H")) == "1h"


@pytest.mark.parametrize("text", ["7m", "", "1 m", "60", None, 15])
def test_unknown_timeframe_names_the_known_ones(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"not supported; use one of 1m 5m 15m 1h 4h 1d$"):
        timeframe(text)


def test_instrument_is_normalised_and_written_with_its_market() -> None:
    instrument = Instrument(1, " btcusdt ")
    assert str(instrument) == "1:BTCUSDT"
    assert instrument == Instrument(1, "BTCUSDT")
    assert instrument.market == MARKETS[1] == "binance spot"
    assert Instrument(9, "X").market == "market 9"
    assert Instrument.parse("4: bnbusdt") == Instrument(4, "BNBUSDT")


@pytest.mark.parametrize("market_id", [0, -1, True, 1.0, "1", None])
def test_market_id_must_be_a_positive_integer(market_id: int) -> None:
    with pytest.raises(InvalidInput, match="market_id must be"):
        Instrument(market_id, "BTCUSDT")


@pytest.mark.parametrize("symbol", ["", "   ", None, 5])
def test_symbol_must_be_text(symbol: str) -> None:
    with pytest.raises(InvalidInput, match="symbol must be a non-empty text"):
        Instrument(1, symbol)


@pytest.mark.parametrize("text", ["BTCUSDT", "x:BTC", "-1:BTC", "²:BTC", ":BTC"])
def test_instrument_text_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="write it like 1:BTCUSDT"):
        Instrument.parse(text)


def test_period_truncates_to_milliseconds_and_keeps_the_instant() -> None:
    start = datetime(2026, 1, 1, 2, 0, 0, 1999, tzinfo=timezone(timedelta(hours=2)))
    period = Period.of(start, datetime(2026, 1, 2, tzinfo=UTC))
    assert instant(period.start_ms) == "2026-01-01T00:00:00.001Z"
    assert instant(period.end_ms) == "2026-01-02T00:00:00Z"
    assert period.duration_ms == 86_399_999
    assert period == Period.parse("2026-01-01T00:00:00.001Z", "2026-01-02T00:00:00+00:00")
    assert str(period) == "[2026-01-01T00:00:00.001Z, 2026-01-02T00:00:00Z)"


def test_epoch_ms_is_exact_far_from_the_epoch() -> None:
    assert epoch_ms(datetime(2262, 4, 11, 23, 47, 16, 854_999, tzinfo=UTC)) == 9_223_372_036_854
    assert epoch_ms(datetime(1969, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)) == -1


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        ("2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z", "must have start < end"),
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00.000900Z", "must have start < end"),
        ("2026-01-01T00:00:00", "2026-01-02T00:00:00Z", "no time zone; add Z"),
        ("2026-01-01", "2026-01-02", "no time zone; add Z"),
        ("yesterday", "2026-01-02T00:00:00Z", "not ISO 8601; write it like"),
    ],
)
def test_impossible_periods_are_refused(start: str, end: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        Period.parse(start, end)


def test_period_outside_the_calendar_is_refused() -> None:
    with pytest.raises(InvalidInput, match="outside the years 1 to 9999"):
        Period(0, 10**18)
