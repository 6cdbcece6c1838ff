"""Whole searches on a card: any ranking, little memory, none, other processes, a stop."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
import time
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import pytest

from cluster.card_workers import CardWorker
from cluster.jobs.spanwise import Spanwise
from cluster.numerics import build
from cluster.shelf import _Pickler  # pyright: ignore[reportPrivateUsage]
from compute.control import Control, Meter
from compute.cuda.card import SimulatedCard
from compute.cuda.executor import CudaExecutor, joined_spans
from compute.cuda.memory import CardBusy, CardMemory, held
from compute.cuda.residence import Residence
from compute.cuda.stages import CardStage
from compute.errors import Cancelled
from compute.executor import LocalExecutor
from compute.ranking import SCORE_FIELDS, Ranking, joined
from compute.reference.engine import SIZINGS
from compute.selection import Scan
from tests.cluster.problems import Problem, request
from tests.compute.cuda.simulated.counted import Counted
from tests.compute.engines.fast import Found, Market, frozen, search
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


def is_free(card: SimulatedCard) -> bool:
    """Whether nobody holds the card."""
    try:
        with held(card.lock, None):
            return True
    except CardBusy:
        return False


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


@pytest.mark.parametrize(("limit", "launches"), [(4_400, 6), (6_000, 2), (20_000, 1)])
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


def test_a_job_brings_its_planes_once_and_leaves_nothing() -> None:
    """Both stages and the rescoring between them read the planes that Stage A brought."""
    problem, card = Problem(request(windows=2, periods=2, preselect=3)), Counted(1 << 26)
    with LocalExecutor(1) as inner:
        executor = CudaExecutor(inner, card)
        for jobs in (1, 2):
            found = problem.outcome(executor)
            planes = problem.votes(inner).planes.shape
            assert card.brought.count(planes) == jobs
            assert len(card.launches) == 2 * jobs
            assert card.taken_bytes() == 0
            assert is_free(card)
        expected = problem.outcome(inner)
    np.testing.assert_array_equal(found.top.index, expected.top.index)
    np.testing.assert_array_equal(found.top.equity, expected.top.equity)


def test_a_job_holds_the_card_from_its_first_search_to_its_end_however_that_comes() -> None:
    card, stage = Counted(), market().stage_a(Ranking())
    scan = Scan(3, "total_return_pct", 0, 0)

    def job(executor: CudaExecutor) -> None:
        with executor.job(lambda: None):
            assert is_free(card)
            executor.fold(stage, scan, [(0, 16)], Meter("stage_a", 16), Control())
            assert not is_free(card)
            assert card.taken_bytes() >= stage.votes.planes.nbytes
            raise OSError("disk full")

    with LocalExecutor(1) as inner, pytest.raises(OSError, match="disk"):
        job(CudaExecutor(inner, card))
    assert card.taken_bytes() == 0
    assert is_free(card)


def test_a_job_that_does_not_wait_searches_on_the_processor() -> None:
    problem, card = Problem(request(windows=2, periods=2, preselect=3)), Counted(1 << 26)
    with LocalExecutor(1) as inner:
        executor = CudaExecutor(inner, card, waits=False)
        with held(card.lock, None):
            busy = problem.outcome(executor)
        assert (executor.device, card.launches) == ("cpu", [])
        free = problem.outcome(executor)
        assert (executor.device, card.launches) == ("cuda (simulator)", [4, 3])
    np.testing.assert_array_equal(busy.top.index, free.top.index)
    np.testing.assert_array_equal(busy.top.equity, free.top.equity)


def test_a_worker_of_a_cluster_keeps_the_planes_of_its_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of its tasks maps the arrays of the object store anew, under the same names."""
    problem, card = Problem(request(windows=2, periods=2)), Counted(1 << 26)
    monkeypatch.setattr("compute.cuda.card.card_here", lambda: card)
    monkeypatch.setattr("cluster.card_workers.checker", lambda key, stage: lambda: None)
    monkeypatch.setattr("cluster.shelf.SHARED_BYTES", 1)
    with LocalExecutor(1) as inner:
        stage = problem.stage(inner)
    scan = Scan(3, "total_return_pct", 0, 0)
    shared: list[Any] = []
    buffer = io.BytesIO()
    _Pickler(buffer, shared).dump((stage, scan))
    worker, found = CardWorker(), []
    assert worker.ready() is None
    names = [str(i) for i in range(len(shared))]
    for span in ((0, 1), (1, stage.total)):
        mapped = [frozen(array.copy(), array.dtype) for array in shared]
        done = worker.reduced(buffer.getvalue(), build(), b"", [span], names, *mapped)
        assert done is not None
        found.append(done.part)
    assert card.brought.count(stage.votes.planes.shape) == 1
    expected = scan.part(stage, 0, stage.total, lambda: None)
    best = scan.merge(found)
    assert sorted(zip(best.index, best.merit, strict=True)) == sorted(
        zip(expected.index, expected.merit, strict=True)
    )


def test_planes_of_another_block_make_place() -> None:
    """What a stage does not read leaves the card; so does what this process has let go."""
    card = Counted()
    with LocalExecutor(1) as inner:
        executor = CudaExecutor(inner, card)
        with executor.job(lambda: None):
            stage, scan = market().stage_a(Ranking()), Scan(3, "total_return_pct", 0, 0)
            for seed in (7, 8):
                stage = market(seed).stage_a(Ranking())
                executor.fold(stage, scan, [(0, 16)], Meter("stage_a", 16), Control())
                kept = stage.votes.planes.nbytes + stage.votes.conflict.nbytes
                assert kept <= card.taken_bytes() < 2 * kept + stage.close.nbytes
            del stage
            assert card.taken_bytes() == 0


def test_the_next_launch_is_laid_out_while_one_is_on_the_card() -> None:
    """Little memory makes several launches; ids of the next one are brought ahead."""
    one, card = market(), Counted(6_000)
    with LocalExecutor(2) as inner, Residence(card) as residence:
        stage = one.stage_a(Ranking())
        placed = CardStage(stage, residence, [(0, 16)], inner.each)
        placed._room = replace(placed._room, positions=5)  # pyright: ignore
        found = joined(list(placed.scores(0, 16, lambda: None)))
        expected = joined(list(stage.scores(0, 16)))
    assert card.launches == [5, 5, 5, 1]
    for name in SCORE_FIELDS:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), name)
