"""Whole searches on a card: any ranking, little memory, none, other processes, a stop."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import weakref
from random import Random
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cluster.jobs.spanwise import Spanwise
from compute.control import Control, Meter
from compute.cuda.card import SimulatedCard
from compute.cuda.executor import CudaExecutor, joined_spans
from compute.cuda.memory import RESERVE_BYTES, CardMemory, held
from compute.errors import Cancelled
from compute.executor import LocalExecutor
from compute.ranking import SCORE_FIELDS, Ranking
from compute.reference.engine import SIZINGS
from compute.selection import Scan
from tests.compute.engines.fast import Found, Market, search
from tests.compute.engines.markets import neighbour, tie_breaking_key, vote, walk

SL, TP = (0.5, 300.0, 2.0), (5.0, 1.0)
PAIRS = [(sl, tp) for sl in SL for tp in TP]


def market(seed: int = 7, sizing_mode: str = "all_in") -> Market:
    """Sixteen variants of two indicators, many of them alike."""
    random = Random(seed)
    indicators = []
    for lengths in ((1, 1, 2, 3), (1, 2, 5, 9)):
        rows = [vote(random, 190, lengths)]
        for _ in range(3):
            rows.append(neighbour(random, rows[-1]))
        indicators.append(rows)
    return Market(
        walk(random, 190, 8),
        indicators,
        [(a, b) for a in range(4) for b in range(4)],
        {"sizing_mode": sizing_mode, "init_cash_quote": 1000.0},
        key=tie_breaking_key,
        pairs=PAIRS,
    )


class Counted(SimulatedCard):
    """Counts launches and the bytes of arrays that it holds at a time; has only so many."""

    def __init__(self, limit: int | None = None, told: int | None = None, fail: int = -1) -> None:
        super().__init__(RESERVE_BYTES + (told or limit or 1 << 20), threads=4)
        self.limit, self.fail = limit, fail
        self.launches: list[int] = []
        self.most = 0
        self.alive: list[Any] = []

    def put(self, array: NDArray[Any]) -> Any:
        return self.counted(super().put(array))

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        return self.counted(super().empty(shape, dtype))

    def counted(self, array: NDArray[Any]) -> NDArray[Any]:
        """Raises MemoryError where the card would."""
        self.fail -= 1
        self.alive = [one for one in self.alive if one() is not None] + [weakref.ref(array)]
        taken = sum(one().nbytes for one in self.alive)
        if self.fail == 0 or (self.limit is not None and taken > self.limit):
            raise MemoryError(f"{taken} bytes")
        self.most = max(self.most, taken)
        return array

    def launch(self, kernel: Any, count: int, inputs: Any, terms: Any, outputs: Any) -> None:
        self.launches.append(count)
        super().launch(kernel, count, inputs, terms, outputs)


def same(one: Found, other: Found) -> None:
    """Both cuts are equal to the bit."""
    for a, b in ((one.shortlist, other.shortlist), (one.top, other.top)):
        for name in SCORE_FIELDS:
            np.testing.assert_array_equal(getattr(a.scores, name), getattr(b.scores, name), name)
        assert (a.eligible, a.most_trades, a.equals) == (b.eligible, b.most_trades, b.equals)


def found(one: Market, ranking: Ranking, card: SimulatedCard | None, top_k: int = 12) -> Found:
    return search(
        one, SL, TP, preselect=6, top_k=top_k, ranking=ranking,
        over=lambda inner: inner if card is None else CudaExecutor(inner, card),
    )  # fmt: skip


@pytest.mark.parametrize("sizing_mode", SIZINGS)
@pytest.mark.parametrize(
    "ranking",
    [
        Ranking(),
        Ranking("total_return_pct", "max_drawdown_pct", min_trades=20),
        Ranking("profit_factor"),
        Ranking("return_over_max_drawdown"),
        Ranking(distinct=True),
    ],
    ids=lambda ranking: f"{ranking.primary}-{ranking.min_trades}-{ranking.distinct}",
)
def test_a_search_finds_what_the_processor_finds(sizing_mode: str, ranking: Ranking) -> None:
    one, card = market(sizing_mode=sizing_mode), Counted()
    same(found(one, ranking, card), found(one, ranking, None))
    searched_here = ranking.searches_drawdown or ranking.distinct
    assert (card.launches[:1], len(card.launches)) == (([], 0) if searched_here else ([16], 2))


def test_more_candidates_than_a_part_may_carry_are_cut_on_the_card(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Scan, "capacity", property(lambda self: self.n))
    one, card = market(), Counted()
    same(found(one, Ranking(), card, top_k=3), found(one, Ranking(), None, top_k=3))


@pytest.mark.parametrize(("limit", "launches"), [(4_400, 6), (6_000, 4), (20_000, 1)])
def test_little_memory_makes_blocks(limit: int, launches: int) -> None:
    """Stage B reads 3 176 bytes of closes, touches and levels; a rank takes 978 and its planes."""
    one, card = market(), Counted(limit)
    same(found(one, Ranking(), card), found(one, Ranking(), None))
    assert card.most <= limit
    assert card.launches[0] == 16
    assert len(card.launches) - 1 == launches


def test_planes_that_do_not_fit_are_brought_by_each_launch() -> None:
    one, card = market(), Counted(2_400)
    stage, scan = one.stage_a(Ranking()), Scan(3, "total_return_pct", 0, 0)
    with LocalExecutor(1) as inner:
        meter = Meter("stage_a", 16)
        best = CudaExecutor(inner, card).fold(stage, scan, [(0, 16)], meter, Control())
        expected = inner.fold(stage, scan, [(0, 16)], meter, Control())
    assert card.most <= 2_400
    assert len(card.launches) > 1
    assert sum(card.launches) == 16
    assert dict(zip(best.index, best.merit, strict=True)) == dict(
        zip(expected.index, expected.merit, strict=True)
    )


def test_no_room_for_one_variant_is_refused_with_numbers() -> None:
    with pytest.raises(
        CardMemory, match=r"one variant alone needs .* KiB .*--device cpu"
    ) as caught:
        found(market(), Ranking(), Counted(1_000))
    assert caught.value.details["need_bytes"] > 1_000


def test_memory_that_vanishes_once_costs_smaller_blocks() -> None:
    one, card = market(), Counted(fail=7)
    same(found(one, Ranking(), card), found(one, Ranking(), None))
    assert card.launches[0] == 8


def test_memory_that_is_not_there_is_refused() -> None:
    with pytest.raises(CardMemory, match="ran out of memory twice"):
        found(market(), Ranking(), Counted(limit=2_000, told=1 << 20))


def test_jobs_queue_for_the_card() -> None:
    one, card = market(), Counted()
    waiting = threading.Event()
    results: list[Found] = []

    class Waiting(CudaExecutor):
        def fold(self, *arguments: Any, **options: Any) -> Any:
            waiting.set()
            return super().fold(*arguments, **options)

    def job() -> None:
        results.append(
            search(
                one, SL, TP, preselect=6, top_k=12, ranking=Ranking(),
                over=lambda inner: Waiting(inner, card),
            )
        )  # fmt: skip

    with held(card.lock, lambda: None):
        thread = threading.Thread(target=job)
        thread.start()
        assert waiting.wait(60)
        thread.join(0.2)
        assert thread.is_alive()
        assert card.launches == []
    thread.join(60)
    same(results[0], found(one, Ranking(), None))


def test_a_process_that_dies_lets_the_card_go() -> None:
    card = Counted()
    holder = subprocess.Popen(
        [
            sys.executable, "-c",
            "import sys, time\nfrom pathlib import Path\nfrom compute.cuda.memory import held\n"
            "with held(Path(sys.argv[1]), lambda: None):\n    print('held', flush=True)\n"
            "    time.sleep(600)\n",
            str(card.lock),
        ],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    control = Control(deadline=time.monotonic())
    stage = market().stage_a(Ranking())
    scan = Scan(3, "total_return_pct", 0, 0)
    with LocalExecutor(1) as inner:
        executor = CudaExecutor(inner, card)
        with pytest.raises(Cancelled):  # who waits can be stopped
            executor.fold(stage, scan, [(0, 16)], Meter("stage_a", 16), control)
        holder.kill()
        holder.communicate()
        best = executor.fold(stage, scan, [(0, 16)], Meter("stage_a", 16), Control())
    assert len(best.index) == 16


def test_spans_share_launches_and_gaps_are_not_computed() -> None:
    one, card = market(), Counted()
    stage, scan = one.stage_a(Ranking()), Scan(3, "total_return_pct", 0, 0)
    spans = [(0, 2), (2, 5), (9, 10), (10, 16)]
    meter = Meter("stage_a", 16)
    with LocalExecutor(1) as inner:
        best = CudaExecutor(inner, card).fold(stage, scan, spans, meter, Control())
        expected = inner.fold(stage, scan, spans, Meter("stage_a", 16), Control())
    assert card.launches == [5, 7]
    assert meter.done == 12
    assert joined_spans(spans) == [(0, 5), (9, 16)]
    assert sorted(best.index) == sorted(expected.index)
    assert (best.eligible, best.most_trades) == (expected.eligible, expected.most_trades)


def test_a_job_gets_every_span_of_its_own() -> None:
    one, card = market(), Counted()
    stage, scan = one.stage_a(Ranking()), Scan(3, "total_return_pct", 0, 0)
    spans = [(0, 4), (4, 9), (9, 16)]
    pieces: list[Any] = []
    with LocalExecutor(1) as inner:
        executor = CudaExecutor(inner, card)
        meter = Meter("stage_a", 16)
        executor.fold(stage, Spanwise(scan), spans, meter, Control(), pieces.append)
    assert [(start, stop) for start, stop, _ in pieces] == spans
    assert [len(best.index) for _, _, best in pieces] == [4, 5, 7]
    assert card.launches == [16]
