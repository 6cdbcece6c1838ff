"""Sections w2 … w5: proof, then planes, stages and the whole of one workload."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from numpy.typing import NDArray

from compute.executor import LocalExecutor
from compute.pipeline import Outcome, backtest
from compute.settings import Limits
from tests.benchmarks.arena import COLUMNS, DRAWDOWN, FIXED, LOCK, MODES, SCORE, Arena, scan, scored
from tests.benchmarks.findings import Findings, Goal, Table
from tests.benchmarks.options import Options
from tests.benchmarks.proof import prove
from tests.benchmarks.rounds import Work, interleaved
from tests.benchmarks.speed import Race, Sizes, race
from tests.benchmarks.workloads import Workload, w2, w3, w4, w5


def section_w2(options: Options) -> Findings:
    """W2: every mode of both stages, and the whole against the sum of its parts."""
    arena = Arena(w2(), max(options.threads))
    found = _proved(arena, options, base=4, pairs=4)
    sizes = Sizes(256, 200, 4, *options.rounds)
    run = race(arena, MODES, options.threads, sizes)
    found.tables.extend(
        [
            run.table("A", "W2 Stage A: 5 000 base variants"),
            run.table("B", "W2 Stage B: best 200 × 10 SL × 10 TP"),
            run.threads_table("W2 on more threads"),
            _planes(arena, options),
        ]
    )
    found.goals.extend(_race_goals(run, options))
    table, goals = _whole(arena, options)
    found.tables.append(table)
    found.goals.extend(goals)
    arena.close_executor()
    return found


def section_w3(options: Options) -> Findings:
    """W3: a hundred thousand variants."""
    arena = Arena(w3(), max(options.threads))
    found = _proved(arena, options, base=3, pairs=3, modes=(SCORE, COLUMNS))
    run = race(arena, (SCORE, COLUMNS), options.threads, Sizes(256, 200, 4, options.few, 1))
    found.tables.extend(
        [run.table("A", "W3 Stage A: 100 000 base variants"), _planes(arena, options)]
    )
    table, _ = _whole(arena, options)
    found.tables.append(table)
    arena.close_executor()
    return found


def section_w4(options: Options) -> Findings:
    """W4: ten thousand EMA crosses."""
    sizes = {"bars": 20_000, "fast": 40, "slow": 40} if options.quick else {}
    arena = Arena(w4(**sizes), max(options.threads))
    found = _proved(arena, options, base=2, pairs=0, modes=(SCORE,))
    run = race(arena, (SCORE,), options.threads, Sizes(64, 64, 2, options.few, 1))
    found.tables.extend(
        [run.table("A", f"W4 Stage A: {arena.variants} EMA crosses"), _planes(arena, options)]
    )
    arena.close_executor()
    return found


def section_w5(options: Options) -> Findings:
    """W5: a year of minutes, four hundred pairs of stops."""
    arena = Arena(w5(bars=65_536, preselect=100) if options.quick else w5(), max(options.threads))
    found = _proved(arena, options, base=2, pairs=2, modes=(SCORE,))
    ranks = arena.job.preselect
    run = race(arena, (SCORE,), options.threads, Sizes(32, ranks, 2, options.few, 1))
    found.tables.extend(
        [
            run.table("A", f"W5 Stage A: {arena.variants} base variants"),
            run.table("B", f"W5 Stage B: best {ranks} × 20 SL × 20 TP"),
            _planes(arena, options),
            _distinct(arena, ranks),
        ]
    )
    table, _ = _whole(arena, options)
    found.tables.append(table)
    arena.close_executor()
    return found


SECTIONS: dict[str, Callable[[Options], Findings]] = {
    "w2": section_w2,
    "w3": section_w3,
    "w4": section_w4,
    "w5": section_w5,
}


def _proved(arena: Arena, options: Options, **sample: object) -> Findings:
    """Findings that begin with what was compared with the oracle. Raises: Unequal."""
    workload = arena.workload
    options.say(f"{workload.name}: {workload.about}; comparing a sample with the oracle")
    compared = prove(arena, **sample)  # type: ignore[arg-type]
    held = ", ".join(f"{count} {what}" for what, count in compared.items())
    table = Table(f"{workload.name} equals the oracle", ("compared", "different"), [(held, 0)])
    return Findings(workload.name.lower(), [table])


def _race_goals(run: Race, options: Options) -> list[Goal]:
    """The ratios that W2 has to reach on the largest number of threads."""
    count = max(options.threads)
    at = f"W2, {count} threads"
    wanted = [
        (SCORE, "A", 15.0),
        (SCORE, "B", 100.0),
        (FIXED, "A", 2.5),
        (FIXED, "B", 18.0),
        (LOCK, "A", 2.5),
        (LOCK, "B", 18.0),
        (DRAWDOWN, "A", 2.0),
        (DRAWDOWN, "B", 2.0),
    ]
    goals = [
        Goal(
            f"{at}: Stage {stage}, {mode.name}, over the compiled per-bar baseline",
            "at least",
            limit,
            run.best_ratio(mode, stage, count),
        )
        for mode, stage, limit in wanted
    ]
    goals.append(
        Goal(
            f"{at}: Stage A, columns, over the cost of score",
            "at most",
            2.5,
            run.cost_of(COLUMNS, SCORE, "A", count),
        )
    )
    if {1, 2} <= set(options.threads):
        goals += [_threads_goal(stage, run) for stage in "AB"]
    return goals


def _threads_goal(stage: str, run: Race) -> Goal:
    """The step to two threads; no verdict where even the probe could not take it."""
    speedup, probed = run.speedup(SCORE, stage, 2), run.probe_speedup(2)
    busy = speedup < 1.6 and probed < 1.8
    return Goal(
        f"W2: Stage {stage}, score, 1 to 2 threads", "at least", 1.6, speedup, judged=not busy,
        why=f"other programs had the cores: the probe reached {probed:.2f}×" if busy else "",
    )  # fmt: skip


def _planes(arena: Arena, options: Options) -> Table:
    """Seconds to build all votes, and what an indicator's value costs."""
    rows = []
    values = _values(arena)
    for threads in options.threads:
        with LocalExecutor(threads) as executor:
            arena.run.executor = executor
            times = interleaved({"planes": arena.planes}, rounds=options.few)
        seconds = times.median("planes")
        rows.append((threads, seconds, values, values / seconds, arena.votes.planes.nbytes / 2**20))
    arena.run.executor = arena.executor
    return Table(
        f"{arena.workload.name} planes: indicators computed, compared and packed",
        ("threads", "seconds", "indicator values", "values/s", "planes MiB"),
        rows,
    )


