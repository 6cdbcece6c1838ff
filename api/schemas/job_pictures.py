"""What is drawn of a job: pictures of its grid, and one of its variants."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from api.schemas.backtests import ReportRow, Trade
from api.schemas.errors import Answer

_ID = "00000000-0000-4000-8000-000000000931"
Value = float | int | str


class PlateauBody(Answer):
    """The cells around one of a heat map that do about as well."""

    job_id: str = Field(description="UUID of the job.", examples=[_ID])
    x: Value = Field(description="Value of the cell on the axis x.")
    y: Value = Field(description="Value of the cell on the axis y.")
    value: float = Field(description="Value of the cell.")
    reach: float = Field(description="How far from it another one may be.")
    cells: list[list[int]] = Field(description="Its cells as [x, y] places in the heat map.")
    share_pct: float = Field(description="Share of the cells that have a value.")
    median: float = Field(description="Median of its cells.")
    around_count: int = Field(description="Cells next to the chosen one, up to eight.")
    around_median: float | None = Field(description="Their median.")
    kind: Literal["plateau", "ridge", "peak"] = Field(description="Its shape.")
    words: str = Field(description="The same as sentences.")


class DistributionBody(Answer):
    """How a metric is distributed."""

    job_id: str = Field(description="UUID of the job.", examples=[_ID])
    metric: str = Field(description="The metric.", examples=["total_return_pct"])
    edges: list[float] = Field(description="Edges of the bins, one more than there are bins.")
    counts: list[int] = Field(description="Variants in each bin.")
    open_low: bool = Field(description="Whether the first bin holds all that is below it, too.")
    open_high: bool = Field(description="Whether the last bin holds all that is above it, too.")
    variants: int = Field(description="Variants with a finite value.")
    left_out: int = Field(description="Variants of the grid without one, or filtered out.")
    least: float = Field(description="Least value.")
    greatest: float = Field(description="Greatest value.")
    mean: float = Field(description="Mean.")
    median: float = Field(description="Median.")
    quartiles: list[float] = Field(description="First and third quartile.")
    above_zero_pct: float = Field(description="Share of the values above zero, in percent.")


class BaseVariant(Answer):
    """A base variant."""

    flat_index: int = Field(description="Its place in the grid.")
    values: list[Value] = Field(description="Its value on each axis, in the order of `axes`.")
    metrics: list[float | int | None] = Field(
        description="Its metrics, in the order of `metrics`; null where one is not finite."
    )


class SampleBody(Answer):
    """Some base variants."""

    job_id: str = Field(description="UUID of the job.", examples=[_ID])
    metric: str = Field(description="What the best are the best by.")
    axes: list[str] = Field(description="Names of the axes.")
    metrics: list[str] = Field(description="Names of the metrics.")
    variants: int = Field(description="Variants to choose from: wanted ones with a value.")
    best: list[BaseVariant] = Field(description="The best, best first.")
    random: list[BaseVariant] = Field(description="Others, drawn by chance.")


class RankedColumn(Answer):
    """A column of the ranked table."""

    name: str = Field(description="Its whole name.")
    group: str = Field(description="What it belongs to: an indicator, risk, holdout.")
    label: str = Field(description="Its short name.")
    kind: Literal["rank", "metric", "holdout", "parameter"] = Field(description="What it tells.")
    unit: str = Field(description="`%`, `n` for a count, or nothing.")


class RankedRow(Answer):
    """A row of the ranked table."""

    rank: int = Field(description="1 is the best.")
    variant_key: str = Field(description="Identity of the variant.")
    flat_index: int = Field(description="Place of its base variant in the grid.")
    cells: list[float | int | str | bool | None] = Field(description="In the order of `columns`.")
    equals: str = Field(description="What it stands for, where equal rows were to be one.")
    metrics: dict[str, float | int | None] = Field(description="On the part that was ranked.")
    holdout: dict[str, float | int | None] | None = Field(description="On the part that was not.")


class RankedBody(Answer):
    """The ranked rows of a job."""

    job_id: str = Field(description="UUID of the job.", examples=[_ID])
    state: str = Field(description="When it is succeeded, rows are final and have all metrics.")
    columns: list[RankedColumn] = Field(description="A column for each axis on which rows differ.")
    rows: list[RankedRow] = Field(description="Those that the filters let through, by rank.")
    groups: list[list[int]] = Field(description="Places in `rows` of rows with equal metrics.")
    fixed: list[list[Any]] = Field(description="[name, value] of what is the same in all rows.")
    total: int = Field(description="Ranked rows without filters.")


class SeriesBody(Answer):
    """Some points of a curve, its extremes among them."""

    bars: list[int] = Field(description="Bars, from the first of the part.")
    values: list[float | None] = Field(description="Values there.")


class VoteStrip(Answer):
    """How an indicator voted."""

    indicator_id: str = Field(description="The indicator.")
    mean: list[float] = Field(description="By candle: -1 short to 1 long, the mean of its bars.")


class WindowBody(Answer):
    """Candles and votes of some bars, neighbours joined where there are many."""

    start: int = Field(description="First bar.")
    stop: int = Field(description="The bar after the last one.")
    width: int = Field(description="Bars in a candle.")
    open: list[float | None] = Field(description="First price of each candle.")
    high: list[float | None] = Field(description="Highest one.")
    low: list[float | None] = Field(description="Lowest one.")
    close: list[float | None] = Field(description="Last one.")
    votes: list[VoteStrip] = Field(description="Votes of each indicator.")


class MonthReturn(Answer):
    """A month's return."""

    month: str = Field(description="Month in UTC.", examples=["2026-01"])
    return_pct: float | None = Field(description="Percent of the equity that it began with.")


