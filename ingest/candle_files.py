"""Candles from one Parquet or CSV file, checked row by row.

Columns: `ts_open` (int64 UTC milliseconds, or a timestamp with a zone), `open`, `high`, `low`,
`close` and `volume_base` (or `volume`); `market_id` and `symbol` may be there, others are ignored.
Every refusal names the file, the first rows concerned (of Parquet counted from 0, of CSV by their
lines) and the cure. PyArrow is imported inside the functions: it costs more than this whole module.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from compute.errors import InvalidCandles, InvalidInput
from compute.market.candles import SERIES, Candles
from compute.market.instrument import Instrument
from compute.market.period import FIRST_MS, LAST_MS, instant
from compute.market.timeframe import TIMEFRAMES, Timeframe, timeframe
from ingest.candle_columns import (
    OPTIONAL_NAMES,
    SYNTHETIC_METADATA,
    TIMEFRAME_METADATA,
    Columns,
    attempted,
    opened,
    places,
)

ROWS_SHOWN: Final = 5

_UNIT_PER_MS: Final = {"ms": 1, "us": 1_000, "ns": 1_000_000}


@dataclass(frozen=True, slots=True, eq=False)
class CandleFile:
    """What a candle file holds.

    `candles` ascend strictly, lie on the grid of `frame` and are finite and possible; minutes the
    file declares missing are left out, so `rows`, the rows of the file, may be more. `instrument`
    is the file's own, else the one asked for, else None; `unnamed` are the columns that the file
    lacks to say it alone. `synthetic` repeats the file's label.
    """

    candles: Candles
    frame: Timeframe
    instrument: Instrument | None
    unnamed: tuple[str, ...]
    rows: int
    synthetic: bool


def read_candles(
    path: str | Path,
    *,
    timeframe: str | None = None,
    instrument: Instrument | None = None,
) -> CandleFile:
    """The candles of the Parquet or CSV file at `path`, told apart by the name's ending.

    `timeframe` overrules the file's metadata, which overrules the greatest supported frame that
    divides every spacing. An `instrument` must agree with the file's `market_id` and `symbol`,
    where it has them. A row whose five values are all NaN or null is a missing candle.

    Raises:
        InvalidCandles: the file cannot be read, or holds anything but clean candles.
        InvalidInput: `timeframe` names no supported frame.
    """
    path = Path(path)
    columns = opened(path)
    times = _times(path, columns.column("ts_open"))
    if len(times) == 0:
        raise InvalidCandles(f"{path}: the file has no rows; it holds no candle")
    _refuse_disorder(path, times)
    series: dict[str, NDArray[np.float32]] = {}
    for name in SERIES:
        column_name = columns.volume_name if name == "volume" else name
        series[name] = _values(path, column_name, columns.column(column_name))
    frame = _frame(path, times, timeframe, columns.metadata.get(TIMEFRAME_METADATA))
    whole = _whole_rows(path, series)
    _refuse_impossible(path, series, whole)

    candles = Candles(times, *(series[name] for name in SERIES))
    return CandleFile(
        candles=candles if bool(whole.all()) else candles.take(whole),
        frame=frame,
        instrument=_instrument(path, columns, instrument),
        unnamed=tuple(name for name in OPTIONAL_NAMES if name not in columns.names),
        rows=len(times),
        synthetic=columns.metadata.get(SYNTHETIC_METADATA) == "true",
    )


def _times(path: Path, column: Any) -> NDArray[np.int64]:
    """UTC milliseconds of every row."""
    import pyarrow as pa

    kind = column.type
    if not (pa.types.is_integer(kind) or pa.types.is_timestamp(kind)):
        raise InvalidCandles(
            f"{path}: ts_open is {kind}; it must be int64 UTC milliseconds or a timestamp with zone"
        )
    if column.null_count:
        _refuse(path, "ts_open is empty", column.is_null().to_numpy(), "give every row its time")
    if pa.types.is_integer(kind):
        times = np.asarray(attempted(path, lambda: column.cast(pa.int64())).to_numpy())
    elif kind.tz is None:
        raise InvalidCandles(
            f"{path}: ts_open is a timestamp without a time zone, so its instant is unknown; "
            f"store it as UTC (Arrow type timestamp[ms, UTC], in CSV 2026-01-01T00:00:00Z)"
        )
    else:
        times = np.asarray(column.cast(pa.int64()).to_numpy())
        if kind.unit == "s":
            times = np.clip(times, FIRST_MS, LAST_MS + 1) * 1000
        elif (unit := _UNIT_PER_MS[kind.unit]) > 1:
            broken = times % unit != 0
            _refuse_any(path, "ts_open is not a whole millisecond", broken, "round it to the bar")
            times = times // unit
    far = (times < FIRST_MS) | (times > LAST_MS)
    cure = "ts_open must be milliseconds, not micro- or nanoseconds"
    _refuse_any(path, "ts_open lies outside the years 1 to 9999", far, cure)
    return times


def _values(path: Path, name: str, column: Any) -> NDArray[np.float32]:
    """One series as float32; nulls are NaN, values beyond float32 infinite."""
    import pyarrow as pa

    kind = column.type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind)):
        texts = pa.types.is_string(kind) or pa.types.is_large_string(kind)
        odd = _first_non_numbers(column) if texts else []
        shown = "".join(f"; {places(path, [row])} holds {text!r}" for row, text in odd)
        raise InvalidCandles(
            f"{path}: column {name} is {kind}, not numbers{shown}; store it as float64",
            rows=[row for row, _ in odd],
        )
    if pa.types.is_null(kind):
        return np.full(len(column), np.nan, np.float32)
    with np.errstate(over="ignore"):
        return np.asarray(column.to_numpy()).astype(np.float32)


def _first_non_numbers(column: Any) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    for row, scalar in enumerate(column):
        text = scalar.as_py() or "nan"
        try:
            float(text)
        except ValueError:
            found.append((row, text))
            if len(found) == ROWS_SHOWN:
                break
    return found


def _frame(
    path: Path, times: NDArray[np.int64], asked: str | None, labelled: str | None
) -> Timeframe:
    """The file's frame: the one asked for, its label, or the greatest that fits the spacings."""
    steps = np.diff(times)
    spacing_ms = int(np.gcd.reduce(steps)) if len(steps) else 0
    fitting = [f for f in TIMEFRAMES.values() if spacing_ms and spacing_ms % f.ms == 0]
    if asked is not None:
        frame, source = timeframe(asked), f"the timeframe asked for, {asked!r},"
    elif labelled is not None:
        try:
            frame, source = timeframe(labelled), f"the file's metadata {TIMEFRAME_METADATA}"
        except InvalidInput as error:
            raise InvalidCandles(
                f"{path}: metadata {TIMEFRAME_METADATA}: {error.message}, "
                f"or overrule it with --candles-timeframe"
            ) from None
    elif not len(steps):
        raise InvalidCandles(
            f"{path}: one row does not tell its timeframe; give --candles-timeframe"
        )
    elif not fitting:
        raise InvalidCandles(_unfit_spacing(path, times, steps))
    else:
        frame, source = fitting[-1], "the spacing of the rows"
    fits = f"; the spacings fit {fitting[-1].code} or finer" if fitting else ""
    _refuse_any(
        path,
        f"ts_open is not on the {frame.code} grid of UTC that {source} implies",
        times % frame.ms != 0,
        f"correct the times or give the right --candles-timeframe{fits}",
    )
    return frame


