"""Jobs as the service shows them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from api.schemas.backtests import InstrumentRef
from api.schemas.errors import Answer

State = Literal["queued", "running", "succeeded", "failed", "cancelled"]
Stage = Literal["stage_a", "stage_b", "finalizing"]
_HASH = "^[0-9a-f]{64}$"
_ID = "00000000-0000-4000-8000-000000000931"
_TIME = "2026-02-22T18:00:00Z"


class JobCourse(Answer):
    """Where a job is."""

    job_id: str = Field(description="UUID of the job.", examples=[_ID])
    mode: Literal["saved", "template"] = Field(
        description="Whether the grid came from a stored strategy or with the request."
    )
    state: State = Field(description="The last three are final.")
    stage: Stage = Field(description="Where the job is, or was when it ended.")
    created_at: str = Field(description="UTC.", examples=[_TIME])
    updated_at: str = Field(description="UTC; the last change of the row.", examples=[_TIME])
    started_at: str | None = Field(description="UTC; when a runner claimed it first.")
    finished_at: str | None = Field(description="UTC; when it came to a final state.")
    cancel_requested_at: str | None = Field(description="UTC; the last wish to cancel it.")
    processed_units: int = Field(ge=0, description="Units of the stage that are done.")
    total_units: int = Field(ge=0, description="Units of the stage; 0 when not known yet.")


class TimeRangeBody(Answer):
    """A half-open range of times, UTC."""

    start: str = Field(examples=[_TIME], description="The first moment in it.")
    end: str = Field(examples=[_TIME], description="The first moment after it.")


class JobItem(JobCourse):
    """A job in a list."""

    instrument_id: InstrumentRef = Field(description="Whose candles.")
    timeframe: str = Field(description="Of the bars.", examples=["1h"])
    stage_a_variants_total: int = Field(ge=1, description="Base variants: the grid without stops.")
    time_range: TimeRangeBody = Field(description="What was tried.")
    indicators: list[str] = Field(description="Ids, as in the request.", examples=[["ma.sma"]])


class JobPage(Answer):
    """A page of the list, newest first."""

    items: list[JobItem] = Field(description="The jobs.")
    next_cursor: str | None = Field(description="What to send as cursor; null on the last page.")


class JobError(Answer):
    """Why a job failed."""

    code: str = Field(description="Class of the failure.")
    message: str = Field(description="What went wrong.")
    details: dict[str, Any] = Field(description="Its numbers, and the stage that it happened in.")


class JobBody(JobCourse):
    """A job."""

    progress_updated_at: str | None = Field(description="UTC; when the units last changed.")
    request_hash: str = Field(pattern=_HASH, description="Of the request with effective values.")
    engine_params_hash: str = Field(
        pattern=_HASH, description="Of the modes and the five effective execution values."
    )
    backtest_runtime_config_hash: str = Field(
        pattern=_HASH, description="Of the configuration as far as it can change a result."
    )
    spec_hash: str | None = Field(description="Of the stored strategy, in saved mode.")
    attempt: int = Field(ge=0, description="How often a runner has claimed it.")
    max_attempts: int = Field(ge=1, description="How often one may.")
    eta_seconds: float | None = Field(description="What the stage will still take, if known.")
    last_error: str | None = Field(description="The failure's message.")
    last_error_json: JobError | None = Field(description="The failure.")


class TopVariant(Answer):
    """One of the best variants."""

    rank: int = Field(ge=1, description="1 is the best.")
    variant_key: str = Field(description="Identity of the variant with stops and costs.")
    indicator_variant_key: str = Field(description="Identity of its indicators and their values.")
    variant_index: int = Field(ge=0, description="Rank in the shortlist × pairs of stops + pair.")
    total_return_pct: float = Field(description="Percent of the initial cash.")
    payload: dict[str, Any] = Field(description="Suffices to run it, or to save it as a strategy.")


class TopBody(Answer):
    """The best variants so far."""

    job_id: str = Field(description="UUID of the job.", examples=[_ID])
    state: State = Field(description="When it is final, so are the rows.")
    report_context: dict[str, Any] = Field(
        description="The body of POST /backtests/variant-report, but for the variant."
    )
    items: list[TopVariant] = Field(description="By rank.")


class HeatmapAxis(Answer):
    """An axis of a heatmap."""

    name: str = Field(description="As in the columns.", examples=["ma.sma.window"])
    values: list[float | int | str] = Field(description="In the order of the grid.")


class HeatmapBody(Answer):
    """A metric over two axes of the grid."""

    job_id: str = Field(description="UUID of the job.", examples=[_ID])
    metric: str = Field(description="The metric.", examples=["total_return_pct"])
    aggregate: str = Field(description="What makes one number of many.", examples=["max"])
    x: HeatmapAxis = Field(description="The columns of the cells.")
    y: HeatmapAxis = Field(description="The rows of the cells.")
    cells: list[list[float | None]] = Field(
        description="cells[y][x]: the aggregate over all variants with these two values; null where"
        " it is not finite, or no variant has a value."
    )
    counts: list[list[int]] = Field(description="counts[y][x]: variants that have a value.")
