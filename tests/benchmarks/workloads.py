"""The workloads: made-up candles and the request that searches over them, by name.

All trade long and short, all in, fee 0.075 %, slippage 0.01 %, on the plain walk of
`ingest.synthetic.walk_candles`; the moving average votes by price above or below it, the RSI by a
band (LONG from 55 up, SHORT from 45 down).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

from compute.backtest import Backtest, resolve
from compute.market.candles import Candles
from compute.market.instrument import Instrument
from compute.market.period import instant
from compute.market.timeframe import TIMEFRAMES, Timeframe
from compute.market.timeline import Timeline, timeline
from compute.request import parse_request
from compute.settings import Defaults
from ingest.synthetic import walk_candles

SEED: Final = 1
START_MS: Final = 1_704_067_200_000
"""2024-01-01, the open of the first bar that is traded."""
INSTRUMENT: Final = Instrument(1, "WALKUSDT")
SETTLE_BARS: Final = 1_200
"""Bars made before the first traded one: more than any indicator here needs to settle."""

Values = Sequence[float]
Indicators = Mapping[str, Mapping[str, Values]]


@dataclass(frozen=True)
class Workload:
    """A request over `bars` traded candles of `frame`; `about` says what is searched."""

    name: str
    about: str
    frame: Timeframe
    bars: int
    body: dict[str, Any]

    @cached_property
    def candles(self) -> Candles:
        """The traded bars, those before them, and the one that closes as the range ends."""
        first_ms = START_MS - SETTLE_BARS * self.frame.ms
        return walk_candles(
            seed=SEED, bars=SETTLE_BARS + self.bars + 1, frame=self.frame, start_ms=first_ms
        )

    @cached_property
    def job(self) -> Backtest:
        """The request under the contract's defaults."""
        return resolve(parse_request(self.body), Defaults())

    def timeline(self) -> Timeline:
        """The bars of the back-test, made anew."""
        job = self.job
        return timeline(
            self.candles, self.frame, job.instrument, job.timeframe, job.period, job.warmup_bars
        )

    def changed(self, **members: Any) -> Workload:
        """The same candles and grid under a request with other members."""
        return replace(self, body={**self.body, **members})


def workload(
    name: str,
    about: str,
    *,
    frame: str,
    bars: int,
    indicators: Indicators,
    band: tuple[Values, Values] | None = ((55,), (45,)),
    stops: tuple[Values, Values] | None = None,
    preselect: int = 200,
    top_k: int = 50,
) -> Workload:
    """A `Workload` of explicit axes; `band` are the RSI's thresholds, `stops` SL and TP percent."""
    length = TIMEFRAMES[frame]
    # A bar is traded when it closes inside the range: the first close is one bar after START_MS.
    start_ms = START_MS + length.ms
    body: dict[str, Any] = {
        "time_range": {
            "start": instant(start_ms),
            "end": instant(start_ms + bars * length.ms),
        },
        "template": {
            "instrument_id": {"market_id": INSTRUMENT.market_id, "symbol": INSTRUMENT.symbol},
            "timeframe": frame,
            "indicator_grids": [
                {
                    "indicator_id": indicator_id,
                    "source": _axis(["close"]),
                    "params": {param: _axis(values) for param, values in params.items()},
                }
                for indicator_id, params in indicators.items()
            ],
            "execution": {"fee_pct": 0.075, "slippage_pct": 0.01},
        },
        "preselect": preselect,
        "top_k": top_k,
    }
    if band is not None:
        body["template"]["signal_grids"] = {
            "momentum.rsi": {"long_threshold": _axis(band[0]), "short_threshold": _axis(band[1])}
        }
    if stops is not None:
        body["template"]["risk_grid"] = {
            "sl_enabled": True,
            "sl": _axis(stops[0]),
            "tp_enabled": True,
            "tp": _axis(stops[1]),
        }
    return Workload(name, about, length, bars, body)


def w2(*, frame: str = "15m", bars: int = 35_040, average: int = 100, rsi: int = 50) -> Workload:
    """5 000 base variants over a year of 15m, the best 200 × 10 SL × 10 TP."""
    return workload(
        "W2",
        f"{bars} bars of {frame}: ma.sma 5..{4 + average} × momentum.rsi 5..{4 + rsi}",
        frame=frame,
        bars=bars,
        indicators=_pair(range(5, 5 + average), range(5, 5 + rsi)),
        stops=(_steps(0.5, 0.5, 10), _steps(1, 1, 10)),
    )


