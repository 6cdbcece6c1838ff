"""How a stage lies on a card: which kernel scores it, which arrays that reads and writes."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from compute.account import FIXED_QUOTE, PROFIT_LOCK, factor_table
from compute.cuda.kernels import (
    columns_kernel,
    fixed_kernel,
    pair_kernel,
    pairs_kernel,
    product_kernel,
)
from compute.ranking import PROFIT_FACTOR
from compute.stage_a import StageA
from compute.stage_b import StageB

Ids = NDArray[np.int32]
Shapes = dict[str, tuple[tuple[int, ...], Any]]

_CORES, _FEW_CORES = 20, 4  # see the model in docs/architecture/compute/cuda.md
_WALK_NS = 0.05  # model of a reference core: per bar and pair that is walked alone


def layout_of(stage: StageA | StageB) -> Layout:
    """How `stage` is laid out on a card."""
    if isinstance(stage, StageA):
        return _Base(stage)
    return _AllPairs(stage) if stage.product else _EachPair(stage)


class Layout(Protocol):
    """A stage on a card: its kernel, its arrays. `money` turns sums of the kernel into quote.

    `cores` are the reference cores that the slowest card in mind stands for, whose float64 units
    are many or few.
    """

    kernel: Any
    each: int
    money: float

    def cores(self, few_doubles: bool) -> int: ...

    def positions(self, start: int, stop: int) -> tuple[NDArray[np.int64], Ids, Ids]:
        """(index of every score, LONG and SHORT plane ids) of positions [start, stop)."""
        ...

    def tables(self) -> list[NDArray[Any]]:
        """What all positions read besides votes and closes."""
        ...

    def outputs(self, count: int) -> Shapes:
        """Shapes and types of what the kernel writes for so many positions, in its order."""
        ...

    def threads(self, count: int) -> int:
        """Threads that score so many positions."""
        ...

    def scores(self, named: dict[str, Any], arrays: Any) -> dict[str, Any]:
        """The outputs that are scores, one to a score."""
        ...

    def nanoseconds(self) -> float:
        """Model cost of one position on a reference core."""
        ...


class _Base:
    """Stage A: a thread a variant."""

    each = 1

    def cores(self, few_doubles: bool) -> int:
        return _CORES

    def __init__(self, stage: StageA) -> None:
        self._stage, sizing = stage, stage.terms.sizing
        self.money = stage.terms.init_cash
        self._detailed = stage.columns or stage.ranking.primary == PROFIT_FACTOR
        self.kernel: Any = product_kernel
        if sizing in (FIXED_QUOTE, PROFIT_LOCK) or self._detailed:
            self._detailed = True
            self.kernel = fixed_kernel if sizing == FIXED_QUOTE else columns_kernel

    def positions(self, start: int, stop: int) -> tuple[NDArray[np.int64], Ids, Ids]:
        flat, rows = self._stage.route.visit(start, stop)
        return flat, *self._stage.votes.pairs(rows)

    def tables(self) -> list[NDArray[Any]]:
        return [factor_table(self._stage.terms)]

    def outputs(self, count: int) -> Shapes:
        few: Shapes = {
            "equity": ((count,), np.float64),
            "trades": ((count,), np.int32),
            "doubts": ((count,), np.uint8),
        }
        return few | _sums(count) if self._detailed else few

    def threads(self, count: int) -> int:
        return count

    def scores(self, named: dict[str, Any], arrays: Any) -> dict[str, Any]:
        return named

    def nanoseconds(self) -> float:
        return self._stage.nanoseconds()


class _Pairs:
    """What both layouts of Stage B share."""

    def __init__(self, stage: StageB) -> None:
        self._stage, self.each = stage, stage.units_per_position

    def positions(self, start: int, stop: int) -> tuple[NDArray[np.int64], Ids, Ids]:
        first = self._stage.first_rank
        index = np.arange((first + start) * self.each, (first + stop) * self.each)
        return index, *self._stage.votes.pairs(self._stage.rows[start:stop])


class _EachPair(_Pairs):
    """Stage B of accounts whose trades do not commute: a thread a pair.

    Its scores are the exact engine's, to the bit: nothing is in doubt.
    """

    kernel: Any = pair_kernel
    money = 1.0

    def cores(self, few_doubles: bool) -> int:
        return _FEW_CORES if few_doubles else _CORES

    def tables(self) -> list[NDArray[Any]]:
        sl, tp = self._stage.rates()
        return [self._stage.calm, sl, tp]

    def outputs(self, count: int) -> Shapes:
        scores = count * self.each
        few: Shapes = {"equity": ((scores,), np.float64), "trades": ((scores,), np.int32)}
        return few | _sums(scores)

    def threads(self, count: int) -> int:
        return count * self.each

    def scores(self, named: dict[str, Any], arrays: Any) -> dict[str, Any]:
        return named

    def nanoseconds(self) -> float:
        return _WALK_NS * self.each * max(64, len(self._stage.close))


class _AllPairs(_Pairs):
    """Stage B of compounding accounts: a thread a variant; its doubt is that of all its pairs."""

    kernel: Any = pairs_kernel
    money = np.nan

    def cores(self, few_doubles: bool) -> int:
        return _CORES

    def tables(self) -> list[NDArray[Any]]:
        levels = self._stage.levels
        table = factor_table(self._stage.terms)
        return [table, self._stage.calm, levels.sl, levels.tp, levels.pair]

    def outputs(self, count: int) -> Shapes:
        rows, columns = self._stage.levels.pair.shape
        cells = (count, rows + 1, columns + 1)
        return {
            "equity": ((count, self.each), np.float64),
            "trades": ((count, self.each), np.int32),
            "doubts": ((count,), np.uint8),
            "by_sl": (cells, np.float64),
            "by_tp": (cells, np.float64),
            "by_end": (cells, np.float64),
            "growth": ((count, rows, columns), np.float64),
        }

    def threads(self, count: int) -> int:
        return count

    def scores(self, named: dict[str, Any], arrays: Any) -> dict[str, Any]:
        return {
            "equity": named["equity"].reshape(-1),
            "trades": named["trades"].reshape(-1),
            "doubts": arrays.repeat(named["doubts"], self.each),
        }

    def nanoseconds(self) -> float:
        return self._stage.nanoseconds()


def _sums(scores: int) -> Shapes:
    return {"wins": ((scores,), np.int32), "sums": ((2, scores), np.float64)}
