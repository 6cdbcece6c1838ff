"""Candles on their way to the store: one parsed candle, one Arrow schema, one set of rules."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from compute.errors import InvalidInput
from compute.market.instrument import Instrument

MINUTE_MS: Final = 60_000
DAY_MS: Final = 86_400_000
SYNTHETIC: Final = "synthetic"
"""The source of candles that a generator made and a file declared to be so."""
SOURCES: Final = ("ws", "rest", "file", SYNTHETIC)

FIRST_STORED_MS: Final = 0
LAST_STORED_MS: Final = 4_102_444_800_000  # 2100-01-01: what ClickHouse makes a month of
"""Bounds of the minutes a store takes, half-open."""

TIME: Final = pa.timestamp("ms", "UTC")
CANDLE_SCHEMA: Final = pa.schema(
    [
        pa.field("market_id", pa.uint16(), nullable=False),
        pa.field("symbol", pa.string(), nullable=False),
        pa.field("instrument_key", pa.string(), nullable=False),
        pa.field("ts_open", TIME, nullable=False),
        pa.field("open", pa.float64(), nullable=False),
        pa.field("high", pa.float64(), nullable=False),
        pa.field("low", pa.float64(), nullable=False),
        pa.field("close", pa.float64(), nullable=False),
        pa.field("volume_base", pa.float64(), nullable=False),
        pa.field("volume_quote", pa.float64()),
        pa.field("trades_count", pa.uint32()),
        pa.field("taker_buy_volume_base", pa.float64()),
        pa.field("taker_buy_volume_quote", pa.float64()),
        pa.field("source", pa.string(), nullable=False),
        pa.field("ingested_at", TIME, nullable=False),
        pa.field("ingest_id", pa.string()),
    ]
)
"""A row of the store. `ts_close` is not carried: it is `ts_open` and a minute, always."""

_PRICES: Final = ("open", "high", "low", "close")
_VOLUMES: Final = ("volume_base", "volume_quote", "taker_buy_volume_base", "taker_buy_volume_quote")


@dataclass(frozen=True, slots=True)
class Candle:
    """One minute of an instrument, as an exchange or a file told it; nothing is checked yet."""

    instrument: Instrument
    ts_open_ms: int
    open: float
    high: float
    low: float
    close: float
    volume_base: float
    volume_quote: float | None = None
    trades_count: int | None = None
    taker_buy_volume_base: float | None = None
    taker_buy_volume_quote: float | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """Who wrote a candle and when: `source` of `SOURCES`, the row's version, the run's UUID.

    Raises:
        InvalidInput: another source.
    """

    source: str
    ingested_at_ms: int
    ingest_id: str | None = None

    def __post_init__(self) -> None:
        if self.source not in SOURCES:
            raise InvalidInput(f"source {self.source!r} is none of {', '.join(SOURCES)}")


@dataclass(frozen=True, slots=True)
class Fault:
    """A row, counted from 0, that is no candle, and why."""

    row: int
    reason: str


def floor_minute(ms: int) -> int:
    """The minute that `ms` lies in."""
    return ms // MINUTE_MS * MINUTE_MS


def floor_day(ms: int) -> int:
    """The UTC midnight at or before `ms`."""
    return ms // DAY_MS * DAY_MS


def table_of(candles: Sequence[Candle], origin: Origin | Sequence[Origin]) -> pa.Table:
    """The candles as rows of `CANDLE_SCHEMA`, of one origin or each of its own.

    Raises:
        InvalidInput: origins that are not as many as the candles, a market nobody knows.
    """
    origins = [origin] * len(candles) if isinstance(origin, Origin) else origin
    if len(origins) != len(candles):
        raise InvalidInput(f"{len(candles)} candles need as many origins, got {len(origins)}")
    keys = {i: instrument_key(i) for i in {candle.instrument for candle in candles}}
    columns: dict[str, list[Any]] = {
        "market_id": [candle.instrument.market_id for candle in candles],
        "symbol": [candle.instrument.symbol for candle in candles],
        "instrument_key": [keys[candle.instrument] for candle in candles],
        "ts_open": [candle.ts_open_ms for candle in candles],
        "source": [one.source for one in origins],
        "ingested_at": [one.ingested_at_ms for one in origins],
        "ingest_id": [one.ingest_id for one in origins],
    }
    for name in (*_PRICES, *_VOLUMES, "trades_count"):
        columns[name] = [getattr(candle, name) for candle in candles]
    arrays = [pa.array(columns[field.name], field.type) for field in CANDLE_SCHEMA]
    return pa.Table.from_arrays(arrays, schema=CANDLE_SCHEMA)


def faults(table: pa.Table) -> list[Fault]:
    """Every row of a `CANDLE_SCHEMA` table that is no candle, ascending, its first reason each.

    A candle opens on a whole minute, has finite positive prices, a high and a low around open and
    close, and finite volumes that are not negative; all but `volume_base` may be missing.
    """
    times = _numbers(table, "ts_open")
    checks: list[tuple[str, NDArray[np.bool_]]] = [
        ("ts_open is not on a whole minute", times % MINUTE_MS != 0),
        (
            "ts_open lies outside the years 1970 to 2099",
            (times < FIRST_STORED_MS) | (times >= LAST_STORED_MS),
        ),
    ]
    prices = {name: _numbers(table, name) for name in _PRICES}
    for name, values in prices.items():
        checks.append((f"{name} is not finite and positive", ~(np.isfinite(values) & (values > 0))))
    open_, high, low, close = prices.values()
    checks.append(("high is below open or close", high < np.maximum(open_, close)))
    checks.append(("low is above open or close", low > np.minimum(open_, close)))
    for name in _VOLUMES:
        column = table.column(name)
        values = _numbers(table, name)
        bad = ~(np.isfinite(values) & (values >= 0))
        if column.null_count:
            null = column.is_null().to_numpy()
            bad &= ~null
            if not CANDLE_SCHEMA.field(name).nullable:  # the store would make it 0
                checks.append((f"{name} is missing", null))
        checks.append((f"{name} is negative or not finite", bad))
    found: dict[int, str] = {}
    for reason, bad in checks:
        if bad.any():
            for row in np.flatnonzero(bad):
                found.setdefault(int(row), reason)
    return [Fault(row, found[row]) for row in sorted(found)]


def whole(candle: Candle) -> bool:
    """Whether one candle passes the rules of `faults`, without making a table of it."""
    prices = (candle.open, candle.high, candle.low, candle.close)
    volumes = [v for name in _VOLUMES if (v := getattr(candle, name)) is not None]
    return (
        candle.ts_open_ms % MINUTE_MS == 0
        and FIRST_STORED_MS <= candle.ts_open_ms < LAST_STORED_MS
        and all(math.isfinite(price) and price > 0 for price in prices)
        and candle.high >= max(candle.open, candle.close)
        and candle.low <= min(candle.open, candle.close)
        and candle.volume_base is not None
        and all(math.isfinite(volume) and volume >= 0 for volume in volumes)
        and (candle.trades_count is None or candle.trades_count >= 0)
    )


def instrument_key(instrument: Instrument) -> str:
    """Trace name of an instrument, `<exchange>:<market type>:<SYMBOL>`; never its identity.

    Raises:
        InvalidInput: no exchange has the instrument's market.
    """
    from ingest.exchanges.registry import market  # exchanges are parsers of candles: they need us

    return f"{market(instrument.market_id).code}:{instrument.symbol}"


def _numbers(table: pa.Table, name: str) -> NDArray[Any]:
    """A column as int64 or float64; nulls are NaN."""
    column = table.column(name)
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    return np.asarray(column.to_numpy())
