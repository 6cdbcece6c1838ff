"""One variant of a job, chosen by its rank or its place in the grid, as what a worker looks at."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import numpy as np

from api.backtests import variant_backtest
from api.errors import Conflict, NotFound, invalid
from api.jobs import Jobs, grid_of, stored
from api.ranked import flat_of
from api.users import User
from api.variant_tasks import Look, VariantTask
from cluster.jobs.job import Job
from cluster.jobs.market_file import MarketFileLost, read_market
from compute.backtest import Backtest
from compute.errors import InvalidGrid
from compute.market.candles import Candles
from compute.market.timeline import Timeline
from compute.results import payload
from compute.risk import risk_params
from compute.settings import Defaults

Record = dict[str, Any]
FLAT_MAX: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Place:
    """Which variant: of the ranked rows, or a base variant with stops of one's own or none."""

    rank: int | None = None
    flat_index: int | None = None
    sl_pct: float | None = None
    tp_pct: float | None = None

    def __post_init__(self) -> None:
        if (self.rank is None) == (self.flat_index is None):
            message = "exactly one of rank and flat_index says which variant"
            raise invalid(message, "mode_conflict", "query.rank", "query.flat_index")
        if self.rank is not None and (self.sl_pct, self.tp_pct) != (None, None):
            message = "a ranked row has its own stops; send sl_pct and tp_pct with a flat_index"
            raise invalid(message, "mode_conflict", "query.rank")


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """A variant of a job: its payload, and the flat index of its base variant."""

    job: Job
    rank: int | None
    flat_index: int
    payload: Record


async def chosen(jobs: Jobs, job_id: UUID, user: User, place: Place, sent: str = "query") -> Chosen:
    """The variant at a place, which the request has `sent` in its query or its body.

    Raises: NotFound, Forbidden, InvalidRequest.
    """
    job = await jobs.job(job_id, user)
    grid = grid_of(job)
    if place.rank is None:
        flat = place.flat_index or 0
        if flat >= grid.total:
            message = f"flat_index is below {grid.total}, the base variants of the job"
            raise invalid(message, "less_than", f"{sent}.flat_index")
        return Chosen(job, None, flat, base_payload(job, flat, place.sl_pct, place.tp_pct))
    with stored():
        rows = await jobs.store.top(job_id, place.rank)
    if len(rows) < place.rank:
        raise NotFound(
            f"job {job_id} has no row of rank {place.rank}; it has {len(rows)} so far",
            details={"job_id": str(job_id), "rank": place.rank},
        )
    row = rows[-1]
    try:
        return Chosen(job, place.rank, flat_of(row.payload, grid), row.payload)
    except InvalidGrid as error:
        raise Conflict(error.message, details={"job_id": str(job_id)}) from None


def base_payload(job: Job, flat: int, sl_pct: float | None, tp_pct: float | None) -> Record:
    """The payload of a base variant with these stops."""
    from cluster.jobs.snapshot import backtest_of

    known = backtest_of(job.effective_json, job.hashes)
    return payload(_Base(known, flat), 0) | {"risk_params": risk_params(sl_pct, tp_pct)}  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class _Base:
    """A base variant, as `compute.results.payload` asks an outcome for it."""

    job: Backtest
    at: int

    def flat(self, row: int) -> int:
        return self.at

    def risk_index(self, row: int) -> int:
        return 0


async def variant_task(jobs: Jobs, found: Chosen, look: Look) -> tuple[VariantTask, Candles]:
    """The task that looks at a variant over the job's bars, and their candles. Raises: Conflict."""
    job = found.job
    effective = job.effective_json
    market_id = effective["template"]["instrument_id"]["market_id"]
    around = {name: effective[name] for name in ("time_range", "warmup_bars", "template")}
    any_fee = Defaults(fee_pct_default_by_market_id={market_id: 0.0})  # the variant has its own
    one = variant_backtest(around, found.payload, any_fee)
    one = replace(one, holdout_fraction=effective["validation"]["holdout_fraction"])
    bars = await jobs.threaded(_bars, job, one)
    none = Candles(np.empty(0, np.int64), *(np.empty(0, np.float32) for _ in range(5)))
    limits = jobs.context.limits.halved()
    return VariantTask(one, limits, replace(bars, candles=none), look), bars.candles


def _bars(job: Job, one: Backtest) -> Timeline:
    try:
        return read_market(Path(job.results_dir), one, job.candles_fingerprint)
    except MarketFileLost as error:
        raise Conflict(
            f"the candles of job {job.job_id} are not in the directory of results any more; submit"
            " its request again",
            details={"error": "candles_gone", "job_id": str(job.job_id)},
        ) from error


TRADE_FIELDS: Final = (
    "trade_id", "direction", "entry_ms", "exit_ms", "entry_fill_price", "exit_fill_price",
    "qty_base", "entry_quote_amount", "exit_quote_amount", "entry_fee_quote", "exit_fee_quote",
    "gross_pnl_quote", "net_pnl_quote", "net_pct", "locked_profit_quote", "sl_price", "tp_price",
    "exit_reason", "entry_bar_index", "exit_bar_index",
)  # fmt: skip
TRADE_FORMS: Final = {
    "csv": "text/csv; charset=utf-8",
    "json": "application/json",
    "parquet": "application/vnd.apache.parquet",
}


def trades_csv(trades: Sequence[Mapping[str, Any]]) -> bytes:
    """Trades as CSV, a line each."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(TRADE_FIELDS)
    writer.writerows([trade[name] for name in TRADE_FIELDS] for trade in trades)
    return text.getvalue().encode()


def trades_parquet(trades: Sequence[Mapping[str, Any]], labels: Mapping[str, str]) -> bytes:
    """Trades as a Parquet file; times are in UTC."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {
        "trade_id": pa.int64(), "direction": pa.string(), "exit_reason": pa.string(),
        "entry_ms": pa.timestamp("ms", "UTC"), "exit_ms": pa.timestamp("ms", "UTC"),
        "entry_bar_index": pa.int64(), "exit_bar_index": pa.int64(),
    }  # fmt: skip
    schema = pa.schema([(name, kinds.get(name, pa.float64())) for name in TRADE_FIELDS])
    columns = {name: pa.array([t[name] for t in trades], schema.field(name).type)
               for name in TRADE_FIELDS}  # fmt: skip
    out = io.BytesIO()
    table = pa.table(columns, schema=schema).replace_schema_metadata(dict(labels))
    pq.write_table(table, out, compression="zstd")
    return out.getvalue()
