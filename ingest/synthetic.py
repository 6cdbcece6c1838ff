"""Made-up markets: a lively one for demonstrations and a plain walk for measurements.

Both depend on the seed alone (PCG64), are drawn whole columns at a time and land on a tick of
0.01. Prices fold back inside a band around the first one, so that no length or frame leaves what
float32 holds to the tick.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import Final

import numpy as np
from numpy.random import PCG64, Generator
from numpy.typing import NDArray

from compute.errors import InvalidInput
from compute.market.candles import Candles
from compute.market.instrument import Instrument
from compute.market.period import LAST_MS
from compute.market.timeframe import TIMEFRAMES, Timeframe
from ingest.candle_columns import SYNTHETIC_METADATA, TIMEFRAME_METADATA

TICK: Final = 0.01
FIRST_PRICE: Final = 20_000.0
FOLD: Final = 5.0
"""Prices stay between FIRST_PRICE / FOLD and FIRST_PRICE * FOLD, where float32 steps are < TICK."""
MINUTE_DEVIATION: Final = 0.0008
"""Standard deviation of a minute's return: about 58 % a year."""
MAX_BARS: Final = 20_000_000

DAY_MS: Final = TIMEFRAMES["1d"].ms

TREND, RANGE, VOLATILE = 0, 1, 2
REGIME_SHARES: Final = (0.4, 0.4, 0.2)
REGIME_MEAN_BARS: Final = (700, 900, 250)
DEVIATION_OF_REGIME: Final = (0.9, 0.55, 1.9)
TREND_DRIFT: Final = 0.045
"""Drift of a trend in standard deviations a bar: over 700 bars 1.2 times the noise, little enough
that costs eat most rules, as they do on a market."""
ECHO_OF_REGIME: Final = (0.08, -0.18, 0.0)
"""Share of the last shock repeated in the next bar: trends follow through, ranges revert."""
MEAN_BARS_BETWEEN_GAPS: Final = 2_500


def synthetic_candles(
    *, seed: int, bars: int, frame: Timeframe, start_ms: int, gaps: bool = True
) -> Candles:
    """A market with trends, ranges and storms, fat tails, a daily season, volume and gaps.

    `bars` counts slots of `frame` from `start_ms`. With `gaps` some of them, never the first or
    the last, have no candle, so fewer come back; short outages are common, long ones rare.

    Raises:
        InvalidInput: a seed or count that makes no sense, or a start off the frame's grid.
    """
    rng = _generator(seed, bars, frame, start_ms)
    times = start_ms + np.arange(bars, dtype=np.int64) * frame.ms
    regime, segment = _regimes(rng, bars)

    # Student's t with 4 degrees of freedom has variance 2: shocks of unit variance, fat tails.
    shocks = np.clip(rng.standard_t(4, bars) / np.sqrt(2.0), -12.0, 12.0)
    shocks[1:] += np.take(ECHO_OF_REGIME, regime[1:]) * shocks[:-1]
    direction = np.where(rng.random(int(segment[-1]) + 1) < 0.5, -TREND_DRIFT, TREND_DRIFT)
    shocks += np.where(regime == TREND, direction[segment], 0.0)
    # A range ends near where it began: the mean shock of its segment is taken out.
    length = np.bincount(segment)
    mean = np.bincount(segment, weights=shocks) / length
    shocks -= np.where(regime == RANGE, mean[segment], 0.0)

    deviation = _season(times) * _slow(rng, times, 0.35) * np.take(DEVIATION_OF_REGIME, regime)
    candles = _drawn(rng, times, shocks, deviation * _bar_deviation(frame))
    return candles.take(_kept(rng, bars)) if gaps else candles


def walk_candles(*, seed: int, bars: int, frame: Timeframe, start_ms: int) -> Candles:
    """The plain market of the benchmarks: a geometric walk whose volatility wanders, no gaps.

    Shocks are normal and independent; volatility is a slow random factor times a daily season.

    Raises:
        InvalidInput: a seed or count that makes no sense, or a start off the frame's grid.
    """
    rng = _generator(seed, bars, frame, start_ms)
    times = start_ms + np.arange(bars, dtype=np.int64) * frame.ms
    deviation = _season(times) * _slow(rng, times, 0.5) * _bar_deviation(frame)
    return _drawn(rng, times, rng.standard_normal(bars), deviation)


