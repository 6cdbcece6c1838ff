"""Bodies of `POST /indicators/estimate` and `POST /indicators/compute`, and what they ask for.

Importing this module imports pydantic; the rest of the core does not need it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import Field, PlainValidator, ValidationError

from compute.axes import numeric
from compute.errors import InvalidGrid, InvalidRequest
from compute.faults import schema_faults
from compute.grid import IndicatorGrid
from compute.indicator_grids import series_grid
from compute.indicators.series import BarSeries
from compute.market.candles import Candles
from compute.market.instrument import Instrument
from compute.market.period import Period
from compute.market.timeframe import Timeframe
from compute.market.timeline import dense
from compute.output_rows import output_rows
from compute.request import (
    Axis,
    Count,
    IndicatorBlock,
    Model,
    Name,
    TimeRange,
    one_of,
    sent_timeframe,
)
from compute.settings import Limits
from compute.tensor import (
    LAYOUTS,
    SCHEMA_VERSION,
    TIME_MAJOR,
    Each,
    Tensor,
    check_bytes,
    check_total,
    tensor,
    tensor_bytes,
)

R = TypeVar("R", bound=Model)
Load = Callable[[Instrument, Timeframe, Period], Candles]


class RiskLevels(Model):
    """Stop-loss and take-profit axes in percent; they multiply variants, not memory."""

    sl: Axis
    tp: Axis


class EstimateRequest(Model):
    """What `POST /indicators/estimate` takes."""

    timeframe: Annotated[Timeframe, PlainValidator(sent_timeframe)]
    time_range: TimeRange
    indicators: Annotated[list[IndicatorBlock], Field(min_length=1)]
    risk: RiskLevels


class ComputeRequest(Model):
    """What `POST /indicators/compute` takes; every axis is given, 1m bars only."""

    market_id: Count
    symbol: str
    timeframe: Annotated[Timeframe, PlainValidator(sent_timeframe)]
    time_range: TimeRange
    indicator: IndicatorBlock
    layout: Annotated[Name, one_of(*LAYOUTS)] | None = None
    max_variants_guard: Count | None = None


def indicator_estimate(body: object, limits: Limits) -> dict[str, Any]:
    """Totals of the request in `body`: variants, those that differ, bytes of their tensors.

    No candle is read. Raises: InvalidRequest, InvalidGrid, GuardExceeded.
    """
    request = _parsed(EstimateRequest, body)
    grids = [series_grid(block) for block in request.indicators]
    levels = math.prod(
        len(numeric(axis, f"risk axis '{name}' values must be numeric"))
        for name, axis in (("sl", request.risk.sl), ("tp", request.risk.tp))
    )
    bars = whole_bars(request.time_range.period, request.timeframe)
    total = math.prod(grid.compute_total for grid in grids) * levels
    need = tensor_bytes(bars, [grid.compute_total for grid in grids])
    check_total(total, limits.max_variants_per_compute)
    check_bytes(need, limits)
    return {
        "schema_version": SCHEMA_VERSION,
        "total_variants": total,
        "distinct_variants": math.prod(distinct(grid) for grid in grids) * levels,
        "estimated_memory_bytes": need,
    }


def indicator_tensor(body: object, load: Load, limits: Limits, each: Each | None = None) -> Tensor:
    """The tensor that the request in `body` asks for, over the dense minutes that `load` finds.

    A missing minute is a NaN hole. Raises: InvalidRequest, InvalidGrid, GuardExceeded, all before
    `load` is called; InvalidInput for a range that is not made of whole minutes.
    """
    request = _parsed(ComputeRequest, body)
    if request.timeframe.code != "1m":
        raise InvalidGrid(f"tensors are computed on 1m bars only, got {request.timeframe.code}")
    instrument = Instrument(request.market_id, request.symbol)
    period = request.time_range.period
    bars = whole_bars(period, request.timeframe)
    grid = series_grid(request.indicator)
    check_total(grid.compute_total, limits.max_variants_per_compute)
    check_total(grid.compute_total, request.max_variants_guard or grid.compute_total)
    check_bytes(tensor_bytes(bars, [grid.compute_total]), limits)
    found = dense(load(instrument, request.timeframe, period), request.timeframe, period)
    series = BarSeries(
        found.open, found.high, found.low, found.close, found.volume,
        period.start_ms // request.timeframe.ms,
    )  # fmt: skip
    options: dict[str, Any] = {} if each is None else {"each": each}
    return tensor(grid, series, request.layout or TIME_MAJOR, limits=limits, **options)


def distinct(grid: IndicatorGrid) -> int:
    """Settings of `grid` whose output can differ."""
    return len(output_rows(grid))


def whole_bars(period: Period, frame: Timeframe) -> int:
    """Bars of `period`. Raises: InvalidGrid unless it is made of whole ones on the UTC grid."""
    if period.start_ms % frame.ms or period.end_ms % frame.ms:
        raise InvalidGrid(
            f"time range {period} is not made of whole bars of {frame.code};"
            " align start and end to them"
        )
    return period.duration_ms // frame.ms


def _parsed(model: type[R], body: object) -> R:
    if not isinstance(body, Mapping):
        message = f"a request is a JSON object, got {type(body).__name__}"
        raise InvalidRequest(message, [{"path": "body", "code": "object_type", "message": message}])
    try:
        return model.model_validate(dict(body))
    except ValidationError as error:
        raise InvalidRequest("Validation failed", schema_faults(error, model)) from None
