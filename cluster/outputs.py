"""What a run leaves behind in its output directory."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

from cluster.columns import MAX_ROWS, ColumnFile, Written, unwritable, write_shortlist
from compute.errors import InvalidInput

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from compute.backtest import Backtest
    from compute.executor import Executor
    from compute.market.timeline import Timeline
    from compute.pipeline import Outcome

RESULT, VARIANTS, REPORT = "result.json", "variants.parquet", "report.html"


@dataclass(slots=True)
class Outputs:
    """An output directory that can be written, and the columns on their way into it.

    Nothing an earlier run left is touched before this one has finished.
    """

    directory: Path
    columns: ColumnFile | None = None

    @property
    def partial(self) -> Path:
        """Where the columns of a run that was stopped go."""
        return self.directory / "variants.partial.parquet"

    def receive(self, job: Backtest, bars: Timeline) -> None:
        """Opens the sink of Stage A where the grid is small enough to keep every row."""
        if job.grid.total <= MAX_ROWS:
            path = self.directory / VARIANTS
            self.columns = ColumnFile(path, job.grid, _labels(job, bars))

    def write_columns(self, outcome: Outcome) -> Written:
        """Writes variants.parquet: all rows, or those of the shortlist."""
        job = outcome.job
        if self.columns is not None:
            written = self.columns.finish()
        else:
            labels = _labels(job, outcome.timeline)
            path = self.directory / VARIANTS
            written = write_shortlist(path, job.grid, outcome.shortlist, labels)
        self.partial.unlink(missing_ok=True)
        return written

    def keep_partial(self, columns: ColumnFile) -> Written:
        """Writes what Stage A delivered before the run was stopped."""
        return columns.keep_partial(self.partial)

    def write(self, name: str, text: str) -> Path:
        """Writes a text file whole or not at all. Raises: InvalidInput."""
        path = self.directory / name
        unfinished = path.with_name(f".{name}.{token_hex(4)}.part")
        try:
            with unfinished.open("x", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
        except OSError as error:
            with suppress(OSError):
                unfinished.unlink(missing_ok=True)
            raise unwritable(path, error) from error
        return path


def outputs(directory: Path) -> Outputs:
    """`directory`, made where it is missing. Raises: InvalidInput when it cannot be written."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise unwritable(directory, error) from error
    return Outputs(directory)


def _labels(job: Backtest, bars: Timeline) -> dict[str, str]:
    from compute.results import ENGINE_VERSION
    from ingest.candle_columns import SYNTHETIC_METADATA

    return {
        "roehub.engine_version": ENGINE_VERSION,
        "roehub.candles_fingerprint": bars.fingerprint,
        SYNTHETIC_METADATA: str(bars.generated).lower(),
        "roehub.grid_request_hash": job.grid_request_hash,
        "roehub.variants_total": str(job.grid.total),
    }


def report_html(
    outcome: Outcome,
    result: Mapping[str, Any],
    executor: Executor,
    *,
    source: str,
    returns: NDArray[np.float64] | None,
    without_returns: str,
) -> str:
    """The report page; `source` is where the candles were read, as a text.

    `returns` are those of the whole grid, else `without_returns` says why there are none.
    """
    from compute.details import replayed
    from compute.report.curves import market_curve, variant_curve
    from compute.report.page import report_page
    from compute.report.ranked import equal_groups

    job = outcome.job
    heads = [group[0] for group in equal_groups(result["variants"])[: job.top_trades_n]]
    curves = replayed(
        outcome,
        heads,
        executor,
        lambda row, walked: (
            market_curve(walked) if row == 0 else None,
            variant_curve(walked, variant=row, init_cash=walked.init_cash),
        ),
    )
    shape, note = _surface(outcome, returns, without_returns)
    return report_page(
        {
            "result": result,
            "period_start_ms": job.period.start_ms,
            "period_end_ms": job.period.end_ms,
            "generated": outcome.timeline.generated,
            "source": source,
            "direction_mode": job.direction_mode,
            "sizing_mode": job.sizing_mode,
            "ranking": {
                "primary_metric": job.primary_metric,
                "secondary_metric": job.secondary_metric,
                "min_trades": job.min_trades,
                "distinct": job.distinct,
            },
            "execution": job.execution.params(),
            "market": curves[0][0] if curves else None,
            "curves": [curve for _, curve in curves],
            "idle_axes": job.grid.idle_axes,
            "surface": shape,
            "surface_note": note,
        }
    )


def _surface(
    outcome: Outcome, returns: NDArray[np.float64] | None, without_returns: str
) -> tuple[Any, str | None]:
    """(surface of the grid's returns, None), or (None, why there is none)."""
    from compute.report.document import surface_record
    from compute.report.surface import surface

    if returns is None:
        return None, without_returns
    grid = outcome.job.grid
    best = outcome.flat(0) if len(outcome.top) else None
    values = [axis.values for axis in grid.axes]
    try:
        return surface_record(surface(returns, grid.axis_names, values, best=best)), None
    except InvalidInput as error:
        return None, error.message
