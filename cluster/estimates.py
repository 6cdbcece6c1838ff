"""What a request will take: variants, bytes, spans and seconds, found without running it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cluster import inputs
from cluster.ranked import caution_lines
from compute.errors import GuardExceeded, InvalidInput
from compute.quantities import spaced

if TYPE_CHECKING:
    from compute.backtest import Backtest
    from compute.cautions import Caution
    from compute.market.timeline import Timeline
    from compute.plan import Plan
    from compute.probe import Forecast
    from compute.settings import Limits

_UNGUARDED: Final = 1 << 62
_SLOW_METRICS: Final = ("max_drawdown_pct", "return_over_max_drawdown")
_SOURCE_BARS: Final = 200_000


@dataclass(frozen=True, slots=True)
class Estimate:
    """The plan of a request against the guards; `refusal` is what a run would be told.

    `cautions` are those of the request and of the candles, where these are given.
    """

    job: Backtest
    plan: Plan
    limits: Limits
    forecast: Forecast | None
    made_up: bool
    cautions: list[Caution]
    refusal: GuardExceeded | None

    @property
    def slow_metric(self) -> str | None:
        """A ranking metric that needs the equity of every bar of every variant."""
        wanted = (self.job.primary_metric, self.job.secondary_metric)
        return next((name for name in wanted if name in _SLOW_METRICS), None)

    def record(self) -> dict[str, Any]:
        """The estimate as JSON."""
        sizes, made = self.plan, self.forecast
        return {
            "loaded_bars": sizes.bars,
            "ranked_bars": sizes.slice_bars,
            "stage_a_variants_total": sizes.stage_a_total,
            "stage_a_distinct_total": sizes.distinct_total,
            "idle_axes": [*self.job.grid.idle_axes],
            "preselect": sizes.preselect,
            "risk_variants_total": sizes.risk_total,
            "stage_b_variants_total": sizes.stage_b_total,
            "max_variants_per_compute": self.limits.max_variants_per_compute,
            "planes": {
                table.indicator_id: {"long": table.long_rows, "short": table.short_rows}
                for table in sizes.tables
            },
            "memory_bytes": sizes.memory_bytes,
            "estimated_memory_bytes": sizes.total_bytes,
            "max_compute_bytes_total": self.limits.max_compute_bytes_total,
            "contract_memory_bytes": sizes.contract_memory_bytes,
            "blocks": len(sizes.boxes),
            "spans": None if made is None else made.spans,
            "threads": None if made is None else made.workers,
            "seconds": None if made is None else made.seconds,
            "slow_metric": self.slow_metric,
            "cautions": [asdict(caution) for caution in self.cautions],
            "refusal": None
            if self.refusal is None
            else {"message": self.refusal.message, "details": self.refusal.details},
        }


def estimated(
    body: object,
    candles: Path | None,
    frame: str | None,
    threads: int | None,
    max_variants: int | None,
    memory_bytes: int | None,
) -> Estimate:
    """The `Estimate` of a request, timed on its candles or on as many made-up ones.

    The candles are those of a file, else of the store; made up where the store has none of them.
    A request that a guard refuses is not timed.
    Raises: InvalidInput, InvalidConfig, StoreUnavailable.
    """
    from compute.cautions import ignored
    from compute.probe import forecast

    job = inputs.effective(body)
    workers = inputs.threads(threads)
    market: inputs.Market | None = None
    with suppress(inputs.NoStoredCandles):
        market = inputs.read_market(job, candles, frame)
    timeline = None if market is None else market.timeline
    bars, traded = bars_of(job) if timeline is None else timeline_bars(timeline)
    with inputs.flags_named():
        found = untimed(job, bars, traded, inputs.limits(max_variants, memory_bytes), workers)
    found = replace(
        found,
        made_up=timeline is None,
        cautions=ignored(job) if market is None else market.cautions(job),
    )
    if found.refusal is not None:
        return replace(found, refusal=found.refusal.with_flags(inputs.FLAGS))
    made = forecast(job, timeline or _made_up(job, bars, traded), found.plan, workers)
    return replace(found, forecast=made)


def untimed(
    job: Backtest, bars: int, traded: int, limits: Limits, workers: int, *, columns: bool = True
) -> Estimate:
    """The `Estimate` of `job` over `bars` loaded bars of which `traded` are traded; no seconds.

    `columns` says whether the columns of Stage A are kept.
    Raises: InvalidInput; GuardExceeded for rules of so many settings that counting is work itself.
    """
    from compute.plan import plan
    from compute.settings import Limits

    ranked = traded - int(traded * job.holdout_fraction)
    if ranked < 1:
        raise InvalidInput(
            f"no bar of {job.timeframe.code} closes within time_range {job.period}; lengthen it"
        )
    refusal: GuardExceeded | None = None
    try:
        sizes = plan(job, bars, ranked, limits, workers=workers, columns=columns)
    except GuardExceeded as error:
        if max(part.signal_total for part in job.grid.indicators) > limits.max_variants_per_compute:
            raise
        refusal = error
        free = Limits(_UNGUARDED, _UNGUARDED)
        sizes = plan(job, bars, ranked, free, workers=workers, columns=columns)
    return Estimate(job, sizes, limits, None, False, [], refusal)


def text(found: Estimate) -> str:
    """The estimate as lines for a terminal."""
    from compute.cli import aligned

    sizes, limits = found.plan, found.limits
    most = limits.max_variants_per_compute
    guard = f"; the guard is {spaced(most)}"
    idle = ", ".join(found.job.grid.idle_axes)
    same = f"; what votes does not depend on {idle}" if idle else ""
    pairs = f"= best {spaced(sizes.preselect)} × {spaced(sizes.risk_total)} stop pairs"
    rows = [
        ("bars", spaced(sizes.slice_bars), f"ranked on, of {spaced(sizes.bars)} loaded"),
        (
            "Stage A",
            spaced(sizes.stage_a_total),
            f"base variants{guard}{_over(sizes.stage_a_total > most)}",
        ),
        ("", spaced(sizes.distinct_total), f"with votes that can differ{same}"),
        ("Stage B", spaced(sizes.stage_b_total), pairs + _over(sizes.stage_b_total > most, guard)),
    ]
    rows += [
        ("planes", spaced(table.long_rows + table.short_rows), table.indicator_id)
        for table in sizes.tables
    ]
    budget = _mebibytes(limits.max_compute_bytes_total)
    refused = found.refusal.details.get("error") if found.refusal else None
    over = _over(refused == "max_compute_bytes_total_exceeded")
    text = f"of a budget of {budget}{over}, made of"
    rows.append(("memory", _mebibytes(sizes.total_bytes), text))
    rows += [("", _mebibytes(size), name) for name, size in sizes.memory_bytes.items()]
    nominal = _mebibytes(sizes.contract_memory_bytes)
    rows.append(("nominal", nominal, "by the tensor formula; nothing allocates it"))
    if len(sizes.boxes) > 1:
        rows.append(("blocks", str(len(sizes.boxes)), "parts of the grid, one after the other"))
    if found.forecast is not None:
        made = found.forecast
        rows += [
            (
                "spans",
                spaced(count),
                stage.replace("stage_a", "Stage A").replace("stage_b", "Stage B"),
            )
            for stage, count in made.spans.items()
        ]
        source = "made-up candles, the store has none" if found.made_up else "these candles"
        cores = f"{made.workers} core{'s' if made.workers > 1 else ''}"
        rows.append(("seconds", f"{made.total_seconds:.2f}", f"on {cores}, probed on {source}"))
        rows += [("", f"{s:.2f}", name.replace("_", " ")) for name, s in made.seconds.items()]
    width = max(len(row[1]) for row in rows)
    lines = aligned([(label, value.rjust(width), rest) for label, value, rest in rows])
    if found.forecast is not None:
        lines.append("starting Ray (some seconds) and loading kernels (about one) come on top")
    if found.slow_metric:
        lines.append(
            f"SLOW: {found.slow_metric} needs the equity of every bar of every variant; "
            "total_return_pct and profit_factor do not"
        )
    lines += caution_lines(caution.message for caution in found.cautions)
    if found.refusal is not None:
        lines.append(f"would be refused: {found.refusal.message}")
    return "\n".join(lines)


def _over(refused: bool, guard: str = "") -> str:
    """The mark of a line that a guard refuses."""
    return f"{guard} – OVER" if refused else ""


def timeline_bars(timeline: Timeline) -> tuple[int, int]:
    """(loaded, traded) bars of a timeline."""
    return len(timeline.candles), timeline.stop - timeline.start


def bars_of(job: Backtest, first_ms: int | None = None) -> tuple[int, int]:
    """(loaded, traded) bars of a market whose first candle opens at `first_ms`, long ago without.

    Traded are those whose close lies in the period. Warm-up is counted back from the start, and
    the bar that closes there is traded. No hole makes a bar less: the one before goes on.
    """
    step = job.timeframe.ms
    stop = -(-job.period.end_ms // step) - 1
    traded = -(-job.period.start_ms // step) - 1
    loaded = job.period.start_ms // step - job.warmup_bars
    if first_ms is not None:
        loaded = max(loaded, first_ms // step)
    return max(0, stop - loaded), max(0, stop - max(traded, loaded))


def _made_up(job: Backtest, bars: int, traded: int) -> Timeline:
    """A plain walk as long as the probe looks at it."""
    from compute.market.period import Period
    from compute.market.timeline import timeline
    from ingest.synthetic import walk_candles

    step = job.timeframe.ms
    length = min(traded, _SOURCE_BARS)
    before = min(bars - traded, _SOURCE_BARS)
    start_ms = 365 * 86_400_000
    made = walk_candles(seed=1, bars=length + before, frame=job.timeframe, start_ms=start_ms)
    first = start_ms + (before + 1) * step
    period = Period(first, first + (length - 1) * step + 1)
    found = timeline(made, job.timeframe, job.instrument, job.timeframe, period, before + 1)
    return replace(found, period=job.period)


def _mebibytes(size: int) -> str:
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"
