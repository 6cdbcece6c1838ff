"""Section cuda: a card against the processor beside it and against the model on paper.

Equality is proven on a sample before anything is timed. Runs only when it is asked for by name.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from compute.control import Control, Meter
from compute.cuda.card import Card, opened
from compute.cuda.executor import CudaExecutor
from compute.cuda.stages import CardStage
from compute.device import card_wanted
from compute.executor import Executor, LocalExecutor, lattice
from compute.ranking import SCORE_FIELDS, Scores, joined
from compute.selection import Scan
from compute.stage_b import StageB
from tests.benchmarks.arena import COLUMNS, FIXED, LOCK, PROFIT_FACTOR, SCORE, Arena, Mode
from tests.benchmarks.card_model import Model, Work, base_work, model_of, pair_work, pairs_work
from tests.benchmarks.findings import Findings, Table
from tests.benchmarks.options import Options
from tests.benchmarks.workloads import w2, w3

MODES = (SCORE, COLUMNS, PROFIT_FACTOR, FIXED, LOCK)


class Unequal(AssertionError):
    """The card found other scores than the processor."""


def section_cuda(options: Options) -> Findings:
    """Proof on W2, then W3 on the card and on one core. Raises: DeviceUnavailable, Unequal."""
    card_wanted("cuda", options.say)
    card = opened()
    options.say(f"{card.name}: comparing W2 with the processor, every mode, to the bit")
    small = Arena(w2(bars=640, average=6, rsi=4) if options.quick else w2(), max(options.threads))
    compared = sum(proved(small, card, mode, 4 if options.quick else 50) for mode in MODES)
    found = Findings(
        "cuda",
        [Table("The card equals the processor", ("scores compared", "different"), [(compared, 0)])],
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
        on_card = CardStage(stage, card, [(0, stage.total)], arena.executor.each)
        found = joined(list(on_card.scores(0, stage.total, lambda: None)))
        alone = isinstance(stage, StageB) and not stage.product
        expected = stage.exact(found.index) if alone else joined(list(stage.scores(0, stage.total)))
        count += _equal(found, expected, f"{stage.name}, {mode.name}")
    return count


def _equal(found: Scores, expected: Scores, what: str) -> int:
    for name in SCORE_FIELDS:
        one, other = getattr(found, name), getattr(expected, name)
        if not np.array_equal(one, other, equal_nan=True):
            at = int(np.flatnonzero(one != other)[0])
            raise Unequal(f"{what}: {name} of {found.index[at]} is {one[at]!r}, not {other[at]!r}")
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