def _unfit_spacing(path: Path, times: NDArray[np.int64], steps: NDArray[np.int64]) -> str:
    row = int(np.argmax(steps % TIMEFRAMES["1m"].ms != 0)) + 1
    hint = ""
    if bool((steps % 60 == 0).all()) and int(times[-1]) < 100_000_000_000:
        hint = " (these look like seconds: multiply ts_open by 1000)"
    return (
        f"{path}: {places(path, [row])} is {int(steps[row - 1])} ms after the row before it, "
        f"no multiple of a minute{hint}; candles must be one of {' '.join(TIMEFRAMES)}"
    )


def _instrument(path: Path, columns: Columns, asked: Instrument | None) -> Instrument | None:
    """The instrument of the file's rows, else the one asked for."""
    import pyarrow as pa

    market_id: Any = None
    symbol: Any = None
    if "market_id" in columns.names:
        column = columns.column("market_id")
        if not pa.types.is_integer(column.type):
            raise InvalidCandles(f"{path}: column market_id is {column.type}; it must be integers")
        market_id = _only_value(path, "market_id", column)
    if "symbol" in columns.names:
        symbol = _only_value(path, "symbol", columns.column("symbol"))
    if asked is not None:
        market_id = asked.market_id if market_id is None else market_id
        symbol = asked.symbol if symbol is None else symbol
    if market_id is None or symbol is None:
        return None
    try:
        found = Instrument(market_id, symbol)
    except InvalidInput as error:
        raise InvalidCandles(f"{path}: {error.message}") from None
    if asked is not None and found != asked:
        raise InvalidCandles(
            f"{path}: the file holds {found}, but {asked} was asked for; "
            f"give the right file or change market_id and symbol of the request"
        )
    return found


