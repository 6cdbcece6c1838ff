"""What a reader of a result should know first: reasons to trust its numbers less."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from compute.backtest import Backtest
from compute.market.instrument import Instrument
from compute.market.period import instant
from compute.market.timeline import Timeline
from compute.settling import settle_bars

THIN_SHARE = 0.05  # bars without a candle of their own beyond which a run says so


@dataclass(frozen=True, slots=True)
class Caution:
    """One reason; `code` is its stable name."""

    code: str
    message: str


GENERATED = Caution(
    "synthetic_candles", "These candles are SYNTHETIC: nothing here happened on a market"
)


def taken_for(instrument: Instrument, unnamed: Sequence[str]) -> list[Caution]:
    """The caution of candles that do not name their symbol; `unnamed` is what they do not name."""
    if "symbol" not in unnamed:
        return []
    return [
        Caution(
            "instrument_assumed",
            f"the candles name no {' and no '.join(unnamed)}: they are taken for {instrument},"
            f" whatever they are; {'columns' if len(unnamed) > 1 else 'a column'}"
            f" {' and '.join(unnamed)} would be compared with the request",
        )
    ]


def ignored(job: Backtest) -> list[Caution]:
    """The caution of rule parameters that belong to no indicator of the grid."""
    if not job.ignored_signals:
        return []
    return [
        Caution(
            "signals_ignored",
            f"signal_grids of {', '.join(job.ignored_signals)} are ignored: the grid has no such"
            " indicator",
        )
    ]


def unsettled_bars(job: Backtest, timeline: Timeline) -> int:
    """First bars of the target slice that are voted on before every indicator has settled."""
    missing = settle_bars(job.grid) - 1 - timeline.start
    return max(0, min(missing, timeline.stop - timeline.start))


def cautions(job: Backtest, timeline: Timeline) -> list[Caution]:
    """The cautions of a run, known before it starts."""
    found = [GENERATED] if timeline.generated else []
    found += ignored(job)
    made_up = timeline.synthetic / len(timeline.candles)
    if made_up > THIN_SHARE:
        found.append(
            Caution(
                "carried_forward",
                f"{made_up:.0%} of the bars repeat the close before them: no candles there (the"
                f" range has some from {instant(timeline.first_ms)} to"
                f" {instant(timeline.last_ms)}); narrow time_range, complete the candles, or check"
                " that their timeframe is the right one",
            )
        )
    if early := unsettled_bars(job, timeline):
        need = settle_bars(job.grid)
        cure = (
            f"send warmup_bars {need} or more"
            if timeline.start + 1 >= job.warmup_bars
            else f"the candles begin too late for the {need} bars of warm-up that it takes"
        )
        found.append(
            Caution(
                "unsettled",
                f"the run starts before its indicators have settled: the first {early} of"
                f" {timeline.stop - timeline.start} bars are voted on with averages that still"
                f" remember where they began; {cure}",
            )
        )
    held = _holdout_start_ms(job, timeline)
    if held is not None and timeline.last_ms < held:
        found.append(
            Caution(
                "holdout_without_candles",
                f"the held-out part begins {instant(held)}, behind the last candle"
                f" ({instant(timeline.last_ms)}): it says nothing",
            )
        )
    return found


def _holdout_start_ms(job: Backtest, timeline: Timeline) -> int | None:
    bars = timeline.stop - timeline.start
    held = int(bars * job.holdout_fraction)
    if held == 0:
        return None
    return int(timeline.close_ts_ms[timeline.stop - held])
