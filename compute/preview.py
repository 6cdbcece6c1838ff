"""Preview: one setting of an indicator over a range, its series and its votes, few enough to draw.

Importing this module imports pydantic; the rest of the core does not need it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from compute.bits import unpack
from compute.grid import Axis, Grid, IndicatorGrid
from compute.indicator_grids import voting_grid
from compute.indicator_requests import parsed
from compute.indicators.defaults import IndicatorDefaults
from compute.indicators.registry import definition
from compute.indicators.series import BarSeries
from compute.market.instrument import Instrument
from compute.market.period import Period
from compute.market.timeframe import Timeframe
from compute.market.timeline import Timeline
from compute.planes import build_votes, vote_layout
from compute.request import Axes, Frame, IndicatorBlock, InstrumentId, Model, TimeRange
from compute.settings import Limits
from compute.settling import settle_bars
from compute.tensor import tensor

POINTS: Final = 400
MOST_POINTS: Final = 2_000


class PreviewRequest(Model):
    """What `POST /indicators/preview` takes; of an axis with several values the middle is shown."""

    instrument_id: InstrumentId = Field(description="Whose candles.")
    timeframe: Frame = Field(description="Bars that the indicator runs on.")
    time_range: TimeRange = Field(description="When bars must close to be shown.")
    indicator: IndicatorBlock = Field(description="The indicator as a back-test has it.")
    signals: Axes = Field(
        default_factory=dict, description="Parameters of the voting rule of its output, by name."
    )
    points: Annotated[int, Field(ge=1, le=MOST_POINTS)] = Field(
        POINTS, description="Most points of the answer; more bars than that are put together."
    )


@dataclass(frozen=True, slots=True)
class PreviewJob:
    """A valid request of a preview: one setting, and where it is looked at."""

    part: IndicatorGrid
    instrument: Instrument
    timeframe: Timeframe
    period: Period
    points: int

    @property
    def warmup_bars(self) -> int:
        """Bars before the period that the setting needs."""
        return settle_bars(Grid((self.part,)))


def preview_job(body: object, defaults: Mapping[str, IndicatorDefaults]) -> PreviewJob:
    """The preview that the request in `body` asks for. Raises: InvalidRequest, InvalidGrid."""
    request = parsed(PreviewRequest, body)
    name = definition(request.indicator.indicator_id).indicator_id
    given = defaults.get(name) or IndicatorDefaults(name)
    return PreviewJob(
        _middle(voting_grid(request.indicator, request.signals, given)),
        request.instrument_id.instrument,
        request.timeframe,
        request.time_range.period,
        request.points,
    )


def _middle(part: IndicatorGrid) -> IndicatorGrid:
    """The grid with the middle value of each axis; of two the lower one."""

    def cut(axes: tuple[Axis, ...]) -> tuple[Axis, ...]:
        return tuple(Axis(axis.name, (axis.values[(len(axis) - 1) // 2],)) for axis in axes)

    return IndicatorGrid(part.definition, part.output, cut(part.compute), cut(part.signals))


def preview(job: PreviewJob, timeline: Timeline) -> dict[str, Any]:
    """Candles, series and votes of `job` over `timeline` as JSON, a point for so many bars.

    A point's candle is that of its bars together, its value that of its last bar; votes are
    numbers of bars.
    """
    part, bars = job.part, timeline.candles
    series = BarSeries(bars.open, bars.high, bars.low, bars.close, bars.volume, timeline.first_bar)
    start, stop = timeline.start, timeline.stop
    values = tensor(part, series, limits=Limits()).values[start:stop, 0]
    long, short = _votes(part, series, start, stop)
    each = -(-(stop - start) // job.points)
    firsts = np.arange(0, stop - start, max(1, each))
    lasts = np.append(firsts[1:], stop - start)[: len(firsts)] - 1
    output = part.definition.output(part.output)
    assert output.rule is not None  # it votes
    inputs, params = part.settings(0)
    return {
        "indicator_id": part.indicator_id,
        "output": part.output,
        "settings": {**inputs, **params},
        "signals": {axis.name: axis.values[0] for axis in part.signals},
        "meaning": output.meaning,
        "on_price": output.rule.family == "compare_price_to_output",
        "generated": timeline.generated,
        "bars": stop - start,
        "bars_per_point": each,
        "ts_open": [int(ms) for ms in bars.ts_open_ms[start:stop][firsts]],
        "open": _numbers(bars.open[start:stop][firsts]),
        "high": _numbers(_reduced(np.maximum, bars.high[start:stop], firsts)),
        "low": _numbers(_reduced(np.minimum, bars.low[start:stop], firsts)),
        "close": _numbers(bars.close[start:stop][lasts]),
        "value": _numbers(values[lasts]),
        "long": [int(n) for n in _reduced(np.add, long.astype(np.int64), firsts)],
        "short": [int(n) for n in _reduced(np.add, short.astype(np.int64), firsts)],
    }


def _votes(
    part: IndicatorGrid, series: BarSeries, start: int, stop: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(LONG, SHORT) of each bar; where both hold, neither counts."""
    if start == stop:
        return np.zeros(0, np.bool_), np.zeros(0, np.bool_)
    found = build_votes(vote_layout(part), series, start, stop)
    long = unpack(found.long[found.long_id[0]], stop - start)
    short = unpack(found.short[found.short_id[0]], stop - start)
    return long & ~short, short & ~long


def _reduced(fold: np.ufunc, values: NDArray[Any], firsts: NDArray[np.int64]) -> NDArray[Any]:
    return fold.reduceat(values, firsts) if len(firsts) else values[:0]


def _numbers(values: NDArray[np.float32]) -> list[float | None]:
    """As JSON has them: each as its shortest text says, no value as null."""
    return [float(str(value)) if np.isfinite(value) else None for value in values]
