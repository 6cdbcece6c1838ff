"""Sections scaling and corners: cost by bars and variants; the grids the engine likes least."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

from compute.bits import words
from tests.benchmarks.arena import FIXED, SCORE, Arena, scan, scored
from tests.benchmarks.findings import Findings, Goal, Table
from tests.benchmarks.options import Options
from tests.benchmarks.proof import prove
from tests.benchmarks.roofline import probe
from tests.benchmarks.rounds import Work, interleaved
from tests.benchmarks.speed import Sizes, race
from tests.benchmarks.workloads import Workload, w2, w3, workload

YEAR = {"1h": 8_760, "15m": 35_040, "5m": 105_120, "1m": 525_600}


def section_scaling(options: Options) -> Findings:
    """A year in finer and finer bars; five thousand variants and a hundred thousand."""
    found = Findings("scaling")
    options.say("scaling: the grid of W2 over a year of 1h, 15m, 5m and 1m; W2 against W3")
    years = {f: b for f, b in YEAR.items() if not options.quick or f != "1m"}
    arenas = {frame: Arena(w2(frame=frame, bars=bars), 1) for frame, bars in years.items()}
    growth, rows = _costs(arenas, options)
    found.tables.append(
        Table(
            "W2's grid over one year, one thread",
            ("bars of", "bars", "stage", "variants/s", "ns per variant·bar", "ns per trade",
             "trades per variant", "of 1h per bar", "of probe"),
            rows,
            "a bar of any length makes about as many trades; growth is that of the calmest series",
        )
    )  # fmt: skip
    finest = list(years)[-1]
    for stage in "AB":
        found.goals.append(
            Goal(
                f"Stage {stage}, cost per bar, {finest} over 1h", "at most", 1.3,
                growth[finest, stage], judged=not options.quick,
            )
        )  # fmt: skip
    grids: dict[str, Workload] = {"W2": w2(), "W3": w3()}
    arenas = {name: Arena(grid, 1) for name, grid in grids.items()}
    growth, rows = _costs(arenas, options, stages="A")
    found.tables.append(
        Table(
            "5 000 and 100 000 variants, one thread",
            ("grid", "bars", "stage", "variants/s", "ns per variant·bar", "ns per trade",
             "trades per variant", "of W2 per bar", "of probe"),
            rows,
        )
    )  # fmt: skip
    found.goals.append(
        Goal(
            "Stage A, cost per variant, 100 000 over 5 000 variants",
            "at most",
            1.1,
            growth["W3", "A"],
        )
    )
    return found


def _costs(
    arenas: dict[str, Arena], options: Options, stages: str = "AB"
) -> tuple[dict[tuple[str, str], float], list[tuple[object, ...]]]:
    """(cost of a variant·bar over the first arena's in the calmest series, rows of the table)."""
    works: dict[str, Work] = {}
    units: dict[str, tuple[int, float]] = {}
    with ThreadPoolExecutor(1) as pool:
        for name, arena in arenas.items():
            for stage in stages:
                made = arena.stage_a() if stage == "A" else arena.stage_b(arena.best(200))
                scores = scored(made, 1)
                units[f"{name} {stage}"] = len(scores), float(scores.trades.mean())
                works[f"{name} {stage}"] = partial(scan, made, pool, 1)
            works[f"{name} probe"] = partial(probe, pool, 1, words(arena.bars))
            units[f"{name} probe"] = probe(pool, 1, words(arena.bars)), 0.0
        times = interleaved(works, rounds=options.few, series=1 if options.quick else 3)
    first = next(iter(arenas))
    growth: dict[tuple[str, str], float] = {}
    rows: list[tuple[object, ...]] = []
    for stage in stages:
        for name, arena in arenas.items():
            work = f"{name} {stage}"
            variants, trades = units[work]
            seconds = times.median(work) / variants
            scale = variants * arena.bars / (units[f"{first} {stage}"][0] * arenas[first].bars)
            growth[name, stage] = times.least_ratio(work, f"{first} {stage}") / scale
            probed = times.median(f"{name} probe") / units[f"{name} probe"][0]
            rows.append(
                (name, arena.bars, stage, 1 / seconds, 1e9 * seconds / arena.bars,
                 1e9 * seconds / max(trades, 1e-9), trades, growth[name, stage],
                 probed / seconds)
            )  # fmt: skip
    return growth, rows


def corners() -> list[Workload]:
    """Grids at the edge of what the engine was built for."""
    stops = ([1, 2, 4, 8], [2, 4, 8, 16])
    many = {"ma.sma": {"window": range(5, 55)}, "momentum.rsi": {"window": range(5, 25)}}

    def corner(name: str, about: str, **changes: object) -> Workload:
        made = {"frame": "15m", "bars": 35_040, "indicators": many, "stops": stops, **changes}
        return workload(name, about, **made)  # type: ignore[arg-type]

    return [
        corner("dense", "votes that turn every few bars: RSI 2..3, band 50 / 50",
               indicators={"ma.sma": {"window": range(2, 7)},
                           "momentum.rsi": {"window": range(2, 12)}},
               band=((50,), (50,))),
        corner("sparse", "a vote now and then: RSI band 80 / 20", band=((80,), (20,))),
        corner("unlike", "neighbours that share nothing: windows 40 apart",
               indicators={"ma.sma": {"window": range(5, 1005, 40)},
                           "momentum.rsi": {"window": range(5, 155, 40)}}),
        corner("short grid", "eight variants",
               indicators={"ma.sma": {"window": [10, 20, 40, 80]},
                           "momentum.rsi": {"window": [7, 14]}}),
        corner("short history", "five hundred bars", bars=500),
    ]  # fmt: skip


def section_corners(options: Options) -> Findings:
    """Grids the engine likes least, against the same baseline."""
    options.say("corners: dense, sparse, unlike and short grids")
    rows: list[tuple[object, ...]] = []
    for grid in corners():
        arena = Arena(grid, 1)
        prove(arena, base=2, pairs=2, modes=(SCORE,))
        ranks = min(50, arena.variants)
        run = race(arena, (SCORE, FIXED), (1,), Sizes(128, ranks, 2, options.few, 1))
        for sprint in run.sprints:
            rows.append(
                (grid.name, grid.about, arena.variants, sprint.stage, sprint.mode.name,
                 sprint.trades_per_variant, 1 / run.seconds(sprint, 1),
                 run.ratio(sprint.mode, sprint.stage, 1))
            )  # fmt: skip
    table = Table(
        "Corners, one thread",
        ("grid", "what", "variants", "stage", "mode", "trades per variant", "engine variants/s",
         "ratio"),
        rows,
        "ratio to the compiled per-bar baseline on the same variants",
    )  # fmt: skip
    return Findings("corners", [table])