def _values(arena: Arena) -> int:
    """Indicator values behind the votes: settings that differ × bars loaded."""
    settings = 0
    for part in arena.job.grid.indicators:
        live = part.definition.output(part.output).axes
        count = 1
        for axis in part.compute:
            count *= len(axis) if axis.name in live else 1
        settings += count
    return settings * len(arena.timeline.candles)


def _whole(arena: Arena, options: Options) -> tuple[Table, list[Goal]]:
    """The workload from candles in memory to top-K against its parts, each measured alone."""
    threads = arena.executor.workers
    parts: dict[str, Work] = {"planes": arena.planes}
    with ThreadPoolExecutor(threads) as pool:
        _backtest(arena.workload, arena.executor)  # compiled, its memory touched
        outcome = _backtest(arena.workload, arena.executor)
        shortlist, top = outcome.shortlist.index, outcome.top.index
        parts["Stage A"] = partial(scan, arena.stage_a(), pool, threads)
        parts["Stage B"] = lambda: scan(arena.stage_b(shortlist), pool, threads)
        parts["exact rescoring"] = lambda: _exact(arena, shortlist, top, pool, threads)
        works = {**parts, "whole": lambda: _backtest(arena.workload, arena.executor)}
        times = interleaved(works, rounds=options.rounds[0] + 2)
    each = {name: times.median(name) for name in parts}
    total = sum(each.values())
    rows = [(name, seconds, seconds / total) for name, seconds in each.items()]
    whole = times.median("whole")
    rows += [("sum of parts", total, 1.0), ("whole", whole, whole / total)]
    table = Table(
        f"{arena.workload.name} from candles in memory to top-{arena.job.top_k}, {threads} threads",
        ("part", "seconds", "of the sum"),
        rows,
        "steps of one run: "
        + ", ".join(f"{name} {1e3 * s:.1f} ms" for name, s in outcome.timings.items()),
    )
    name = f"{arena.workload.name}, {threads} threads: whole over the sum of its parts"
    return table, [Goal(name, "at most", 2.5, whole / total)]


def _backtest(workload: Workload, executor: LocalExecutor) -> Outcome:
    return backtest(workload.job, workload.timeline(), executor, limits=UNGUARDED)


UNGUARDED = Limits(1 << 40, 1 << 40)


def _exact(
    arena: Arena,
    shortlist: NDArray[np.int64],
    top: NDArray[np.int64],
    pool: ThreadPoolExecutor,
    threads: int,
) -> None:
    """What a run scores exactly: the shortlist, the top, and the top again with its drawdown."""
    stage_a, stage_b = arena.stage_a(), arena.stage_b(shortlist)
    falls = arena.stage_b(shortlist, DRAWDOWN)
    for stage, index in ((stage_a, shortlist), (stage_b, top), (falls, top)):
        parts: Sequence[NDArray[np.int64]] = np.array_split(np.sort(index), 2 * threads)
        list(pool.map(stage.exact, parts))


def _distinct(arena: Arena, ranks: int) -> Table:
    """Trades per variant and how many returns differ, in both stages."""
    rows = []
    best = arena.best(ranks)
    for name, stage in (("A", arena.stage_a()), ("B", arena.stage_b(best))):
        scores = scored(stage, arena.executor.workers)
        rows.append(
            (
                name,
                len(scores),
                float(scores.trades.mean()),
                int(scores.trades.min()),
                int(scores.trades.max()),
                len(np.unique(scores.equity)),
            )
        )
    return Table(
        f"{arena.workload.name} trades and ties",
        ("stage", "variants", "trades per variant", "least", "most", "distinct returns"),
        rows,
    )
