"""What the report page shows, as plain JSON-able data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from compute.report.curves import MarketCurve, VariantCurve, rounded
from compute.report.surface import Surface, verdict


class PairRecord(TypedDict):
    """Row-major cells, `y` slow and `x` fast; None where a cell has no value."""

    x: int
    y: int | None
    median: list[float | None]
    mean: list[float | None]
    min: list[float | None]
    max: list[float | None]
    profitable: list[float | None]


class SurfaceRecord(TypedDict):
    """A `Surface` for JSON; `axes` are `{name, labels}`."""

    axes: list[dict[str, Any]]
    pairs: list[PairRecord]
    histogram: dict[str, Any]
    variants: int
    non_finite: int
    median: float
    mean: float
    quartiles: list[float]
    profitable_pct: float
    best_value: float
    best_bins: list[int]
    neighbours: dict[str, float | int] | None
    verdict: str | None


class Document(TypedDict):
    """Everything on the page.

    `result` is the content of result.json: `instrument_id`, `timeframe`, `warmup_bars`, `top_k`,
    `preselect`, `candles{fingerprint, rows, missing, synthetic, first, last}`, `plan` and `run`
    (their scalars are listed as they are named; `run.timings` in seconds), `engine_version` and
    `variants[]` with `variant_key`, `metrics`, `payload`, `report{rows[{metric, value}]}` or
    null, optionally `equals{count, axes}`. A validated run has `holdout` (`{fraction, start_ms}`)
    at the top and in each variant (`{metrics, report}`); the variant's own metrics and report are
    then those of the ranked part.

    `generated` says that the candles come from the generator, not from a market, `source` where
    they were read; `ranking` and `execution` are the effective settings; `curves[].variant` is an
    index into `variants`; `idle_axes` are the axes of the grid that change no vote; `surface` is
    None when the grid's returns were not kept, and `surface_note` says why.
    """

    result: Mapping[str, Any]
    period_start_ms: int
    period_end_ms: int
    generated: bool
    source: str
    direction_mode: str
    sizing_mode: str
    ranking: Mapping[str, Any]
    execution: Mapping[str, Any]
    market: MarketCurve | None
    curves: Sequence[VariantCurve]
    idle_axes: Sequence[str]
    surface: SurfaceRecord | None
    surface_note: str | None


def surface_record(surface: Surface) -> SurfaceRecord:
    """The surface with 7 significant digits, arrays flat."""
    near = surface.neighbours
    return SurfaceRecord(
        axes=[{"name": axis.name, "labels": axis.labels()} for axis in surface.axes],
        pairs=[
            PairRecord(
                x=cells.x,
                y=cells.y,
                median=rounded(cells.median.ravel()),
                mean=rounded(cells.mean.ravel()),
                min=rounded(cells.minimum.ravel()),
                max=rounded(cells.maximum.ravel()),
                profitable=rounded(cells.profitable_pct.ravel()),
            )
            for cells in surface.pairs
        ],
        histogram={
            "edges": rounded(surface.histogram.edges),
            "counts": surface.histogram.counts.tolist(),
            "open_low": surface.histogram.open_low,
            "open_high": surface.histogram.open_high,
        },
        variants=surface.variants,
        non_finite=surface.non_finite,
        median=surface.median,
        mean=surface.mean,
        quartiles=list(surface.quartiles),
        profitable_pct=surface.profitable_pct,
        best_value=surface.best_value,
        best_bins=list(surface.best_bins),
        neighbours=None
        if near is None
        else {
            "count": near.count,
            "median": near.median,
            "min": near.minimum,
            "max": near.maximum,
        },
        verdict=None
        if near is None or not math.isfinite(surface.best_value)
        else verdict(surface.best_value, near),
    )
