"""Previews of indicators: the candles they need, and the task of a worker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from api.candles import Wanted
from api.market import MINUTE, Market, no_market_data
from compute.control import Control, Report
from compute.market.timeline import load_window

if TYPE_CHECKING:
    from compute.executor import LocalExecutor
    from compute.market.candles import Candles
    from compute.preview import PreviewJob


@dataclass(frozen=True, slots=True, eq=False)
class PreviewTask:
    """The preview of one setting of an indicator; `generated` says that its candles are made up."""

    job: PreviewJob
    generated: bool = False

    def result(
        self, candles: Candles, executor: LocalExecutor, control: Control, report: Report
    ) -> Any:
        from compute.market.timeline import timeline
        from compute.preview import preview

        job = self.job
        bars = timeline(
            candles, MINUTE, job.instrument, job.timeframe, job.period, job.warmup_bars,
            generated=self.generated,
        )  # fmt: skip
        control.check("preview")
        return preview(job, bars)


def preview_candles(job: PreviewJob, market: Market, max_candles: int) -> tuple[Candles, bool]:
    """(the minutes of a preview, whether a generator made some of them); blocks.

    Raises: GuardExceeded, NoMarketData.
    """
    load = load_window(job.period, job.timeframe, job.warmup_bars, MINUTE)
    Wanted(job.instrument, load).check(max_candles)
    found = market.candle_store.candles(job.instrument, load)
    if len(found) == 0 or int(found.ts_open_ms[-1]) + MINUTE.ms <= job.period.start_ms:
        raise no_market_data(job.instrument, job.period, market.bounds(job.instrument))
    return found, market.candle_store.synthetic(job.instrument, load) > 0
