"""Memory of a card: what an error leaves there, what runs out where, what a search does then."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest

from compute.control import Control, Meter
from compute.cuda.executor import CudaExecutor
from compute.cuda.memory import CardMemory
from compute.cuda.stages import CardStage, launch_positions
from compute.executor import LocalExecutor
from compute.ranking import Ranking
from compute.selection import Best, Scan
from tests.compute.cuda.simulated.counted import Counted
from tests.compute.cuda.simulated.test_executor import found, is_free, market, same

SCAN = Scan(3, "total_return_pct", 0, 0)


class Releasing(Counted):
    """Notes the bytes that are there when it is to give back what is not used."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.left: list[int] = []

    def release(self) -> None:
        self.left.append(self.taken_bytes())


class Broken(Scan):
    """Fails over scores that are still on the card."""

    def part(self, stage: Any, start: int, stop: int, check: Callable[[], None]) -> Best:
        super().part(stage, start, stop, check)
        raise OSError("disk full")


@pytest.mark.parametrize("in_job", [True, False])
@pytest.mark.parametrize(
    ("scan", "card", "kind"),
    [
        (Broken(3, "total_return_pct", 0, 0), Releasing(), OSError),
        (SCAN, Releasing(limit=1_900, told=1 << 20), CardMemory),
    ],
    ids=["query", "memory"],
)
def test_an_error_leaves_an_empty_card(
    scan: Scan, card: Releasing, kind: type[Exception], in_job: bool
) -> None:
    """However long somebody keeps the error, with its traceback."""
    card.left.clear()
    stage = market().stage_a(Ranking())
    with LocalExecutor(1) as inner:
        executor = CudaExecutor(inner, card)

        def job() -> None:
            with executor.job(lambda: None) if in_job else nullcontext():
                executor.fold(stage, scan, [(0, 16)], Meter("stage_a", 16), Control())

        with pytest.raises(kind) as caught:
            job()
    assert caught.value.__traceback__ is not None
    assert caught.value.__cause__ is caught.value.__context__ is None
    assert card.launches or kind is CardMemory
    assert card.left == [0]
    assert is_free(card)


class Arrays:
    """NumPy, of which calls from number `first` to `last` find no memory."""

    def __init__(self, first: int, last: int) -> None:
        self.first, self.last, self.calls = first, last, 0

    def __getattr__(self, name: str) -> Any:
        call = getattr(np, name)

        def counted(*arguments: Any) -> Any:
            self.calls += 1
            if self.first <= self.calls <= self.last:
                raise MemoryError("vanished")
            return call(*arguments)

        return counted


@pytest.mark.parametrize("call", [1, 2, 3, 4])
def test_reducing_that_runs_out_of_memory_is_done_again_on_fewer(call: int) -> None:
    """Counting, choosing, then the same of Stage B behind its repeated doubts."""
    one, card = market(), Counted()
    card.arrays = Arrays(call, call)
    same(found(one, Ranking(), card), found(one, Ranking(), None))
    assert card.launches == ([16, 8, 8, 6] if call < 3 else [16, 6, 3, 3])


def test_reducing_that_runs_out_again_is_refused() -> None:
    card = Counted()
    card.arrays = Arrays(1, 99)
    with pytest.raises(CardMemory, match=r"twice \(vanished\).*--device cpu"):
        found(market(), Ranking(), card)
    assert card.launches == [16, 8]


class Filling(Counted):
    """Has no room left once it has searched."""

    def launch(self, kernel: Any, count: int, inputs: Any, values: Any, outputs: Any) -> None:
        super().launch(kernel, count, inputs, values, outputs)
        self.memory_bytes = 0


@pytest.mark.parametrize(
    ("card", "launches", "device"),
    [(Counted(1_000), [], "cpu"), (Filling(), [5], "cuda (simulator)")],
    ids=["full", "filling"],
)
def test_a_job_that_need_not_be_on_a_card_goes_on_without(
    card: Counted, launches: list[int], device: str
) -> None:
    """Spans that the card has answered are not asked again; nor is the card, until the next job."""
    stage, spans, said, meter = market().stage_a(Ranking()), [(0, 5), (9, 16)], [], Meter("a", 16)
    with LocalExecutor(1) as inner:
        expected = inner.fold(stage, SCAN, spans, Meter("a", 16), Control())
        executor = CudaExecutor(inner, card, say=said.append)
        with executor.job(lambda: None):
            best = executor.fold(stage, SCAN, spans, meter, Control())
            again = executor.fold(stage, SCAN, spans, Meter("a", 16), Control())
            assert card.taken_bytes() == 0
            assert is_free(card)
    assert (card.launches, executor.device, meter.done) == (launches, device, 12)
    for one in (best, again):
        assert sorted(zip(one.index, one.merit, strict=True)) == sorted(
            zip(expected.index, expected.merit, strict=True)
        )
    [line] = said
    assert line.startswith("device auto: going on with the CPU, the card ")


def test_the_size_that_fitted_is_where_the_next_launch_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    laid: list[int] = []
    lay = CardStage._laid  # pyright: ignore[reportPrivateUsage]

    def noted(self: CardStage, start: int, stop: int) -> Any:
        laid.append(stop - start)
        return lay(self, start, stop)

    monkeypatch.setattr(CardStage, "_laid", noted)
    card, stage = Counted(2_000), market().stage_a(Ranking())
    with LocalExecutor(1) as inner:
        CudaExecutor(inner, card).fold(stage, SCAN, [(0, 16)], Meter("a", 16), Control())
    assert laid[:2] == [16, 8]
    assert len(laid) < 2 * len(card.launches)


def test_a_launch_is_short_whatever_a_position_costs() -> None:
    year, pairs = 26e6, 1_000  # nanoseconds of a variant pair by pair over a year of minutes
    assert launch_positions(year, pairs, 20) == 76
    assert launch_positions(year, pairs, 4) == 15
    assert launch_positions(1e9, 100, 4) == 40  # a few thousand threads, or most of it idles
    assert launch_positions(0.1, 1, 20) == 1 << 20
