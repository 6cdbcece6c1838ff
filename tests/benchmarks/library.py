"""Sections w1 and votes: series of every indicator, and what their votes cost on top.

W1 is windows 5..200 over a year of 1m. Beside each grid, in the same rounds, stand a plain fill of
the same float32 output and TA-Lib called once a window. Votes are the same rows as two bit planes,
from candles to planes, beside the series alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from compute.axes import materialised
from compute.grid import Axis, IndicatorGrid
from compute.indicator_grids import proposed_axis
from compute.indicators.definition import Rule
from compute.indicators.registry import definition, ids
from compute.planes import build_votes, vote_layout
from tests.benchmarks.findings import Findings, Goal, Table, figure
from tests.benchmarks.options import Options
from tests.benchmarks.rounds import Times, Work, interleaved
from tests.benchmarks.series import Tensor, prove, year
from tools.docs import conformance
from tools.docs.conformance_table import MATCHES, Match

YEAR, CUT = 525_600, 65_536
# Share of the fill that the grids people run most must reach.
WANTED: Final[Mapping[str, float]] = {
    "ma.sma": 45, "ma.ema": 45, "ma.rma": 45, "ma.wma": 45, "volatility.atr": 45,
    "trend.donchian": 30, "momentum.macd": 25, "momentum.rsi": 15,
    "volatility.bbands_percent_b": 15,
}  # fmt: skip
LEAST_SHARE, LEAST_LEAD, MOST_VOTES = 2.0, 2.0, 1.5
# What is slow by its nature: not held to the least share of the fill.
SLOW: Final[Mapping[str, str]] = {
    "ma.frama": "an exponential of a logarithm of three ranges a value, in a recursion",
    "ma.mcginley": "a division by a fourth power a value, each waiting for the one before",
    "momentum.connors_rsi": "two RSI and a rank a value",
    "volatility.yang_zhang": "two variances and a range estimator a value, free of cancellation",
}
# One series a market, whatever the grid: nothing to share, and TA-Lib's loop is as short.
ALONE: Final = ("volume.ad_line", "volume.pvt", "volatility.tr", "structure.candle_body_pct")
SAMPLE = 12
"""Settings of a grid that TA-Lib is given, spread over all."""
# For each family of rules an indicator that is cheap to compute: its votes weigh most.
VOTERS: Final = (
    "ma.sma", "volume.volume_sma", "momentum.macd", "volatility.atr", "momentum.rsi",
    "trend.vortex", "structure.candle_stats_atr_norm", "structure.pivots",
)  # fmt: skip


def section_w1(options: Options) -> Findings:
    """Nanoseconds a value, share of the fill and lead over TA-Lib, an indicator a line."""
    bars = CUT if options.quick else YEAR
    options.say(f"w1: {len(ids())} indicators on {bars:,} bars; fill, TA-Lib and grid in turn")
    found = Findings("w1")
    rows: list[tuple[object, ...]] = []
    shares: dict[str, float] = {}
    leads: dict[str, float] = {}
    single: dict[str, float] = {}
    room = np.empty((256, bars), np.float32)
    for indicator_id in ids():
        prove(indicator_id)
        tensor = Tensor.of(indicator_id, year(bars), room)
        times, lead = _timed(tensor, options), None
        share = {n: 100 * times.best_ratio(f"fill {n}", f"grid {n}") for n in options.threads}
        if indicator_id not in SLOW:
            shares[indicator_id] = max(share.values())
        for threads, goal in ((n, WANTED.get(indicator_id)) for n in options.threads):
            if goal is not None:
                name = f"W1 {indicator_id}, {threads} threads: share of the fill"
                found.goals.append(
                    Goal(name, "at least", goal, share[threads], "%", judged=not options.quick)
                )
        if "talib" in times.series:
            lead = _lead(times, tensor)
            (single if indicator_id in ALONE else leads)[indicator_id] = lead
        rows.append(_line(tensor, times, share, lead, options.threads))
    found.tables.append(
        Table(
            f"W1: windows 5..200 over {figure(bars)} bars",
            (
                "indicator", "output", "rows",
                *(f"ns a value, {n} threads" for n in options.threads),
                *(f"% of fill, {n} threads" for n in options.threads), "× TA-Lib, 1 thread",
            ),
            rows,
            "ns are of the wall clock; indicators with several windows get about 200 settings, "
            "those without one a single row; TA-Lib writes float64, is called once a setting and "
            f"gets {SAMPLE} of them; not held to {LEAST_SHARE:.0f} % of the fill: "
            + "; ".join(f"{name} ({why})" for name, why in SLOW.items()),
        )
    )  # fmt: skip
    for name, limit, of, unit in (
        ("W1, smallest share of the fill", LEAST_SHARE, shares, "%"),
        ("W1, smallest lead over TA-Lib on one thread", LEAST_LEAD, leads, "×"),
        ("W1, the same for series without parameters", LEAST_LEAD, single, "×"),
    ):
        found.goals.append(_worst(name, limit, of, unit, options))
    return found


def _timed(tensor: Tensor, options: Options) -> Times:
    """Rounds of the grid and the fill on each number of threads, and of TA-Lib on one."""
    wanted = tensor.known.indicator_id in WANTED
    rounds, series = options.rounds if wanted else (min(3, options.few), 1)
    pools = {threads: ThreadPoolExecutor(threads) for threads in options.threads}
    works: dict[str, Work] = {}
    for threads, pool in pools.items():
        works[f"fill {threads}"] = partial(tensor.fill, pool)
        works[f"grid {threads}"] = partial(tensor.compute, pool)
    match = _match(tensor)
    if match is not None and options.threads[0] == 1:
        works["talib"] = _peer(tensor, match)
    try:
        return interleaved(works, rounds=rounds, series=series)
    finally:
        for pool in pools.values():
            pool.shutdown()


def _match(tensor: Tensor) -> Match | None:
    """TA-Lib's counterpart of the output, None where it has none."""
    matches = MATCHES.get(tensor.known.indicator_id, ())
    return next((match for match in matches if match.output == tensor.output), None)


