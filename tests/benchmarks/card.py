"""Section cuda: a card against the processor beside it and against the model on paper.

Equality is proven on a sample before anything is timed. Runs only when it is asked for by name.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any
from unittest.mock import patch

import numpy as np

from compute.control import Control, Meter
from compute.cuda.card import Card, card_here
from compute.cuda.executor import CudaExecutor
from compute.cuda.residence import Residence
from compute.cuda.stages import CardStage
from compute.device import card_wanted
from compute.executor import Executor, LocalExecutor, lattice
from compute.pipeline import backtest
from compute.ranking import SCORE_FIELDS, Scores, cut_at, joined, margin
from compute.selection import Best, Scan
from compute.settings import Limits
from compute.stage_b import StageB
from tests.benchmarks.arena import COLUMNS, FIXED, LOCK, PROFIT_FACTOR, SCORE, Arena, Mode
from tests.benchmarks.card_model import Model, Work, base_work, model_of, pair_work, pairs_work
from tests.benchmarks.findings import Findings, Table
from tests.benchmarks.options import Options
from tests.benchmarks.workloads import w2, w3

MODES = (SCORE, COLUMNS, PROFIT_FACTOR, FIXED, LOCK)
LAUNCHES = 3
PLACE = "compute.cuda"


class Unequal(AssertionError):
    """The card found other scores than the processor."""


def section_cuda(options: Options) -> Findings:
    """Proof on W2, then W3 on the card and on one core. Raises: DeviceUnavailable, Unequal."""
    card_wanted("cuda", options.say)
    card = card_here()
    options.say(f"{card.name}: comparing W2 with the processor, every mode, to the bit")
    small = Arena(w2(bars=640, average=6, rsi=4) if options.quick else w2(), max(options.threads))
    ranks = 4 if options.quick else 50
    compared = sum(proved(small, card, mode, ranks) for mode in MODES)
    searched = sum(found_alike(small, card, mode, ranks) for mode in MODES)
    options.say("a whole back-test, its planes made on the card")
    whole = whole_alike(small, card)
    found = Findings(
        "cuda",
        [
            Table(
                "The card equals the processor",
                ("scores compared", "candidates compared", "rows of a back-test", "different"),
                [(compared, searched, whole, 0)],
            )
        ],
    )
    small.close_executor()
    arena = small if options.quick else Arena(w3(), max(options.threads))
    model, ranks = model_here(), 4 if options.quick else 20_000
    options.say(f"{arena.workload.name}: {arena.workload.about}")
    rows = []
    with LocalExecutor(1) as core:
        for mode in (SCORE, FIXED):
            for name, stage, work in stages(arena, mode, ranks):
                one = stage if options.quick else _part(stage)
                fast = rate(stage, CudaExecutor(core, card), options.few)
                slow = rate(one, core, 1)
                threads = stage.total if work[1] else stage.total * stage.units_per_position
                paper = None if model is None else _rate(model, work[0], threads, stage)
                rows.append((name, mode.name, slow, fast, paper, fast / slow))
    found.tables.append(
        Table(
            f"{card.name}: {arena.workload.name}, scores a second",
            ("stage", "mode", "one core", "the card", "model of the card", "cores it stands for"),
            rows,
            "The model is arithmetic on paper (docs/architecture/compute/cuda.md): within a factor "
            "of two it holds; far below it, look for another user of the card, or send the table.",
        )
    )
    return found


def proved(arena: Arena, card: Card, mode: Mode, ranks: int) -> int:
    """Scores of both stages that are equal to the bit. Raises: Unequal."""
    count = 0
    flat = arena.sample(ranks)
    for stage in (arena.stage_a(mode), arena.stage_b(flat, mode)):
        with Residence(card) as residence:
            on_card = CardStage(stage, residence, [(0, stage.total)], arena.executor.each)
            found = joined(list(on_card.scores(0, stage.total, lambda: None)))
        alone = isinstance(stage, StageB) and not stage.product
        expected = stage.exact(found.index) if alone else joined(list(stage.scores(0, stage.total)))
        count += _equal(found, expected, f"{stage.name}, {mode.name}")
    return count


def found_alike(arena: Arena, card: Card, mode: Mode, ranks: int) -> int:
    """Candidates of both stages, cut on the card in several launches. Raises: Unequal."""
    count = 0
    for stage in (arena.stage_a(mode), arena.stage_b(arena.sample(ranks), mode)):
        scan, spans = Scan(20, mode.metric, stage.terms.sizing, 1), [(0, stage.total)]
        expected = arena.executor.fold(stage, scan, spans, Meter(stage.name, 0), Control())
        length = -(-stage.total // LAUNCHES)
        several = patch(f"{PLACE}.stages.launch_positions", always(length))
        with Residence(card) as residence, several:
            on_card = CardStage(stage, residence, spans, arena.executor.each)
            best = scan.part(on_card, 0, stage.total, lambda: None)
        count += alike(best, expected, scan, f"{stage.name}, {mode.name}")
    return count


def alike(best: Best, expected: Best, scan: Scan, what: str) -> int:
    """Candidates that are surely above the cut, which are the same. Raises: Unequal.

    Which others are carried depends on where the stage was cut into launches.
    """
    for name in ("eligible", "most_trades"):
        one, other = getattr(best, name), getattr(expected, name)
        if one != other:
            raise Unequal(f"{what}: {name} is {one}, not {other}")
    merits = expected.merit
    cut = cut_at(merits, scan.n) if len(merits) > scan.n else -np.inf
    sure = cut + margin(scan.metric, scan.sizing, cut) if len(merits) > scan.n else cut
    here, there = (set(found.index[found.merit > sure].tolist()) for found in (best, expected))
    if here != there:
        raise Unequal(f"{what}: candidates {sorted(here ^ there)[:9]} are those of one alone")
    return len(here)


def whole_alike(arena: Arena, card: Card) -> int:
    """Rows of a back-test whose planes are made on the card as well. Raises: Unequal."""
    job, bars, limits = arena.job, arena.timeline, Limits()
    expected = backtest(job, bars, arena.executor, limits=limits)
    with patch(f"{PLACE}.packing.pays", always(True)):
        found = backtest(job, bars, CudaExecutor(arena.executor, card), limits=limits)
    for stage in ("shortlist", "top"):
        _equal(getattr(found, stage), getattr(expected, stage), f"back-test, {stage}")
    return len(expected.top)


def always(answer: Any) -> Callable[..., Any]:
    """A function that answers so, whatever it is asked."""
    return lambda *_: answer


def _equal(found: Scores, expected: Scores, what: str) -> int:
    for name in SCORE_FIELDS:
        one, other = getattr(found, name), getattr(expected, name)
        if not np.array_equal(one, other, equal_nan=True):
            at = int(np.flatnonzero((one != other) & ~(np.isnan(one) & np.isnan(other)))[0])
            raise Unequal(f"{what}: {name} of {found.index[at]} is {one[at]}, not {other[at]}")
    return len(found)


def stages(arena: Arena, mode: Mode, ranks: int) -> list[tuple[str, Any, tuple[Work, bool]]]:
    """(name, stage, (work of a thread, whether a thread is a variant)) of both stages."""
    base = arena.stage_a(mode)
    trades = next(base.scores(0, min(256, base.total))).trades
    runs, kinds = float(trades.mean()), len(arena.job.grid.indicators)
    pairs = arena.stage_b(arena.sample(min(ranks, base.total)), mode)
    every = pairs.units_per_position
    alone = (pair_work(arena.bars, runs, kinds), False)
    together = (pairs_work(arena.bars, runs, kinds, every), True)
    doubles = 14 if mode is SCORE else 22
    return [
        ("A", base, (base_work(arena.bars, runs, kinds, doubles), True)),
        ("B", pairs, together if pairs.product else alone),
    ]


def rate(stage: Any, executor: Executor, rounds: int) -> float:
    """Scores a second of the search of a stage, the best of some rounds after one to warm up."""
    scan = Scan(200, stage.ranking.primary, stage.terms.sizing, 0)
    spans: Sequence[tuple[int, int]] = lattice(stage)

    def run() -> float:
        began = time.perf_counter()
        executor.fold(stage, scan, spans, Meter(stage.name, 0), Control())
        return time.perf_counter() - began

    run()
    return stage.total * stage.units_per_position / min(run() for _ in range(max(1, rounds)))


class _Fewer:
    """The first positions of a stage, enough to time one core."""

    def __init__(self, stage: Any, total: int) -> None:
        self._stage, self.total = stage, total

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stage, name)


def _part(stage: Any) -> Any:
    return _Fewer(stage, min(stage.total, max(1, int(1e9 / stage.nanoseconds()))))


def _rate(model: Model, work: Work, threads: int, stage: Any) -> float:
    return stage.total * stage.units_per_position / model.seconds(work, threads)


def model_here() -> Model | None:
    """The model of the card of this process; None for a simulated one."""
    from numba import config

    if config.ENABLE_CUDASIM:  # type: ignore[attr-defined]
        return None
    from importlib import import_module

    from compute.device import facts

    found = facts()
    ask = import_module("cupy").cuda.runtime.deviceGetAttribute
    # Numbers of cudaDeviceAttr: multiprocessors, clock and memory clock in kHz, bus in bits.
    multiprocessors, clock, memory, bus = (ask(number, 0) for number in (16, 13, 36, 37))
    bandwidth = 2 * memory * 1e3 * bus / 8 / 1e9
    return model_of(found.name, found.capability, multiprocessors, clock / 1e6, bandwidth)