class InspectedRow(ReportRow):
    """A line of the report with its value as people read it."""

    shown: str = Field(description="The value with its unit; durations and dates to the minute.")


class InspectedTrade(Trade):
    """A trade with its times and the prices of its stops."""

    entry_bar: int = Field(description="Bar of the entry, from the first of the part.")
    exit_bar: int = Field(description="Bar of the exit, from the first of the part.")
    entry_ms: int = Field(description="Close of the entry's bar, epoch milliseconds.")
    exit_ms: int = Field(description="Close of the exit's bar, epoch milliseconds.")
    net_pct: float | None = Field(description="Net result in percent of what was put in.")
    sl_price: float | None = Field(description="Price of its stop-loss.")
    tp_price: float | None = Field(description="Price of its take-profit.")


class AroundBody(Answer):
    """Base variants at most one step away on every axis."""

    own: float = Field(description="Return of the variant's own base, in percent.")
    count: int = Field(description="How many there are.")
    median: float = Field(description="Median of their returns.")
    least: float = Field(description="Least return.")
    greatest: float = Field(description="Greatest return.")
    words: str = Field(description="The same as sentences.")


class HoldoutInShort(Answer):
    """What came of the part that was held out, whichever is shown."""

    total_return_pct: float | None = Field(description="Return of the variant.")
    hold_return_pct: float | None = Field(description="Return of buying and holding, no costs.")


class InspectionBody(Answer):
    """One variant."""

    job_id: str = Field(description="UUID of the job.", examples=[_ID])
    rank: int | None = Field(description="Its rank, where it was chosen by it.")
    flat_index: int = Field(description="Place of its base variant in the grid.")
    part: Literal["ranked", "holdout"] = Field(description="Which part of the period.")
    synthetic: bool | None = Field(description="Whether a generator made candles; null: unknown.")
    payload: dict[str, Any] = Field(description="Suffices to run it, or to save it as a strategy.")
    parameters: dict[str, Any] = Field(description="Each choice by its whole name.")
    around: AroundBody | None = Field(
        description="The variants next to it, without stops; null where columns are not kept."
    )
    first_close_ms: int = Field(description="Close of bar 0, epoch milliseconds.")
    bar_ms: int = Field(description="Length of a bar.")
    bars: int = Field(description="Bars of the part.")
    init_cash: float = Field(description="Cash at its start.")
    metrics: dict[str, float | int | None] = Field(description="Numbers that rows are ranked by.")
    rows: list[InspectedRow] = Field(description="The 25 rows.")
    holdout: HoldoutInShort | None = Field(description="Null where nothing was held out.")
    equity: SeriesBody = Field(description="Equity at the close of bars.")
    hold: SeriesBody = Field(description="The cash, put into the instrument at the start.")
    drawdown_pct: SeriesBody = Field(description="Equity below its peak, in percent, not above 0.")
    months: list[MonthReturn] = Field(description="Returns by month.")
    trades_total: int = Field(description="How many trades there are.")
    trades: list[InspectedTrade] = Field(
        description="Trades in order; of very many those with the largest results."
    )
    window: WindowBody = Field(description="Candles and votes of the whole part.")