def _sample(tensor: Tensor) -> NDArray[np.int64]:
    rows = len(tensor.rows)
    return np.unique(np.linspace(0, rows - 1, min(rows, SAMPLE)).astype(np.int64))


def _peer(tensor: Tensor, match: Match) -> Work:
    """One call of TA-Lib a sampled setting; its inputs are made before."""
    chosen = _sample(tensor)
    params, source = tensor.rows.settings(chosen)
    names = conformance.inputs(tensor.series, source)
    settings = [
        {name: values[i].item() for name, values in params.items()} for i in range(chosen.size)
    ]

    def called() -> None:
        for setting in settings:
            conformance.evaluated(match, names, setting)

    return called


def _lead(times: Times, tensor: Tensor) -> float:
    """TA-Lib's time a row over ours, both on one thread."""
    return times.best_ratio("talib", "grid 1") * len(tensor.rows) / _sample(tensor).size


def _line(
    tensor: Tensor,
    times: Times,
    share: Mapping[int, float],
    lead: float | None,
    threads: tuple[int, ...],
) -> tuple[object, ...]:
    cost = [times.median(f"grid {n}") / tensor.values * 1e9 for n in threads]
    known, output = tensor.known, tensor.output
    return (known.indicator_id, output, len(tensor.rows), *cost, *share.values(), lead)


def _worst(name: str, limit: float, of: Mapping[str, float], unit: str, options: Options) -> Goal:
    """The goal that every one of `of` reaches the limit, as its smallest value."""
    worst = min(of, key=lambda indicator_id: of[indicator_id], default=None)
    if worst is None:
        return Goal(name, "at least", limit, None, unit)
    full = f"{name} ({worst})"
    return Goal(full, "at least", limit, of[worst], unit, judged=not options.quick)


def section_votes(options: Options) -> Findings:
    """Time from candles to planes over that of the series alone, a rule a line."""
    bars = CUT if options.quick else YEAR
    options.say(f"votes: {len(VOTERS)} rules on {bars:,} bars; series and planes in turn")
    found = Findings("votes")
    rows: list[tuple[object, ...]] = []
    room = np.empty((256, bars), np.float32)
    for indicator_id in VOTERS:
        rule = definition(indicator_id).output().rule
        assert rule is not None
        for threads in options.threads:
            ratio, line = _votes(indicator_id, rule, room, threads, options)
            rows.append(line)
            name = f"votes by {rule.family}, {threads} threads: planes over the series alone"
            found.goals.append(Goal(name, "at most", MOST_VOTES, ratio, judged=not options.quick))
    found.tables.append(
        Table(
            f"From candles to bit planes, {figure(bars)} bars",
            ("rule", "indicator", "rows", "threads", "series, ns a value", "planes, ns a value",
             "ratio", "best series", "all proposed, ns a value", "planes a row"),
            rows,
            "one setting of the rule: a LONG and a SHORT plane a row; at last every proposed "
            "setting of the rule at once",
        )
    )  # fmt: skip
    return found


def _votes(
    indicator_id: str, rule: Rule, room: NDArray[np.float32], threads: int, options: Options
) -> tuple[float, tuple[object, ...]]:
    """(planes over series in the calmest series, the line of the table)."""
    tensor = Tensor.of(indicator_id, year(room.shape[1]), room)
    one, every = _signals(tensor.rows.grid, rule, 1), _signals(tensor.rows.grid, rule, None)
    with ThreadPoolExecutor(threads) as pool:
        works: dict[str, Work] = {
            "series": partial(_alone, tensor, rule, pool),
            "planes": _packed(tensor, one, pool),
            "proposed": _packed(tensor, every, pool),
        }
        rounds, series = options.rounds
        times = interleaved(works, rounds=rounds, series=series)
    cost = {name: times.median(name) / tensor.values * 1e9 for name in works}
    layout = vote_layout(every)
    ratio = times.least_ratio("planes", "series")
    return ratio, (
        rule.family, indicator_id, len(tensor.rows), threads, cost["series"], cost["planes"],
        times.ratio("planes", "series"), ratio, cost["proposed"],
        layout.long.count + layout.short.count,
    )  # fmt: skip


def _alone(tensor: Tensor, rule: Rule, pool: ThreadPoolExecutor) -> None:
    """Every series that the rule reads: pivots are two."""
    tensor.compute(pool)
    if rule.long_output is not None:
        replace(tensor, output=rule.long_output).compute(pool)


def _signals(series: IndicatorGrid, rule: Rule, count: int | None) -> IndicatorGrid:
    """The grid with the first `count` proposed values of each rule parameter."""
    axes = tuple(
        Axis(param.name, materialised(proposed_axis(param))[:count]) for param in rule.params
    )
    return IndicatorGrid(series.definition, series.output, series.compute, axes)


def _packed(tensor: Tensor, wanted: IndicatorGrid, pool: ThreadPoolExecutor) -> Work:
    """From candles to planes that are already in memory, as the rows of the series are."""
    layout = vote_layout(wanted)
    series = tensor.series
    planes = np.empty((layout.n_long + layout.n_short, (len(series) + 63) // 64), np.uint64)

    def each(work: Any, blocks: Any) -> None:
        list(pool.map(work, blocks))

    def packed() -> None:
        planes.flags.writeable = True
        build_votes(layout, replace(series), 0, len(series), each=each, out=planes)

    return packed