def _only_value(path: Path, name: str, column: Any) -> Any:
    values = column.unique().to_pylist()
    if len(values) != 1 or values[0] is None:
        shown = ", ".join(repr(value) for value in values[:ROWS_SHOWN])
        raise InvalidCandles(
            f"{path}: column {name} must hold one value in every row, it holds {len(values)}: "
            f"{shown}; split the file by instrument"
        )
    return values[0]


def _whole_rows(path: Path, series: Mapping[str, NDArray[np.float32]]) -> NDArray[np.bool_]:
    """Mask of the rows with five numbers; the others are five NaN."""
    absent = np.isnan(series["close"])
    some, every = absent.copy(), absent.copy()
    for values in series.values():
        absent = np.isnan(values)
        some |= absent
        every &= absent
    cure = "fill or remove them, or make all five values NaN for a missing candle"
    _refuse_any(path, "only some of the five values are NaN", some & ~every, cure)
    for name, values in series.items():
        cure = "correct or remove them"
        _refuse_any(path, f"{name} is infinite or beyond float32", np.isinf(values), cure)
    if bool(every.all()):
        raise InvalidCandles(f"{path}: all {len(every)} rows are NaN; the file holds no candle")
    return ~every


def _refuse_impossible(
    path: Path, series: Mapping[str, NDArray[np.float32]], whole: NDArray[np.bool_]
) -> None:
    """Raises on bars no market can make. Comparisons are false on the NaN of missing rows."""
    cure = "correct or remove them"
    for name in SERIES[:4]:
        _refuse_any(path, f"{name} is zero or negative", series[name] <= 0, cure)
    _refuse_any(path, "volume is negative", series["volume"] < 0, cure)
    body_high = np.maximum(series["open"], series["close"])
    body_low = np.minimum(series["open"], series["close"])
    _refuse_any(path, "high is below open or close", whole & (series["high"] < body_high), cure)
    _refuse_any(path, "low is above open or close", whole & (series["low"] > body_low), cure)


def _refuse_disorder(path: Path, times: NDArray[np.int64]) -> None:
    steps = np.diff(times, prepend=times[0] - 1)
    _refuse_any(path, "ts_open is earlier than the row before", steps < 0, "sort by ts_open")
    same = steps == 0
    if bool(same.any()):
        moment = instant(int(times[int(np.argmax(same))]))
        problem = f"ts_open repeats the row before (first {moment})"
        _refuse(path, problem, same, "keep one row per candle")


def _refuse_any(path: Path, problem: str, bad: NDArray[np.bool_], cure: str) -> None:
    if bool(bad.any()):
        _refuse(path, problem, bad, cure)


def _refuse(path: Path, problem: str, bad: NDArray[np.bool_], cure: str) -> None:
    count = int(np.count_nonzero(bad))
    rows = [int(row) for row in np.flatnonzero(bad)[:ROWS_SHOWN]]
    more = f" and {count - ROWS_SHOWN} more" if count > ROWS_SHOWN else ""
    raise InvalidCandles(f"{path}: {problem} in {places(path, rows)}{more}; {cure}", rows=rows)
