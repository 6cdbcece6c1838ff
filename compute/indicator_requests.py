"""Bodies of `POST /indicators/estimate` and `POST /indicators/compute`, and what they ask for.

Importing this module imports pydantic; the rest of the core does not need it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import Field, ValidationError

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
    MOST_INDICATORS,
    Axis,
    Count,
    Frame,
    IndicatorBlock,
    Model,
    Name,
    OneOf,
    TimeRange,
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

    sl: Axis = Field(description="Stop-loss levels, in percent.")
    tp: Axis = Field(description="Take-profit levels, in percent.")


class EstimateRequest(Model):
    """What `POST /indicators/estimate` takes."""

    timeframe: Frame = Field(description="Bars that would be computed on.")
    time_range: TimeRange = Field(description="Whole bars, open to open.")
    indicators: Annotated[list[IndicatorBlock], Field(min_length=1, max_length=MOST_INDICATORS)] = (
        Field(description="Indicators with every axis given.")
    )
    risk: RiskLevels = Field(description="Stops that every variant would be tried with.")


class ComputeRequest(Model):
    """What `POST /indicators/compute` takes; every axis is given, 1m bars only."""

    market_id: Count = Field(
        description="1 binance spot, 2 binance futures, 3 bybit spot, 4 bybit futures."
    )
    symbol: str = Field(description="Symbol of the exchange; trimmed and upper-cased.")
    timeframe: Frame = Field(description="Only 1m is computed on.")
    time_range: TimeRange = Field(description="Whole minutes, open to open.")
    indicator: IndicatorBlock = Field(description="The indicator with every axis given.")
    layout: Annotated[Name, OneOf(*LAYOUTS)] | None = Field(
        None, description="Which index runs slower; time_major without it."
    )
    max_variants_guard: Count | None = Field(
        None, description="Refuse more variants than this, below the service's own limit."
    )


@dataclass(frozen=True, slots=True)
class TensorJob:
    """A valid request for a tensor: what to compute, on which whole minutes, in which layout."""

    grid: IndicatorGrid
    instrument: Instrument
    timeframe: Timeframe
    period: Period
    layout: str

    def tensor(self, candles: Candles, limits: Limits, each: Each | None = None) -> Tensor:
        """The tensor over `candles`; a minute that they lack is a NaN hole.

        Raises: GuardExceeded before it is allocated.
        """
        found = dense(candles, self.timeframe, self.period)
        series = BarSeries(
            found.open, found.high, found.low, found.close, found.volume,
            self.period.start_ms // self.timeframe.ms,
        )  # fmt: skip
        options: dict[str, Any] = {} if each is None else {"each": each}
        return tensor(self.grid, series, self.layout, limits=limits, **options)


def indicator_estimate(body: object, limits: Limits) -> dict[str, Any]:
    """Totals of the request in `body`: variants, those that differ, bytes of their tensors.

    No candle is read. Raises: InvalidRequest, InvalidGrid, GuardExceeded.
    """
    request = parsed(EstimateRequest, body)
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


def tensor_job(body: object, limits: Limits) -> TensorJob:
    """The tensor that the request in `body` asks for.

    Raises: InvalidRequest, InvalidGrid, GuardExceeded; InvalidInput for a range that is not made
    of whole minutes.
    """
    request = parsed(ComputeRequest, body)
    if request.timeframe.code != "1m":
        raise InvalidGrid(f"tensors are computed on 1m bars only, got {request.timeframe.code}")
    instrument = Instrument(request.market_id, request.symbol)
    period = request.time_range.period
    bars = whole_bars(period, request.timeframe)
    grid = series_grid(request.indicator)
    check_total(grid.compute_total, limits.max_variants_per_compute)
    check_total(grid.compute_total, request.max_variants_guard or grid.compute_total)
    check_bytes(tensor_bytes(bars, [grid.compute_total]), limits)
    return TensorJob(grid, instrument, request.timeframe, period, request.layout or TIME_MAJOR)


def indicator_tensor(body: object, load: Load, limits: Limits, each: Each | None = None) -> Tensor:
    """The tensor that the request in `body` asks for, over the dense minutes that `load` finds.

    What can be refused is refused before `load` is called; errors as with `tensor_job`.
    """
    job = tensor_job(body, limits)
    return job.tensor(load(job.instrument, job.timeframe, job.period), limits, each)


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


def parsed(model: type[R], body: object) -> R:
    """A decoded JSON body as `model`. Raises: InvalidRequest."""
    if not isinstance(body, Mapping):
        message = f"a request is a JSON object, got {type(body).__name__}"
        raise InvalidRequest(message, [{"path": "body", "code": "object_type", "message": message}])
    try:
        return model.model_validate(dict(body))
    except ValidationError as error:
        raise InvalidRequest("Validation failed", schema_faults(error, model)) from None