def w3(*, bars: int = 35_040) -> Workload:
    """100 000 base variants: W2's windows under 5 × 4 bands around 55 / 45."""
    return workload(
        "W3",
        f"{bars} bars of 15m: W2's windows × RSI band 53..57 / 44..47",
        frame="15m",
        bars=bars,
        indicators=_pair(range(5, 105), range(5, 55)),
        band=(range(53, 58), range(44, 48)),
        stops=(_steps(0.5, 0.5, 10), _steps(1, 1, 10)),
    )


def w4(*, bars: int = 200_000, fast: int = 100, slow: int = 100) -> Workload:
    """10 000 EMA crosses over 200 000 bars."""
    return workload(
        "W4",
        f"{bars} bars of 15m: momentum.macd fast 4..{3 + fast} × slow 8..{7 + slow}, signal 9",
        frame="15m",
        bars=bars,
        indicators={
            "momentum.macd": {
                "fast_window": range(4, 4 + fast),
                "slow_window": range(8, 8 + slow),
                "signal_window": [9],
            }
        },
        band=None,
    )


def w5(*, bars: int = 525_600, bands: Values = (55,), preselect: int = 500) -> Workload:
    """20 000 base variants a band over a year of 1m, the best 500 × 20 SL × 20 TP."""
    return workload(
        "W5" if len(bands) == 1 else f"W5 × {len(bands)}",
        f"{bars} bars of 1m: ma.sma 100..299 × momentum.rsi 60..159"
        + ("" if len(bands) == 1 else f" × {len(bands)} long thresholds"),
        frame="1m",
        bars=bars,
        indicators=_pair(range(100, 300), range(60, 160)),
        band=(bands, (45,)),
        stops=(_steps(0.25, 0.25, 20), _steps(0.5, 0.5, 20)),
        preselect=preselect,
    )


def w5_times_ten(*, bars: int = 525_600) -> Workload:
    """W5 with ten times its base variants: ten LONG thresholds from 53 to 57.5."""
    return w5(bars=bars, bands=_steps(53, 0.5, 10))


def many(variants: int, *, bars: int = 35_040) -> Workload:
    """100 000, one or ten million base variants: W2's windows under 20, 200 or 2 000 bands."""
    longs, shorts = {100_000: (5, 4), 1_000_000: (20, 10), 10_000_000: (50, 40)}[variants]
    return workload(
        f"{variants} variants",
        f"{bars} bars of 15m: W2's windows × {longs} × {shorts} RSI bands",
        frame="15m",
        bars=bars,
        indicators=_pair(range(5, 105), range(5, 55)),
        band=(_steps(53, 4 / longs, longs), _steps(43, 4 / shorts, shorts)),
    )


def equals(variants: int = 1_000_000, *, bars: int = 35_040) -> Workload:
    """Variants that all trade alike: dead signal windows × thresholds no RSI falls between."""
    dead = 1_000
    return workload(
        f"{variants} equals",
        f"{bars} bars of 15m: MACD signal windows × RSI thresholds that change nothing",
        frame="15m",
        bars=bars,
        indicators={
            "momentum.macd": {
                "fast_window": [12],
                "slow_window": [26],
                "signal_window": range(2, 2 + dead),
            },
            "momentum.rsi": {"window": [14]},
        },
        band=([55 + i * 1e-9 for i in range(variants // dead)], (45,)),
    )


def small() -> Workload:
    """A request that is all start-up: 100 base variants over a month of 15m."""
    return w2(bars=2_880, average=10, rsi=10)


def _pair(average: Values, rsi: Values) -> Indicators:
    return {"ma.sma": {"window": average}, "momentum.rsi": {"window": rsi}}


def _steps(first: float, step: float, count: int) -> list[float]:
    return [round(first + i * step, 9) for i in range(count)]


def _axis(values: Sequence[Any]) -> dict[str, Any]:
    return {"mode": "explicit", "values": list(values)}


WORKLOADS: Final[Mapping[str, Callable[[], Workload]]] = {"w2": w2, "w3": w3, "w4": w4, "w5": w5}