def write_candles(
    path: str | Path,
    candles: Candles,
    *,
    frame: Timeframe,
    instrument: Instrument,
    synthetic: bool,
) -> None:
    """Writes a Parquet file that `read_candles` takes without flags, whole or not at all.

    Its metadata name the timeframe and say whether the candles are synthetic.

    Raises:
        InvalidInput: the name does not end in `.parquet`, or the place cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(path)
    if path.suffix.lower() != ".parquet":
        raise InvalidInput(f"cannot write candles to {path}: the name must end in .parquet")
    rows = len(candles)
    symbol = pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), [instrument.symbol])
    table = pa.table(
        {
            "market_id": pa.array(np.full(rows, instrument.market_id, np.int64)),
            "symbol": symbol,
            "ts_open": pa.array(candles.ts_open_ms).cast(pa.timestamp("ms", "UTC")),
            "open": candles.open,
            "high": candles.high,
            "low": candles.low,
            "close": candles.close,
            "volume_base": candles.volume,
        }
    ).replace_schema_metadata(
        {TIMEFRAME_METADATA: frame.code, SYNTHETIC_METADATA: "true" if synthetic else "false"}
    )
    unfinished = path.with_name(f".{path.name}.{token_hex(4)}.part")
    try:
        with unfinished.open("xb") as file:
            pq.write_table(table, file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        reason = error.strerror or str(error)
        raise InvalidInput(
            f"cannot write candles to {path}: {reason}; choose a file in a writable directory"
        ) from error


def _generator(seed: int, bars: int, frame: Timeframe, start_ms: int) -> Generator:
    if seed < 0:
        raise InvalidInput(f"seed must be >= 0, got {seed}")
    if not 1 <= bars <= MAX_BARS:
        raise InvalidInput(f"bars must be between 1 and {MAX_BARS}, got {bars}")
    if start_ms % frame.ms:
        raise InvalidInput(f"start {start_ms} ms must be a multiple of {frame.code} from the epoch")
    if not 0 <= start_ms <= LAST_MS - bars * frame.ms:
        raise InvalidInput(f"{bars} bars of {frame.code} from {start_ms} ms leave 1970 to 9999")
    return Generator(PCG64(seed))


def _bar_deviation(frame: Timeframe) -> float:
    return MINUTE_DEVIATION * float(np.sqrt(frame.ms / TIMEFRAMES["1m"].ms))


def _regimes(rng: Generator, bars: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Regime and number of the segment of every bar."""
    count = bars // 200 + 16
    kinds = rng.choice(3, size=count, p=REGIME_SHARES)
    lengths = 60 + rng.exponential(np.take(REGIME_MEAN_BARS, kinds)).astype(np.int64)
    # Segments of 60 bars and more on average cover `bars` thrice over; the last takes any rest.
    segment = np.searchsorted(np.cumsum(lengths), np.arange(bars), side="right")
    segment = np.minimum(segment, count - 1)
    return kinds[segment], segment


def _season(times: NDArray[np.int64]) -> NDArray[np.float64]:
    """Daily factor of volatility, about 0.6 in the Asian night to 1.5 in the American afternoon."""
    angle = (times % DAY_MS) * (2 * np.pi / DAY_MS)
    return np.exp(0.38 * np.cos(angle - 2 * np.pi * 15 / 24) + 0.12 * np.cos(2 * angle))


def _slow(rng: Generator, times: NDArray[np.int64], deviation: float) -> NDArray[np.float64]:
    """Random factor with median 1 whose logarithm has `deviation` and forgets in about a day.

    Normal draws, one every 30 minutes or bar, are smoothed by an exponential memory of 48 draws
    and interpolated: no loop over bars.
    """
    memory = 48
    step_ms = max(TIMEFRAMES["1m"].ms * 30, int(times[-1] - times[0]) // max(len(times), 1))
    knots = int(times[-1] - times[0]) // step_ms + 2
    weights = np.exp(-np.arange(4 * memory) / memory)
    draws = rng.standard_normal(knots + len(weights) - 1)
    level = np.convolve(draws, weights / np.sqrt(np.sum(weights**2)), mode="valid")
    at = (times - times[0]) / step_ms
    return np.exp(deviation * np.interp(at, np.arange(knots), level))


def _drawn(
    rng: Generator,
    times: NDArray[np.int64],
    shocks: NDArray[np.float64],
    deviation: NDArray[np.float64],
) -> Candles:
    """Candles of a walk with returns `shocks * deviation`; each opens where the last closed."""
    bars = len(times)
    returns = np.clip(shocks * deviation, -0.25, 0.25)
    path = np.concatenate(([0.0], np.cumsum(returns)))
    price = np.round(FIRST_PRICE * np.exp(_folded(path, float(np.log(FOLD)))) / TICK)
    open_, close = price[:-1], price[1:]
    reach = deviation * close
    high = np.maximum(open_, close) + np.floor(rng.exponential(0.45, bars) * reach)
    low = np.minimum(open_, close) - np.floor(rng.exponential(0.45, bars) * reach)
    low = np.maximum(low, 1.0)
    # Busy bars are the ones that move: volume follows volatility and the size of the shock.
    busy = (0.6 + np.abs(shocks)) * deviation / MINUTE_DEVIATION
    volume = np.round(12.0 * busy * rng.lognormal(0.0, 0.55, bars), 3)
    columns = (open_ * TICK, high * TICK, low * TICK, close * TICK, volume)
    return Candles(times, *(column.astype(np.float32) for column in columns))


def _folded(path: NDArray[np.float64], width: float) -> NDArray[np.float64]:
    """`path` reflected at -width and +width as often as it crosses them."""
    return np.abs((path - width) % (4 * width) - 2 * width) - width


def _kept(rng: Generator, bars: int) -> NDArray[np.bool_]:
    """Mask of the slots that have a candle; one gap in ten is an outage of hours, not minutes."""
    count = int(rng.poisson(bars / MEAN_BARS_BETWEEN_GAPS)) + (bars > 100)
    firsts = rng.integers(0, bars, count)
    means = np.where(rng.random(count) < 0.1, 150.0, 6.0)
    lengths = 1 + rng.exponential(means).astype(np.int64)
    edges = np.zeros(bars + 1, np.int64)
    np.add.at(edges, firsts, 1)
    np.add.at(edges, np.minimum(firsts + lengths, bars), -1)
    kept = np.cumsum(edges[:-1]) == 0
    kept[[0, -1]] = True
    return kept
