"""A stage whose fast scores are computed on a card; whatever else is asked of it, it does itself.

Scores come in launches of many positions, in the order of the stage. A launch that answers one
span stays on the card for the next ones, so that short spans cost no launch of their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.cuda.card import Card
from compute.cuda.layouts import layout_of
from compute.cuda.memory import RESERVE_BYTES, CardMemory, Needs, Room, refused, room
from compute.executor import Span
from compute.ranking import RETURN, Scores, joined, margin, settled
from compute.selection import Best, Scan
from compute.stage_a import StageA
from compute.stage_b import StageB

Check = Callable[[], None]
Each = Callable[[Callable[[Any], None], Sequence[Any]], None]

# A launch ends within a tenth of a second on a card that is as fast as twenty reference cores.
_LAUNCH_NS = 2e9
_MOST, _LEAST = 1 << 20, 4096
_REDUCING = 24  # bytes a score: masks, places and merits of candidates


def served(stage: Any) -> bool:
    """Whether a card scores `stage`. A ranking by drawdown follows bars and stays on the CPU."""
    return isinstance(stage, StageA | StageB) and not stage.ranking.searches_drawdown


@dataclass(frozen=True, slots=True)
class Launch:
    """Scores on the card of positions [start, stop), `each` to a position, and their index."""

    start: int
    stop: int
    each: int
    index: NDArray[np.int64]
    equity: Any
    trades: Any
    doubts: Any | None = None
    wins: Any | None = None
    sums: Any | None = None

    def rows(self, start: int, stop: int) -> slice:
        """Where the scores of positions [start, stop) are."""
        return slice((start - self.start) * self.each, (stop - self.start) * self.each)


class CardStage:
    """`stage` on `card`; `runs` are the stretches of positions that will be asked for."""

    def __init__(self, stage: Any, card: Card, runs: Sequence[Span], each: Each) -> None:
        self._stage, self._card, self._runs, self._each = stage, card, runs, each
        self._layout = layout_of(stage)
        self._launch: Launch | None = None
        self._kept: dict[str, Any] = {}
        self._shrunk = False
        self._room = self._measured()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stage, name)

    def scores(self, start: int, stop: int, check: Check) -> Iterator[Scores]:
        """As `StageA.scores` and `StageB.scores`."""
        for launch, rows in self._launches(start, stop, check):
            yield self._settled(launch, rows, check)

    def best(self, scan: Scan, start: int, stop: int, check: Check) -> Best | None:
        """The part of `scan`, reduced on the card; None where all scores are wanted here."""
        if scan.wants_columns or scan.metric != RETURN:
            return None
        found = [scan.merge([])]
        floor, most_trades = -np.inf, 0
        for launch, rows in self._launches(start, stop, check):
            best, floor = self._reduced(scan, launch, rows, floor)
            found.append(best)
            most_trades = max(most_trades, best.most_trades)
            if launch.doubts is not None:
                doubtful = np.flatnonzero(self._card.host(launch.doubts[rows]))
                some = self._exact(launch.index[rows][doubtful], check)
                enough = some.trades >= scan.min_trades
                found.append(
                    Best(some.index[enough], some.equity[enough], eligible=int(enough.sum()))
                )
                most_trades = max(most_trades, int(some.trades.max(initial=0)))
            found = [scan.merge(found)]
        best = found[0]
        return Best(best.index, best.merit, best.dropped, best.eligible, None, most_trades)

    def _reduced(self, scan: Scan, launch: Launch, rows: slice, floor: float) -> tuple[Best, float]:
        """(candidates among scores that are certain, merit that a candidate needs from now on)."""
        arrays, card = self._card.arrays, self._card
        equity, trades = launch.equity[rows], launch.trades[rows]
        enough = trades >= scan.min_trades
        if launch.doubts is not None:
            sure = launch.doubts[rows] == 0
            enough &= sure
            trades = trades * sure
        eligible = int(arrays.count_nonzero(enough))
        places = arrays.flatnonzero(enough & (equity >= floor))
        if len(places) > scan.capacity:
            merits = equity[places]
            at = len(places) - scan.n
            cut = float(arrays.partition(merits, at)[at])
            floor = max(floor, cut - margin(scan.metric, scan.sizing, cut))
            places = places[merits >= floor]
        merits = card.host(equity[places])
        best = Best(
            launch.index[rows][card.host(places)], merits, eligible=eligible,
            most_trades=int(trades.max()) if len(trades) else 0,
        )  # fmt: skip
        return best, floor

    def _settled(self, launch: Launch, rows: slice, check: Check) -> Scores:
        """Scores here, doubtful ones replaced by exact ones."""
        host, cash = self._card.host, self._stage.terms.init_cash
        index = launch.index[rows]
        missing = np.full(len(index), np.nan)
        won, lost = (
            (missing, missing)
            if launch.sums is None
            else host(launch.sums[:, rows]) * self._layout.money
        )
        wins = np.zeros(len(index), np.int32) if launch.wins is None else host(launch.wins[rows])
        scores = Scores(
            index, host(launch.equity[rows]), host(launch.trades[rows]), wins, won, lost, missing
        )
        if launch.doubts is None:
            return scores
        doubtful = host(launch.doubts[rows]) != 0
        if doubtful.any():
            better = self._exact(index[doubtful], check)
            scores.equity[doubtful], scores.trades[doubtful] = better.equity, better.trades
            if launch.sums is not None:
                scores.wins[doubtful] = better.wins
                # Through units of initial cash, as the processor's fast scores take them.
                scores.won[doubtful] = better.won / cash * cash
                scores.lost[doubtful] = better.lost / cash * cash
        return settled(
            self._stage.ranking.primary, scores, cash, lambda some: self._exact(index[some], check)
        )

    def _exact(self, index: NDArray[np.int64], check: Check) -> Scores:
        """Exact scores of some variants, on the threads of this process."""
        step = max(1, int(5e7 / self._stage.exact_nanoseconds()))
        starts = range(0, len(index), step)
        parts: dict[int, Scores] = {}

        def score(start: int) -> None:
            check()
            parts[start] = self._stage.exact(index[start : start + step])

        self._each(score, starts)
        return joined([self._stage.exact(index[:0]), *(parts[start] for start in starts)])

    def _launches(self, start: int, stop: int, check: Check) -> Iterator[tuple[Launch, slice]]:
        """Launches that together hold positions [start, stop), and where each holds its part."""
        while start < stop:
            check()
            launch = self._launch
            if launch is None or not launch.start <= start < launch.stop:
                limit = next((end for begin, end in self._runs if begin <= start < end), stop)
                launch = self._launch = self._launched(start, limit)
            end = min(stop, launch.stop)
            yield launch, launch.rows(start, end)
            start = end

    def _launched(self, start: int, limit: int) -> Launch:
        """The launch that begins at `start`, as long as fits; once in smaller blocks than planned.

        Raises: CardMemory.
        """
        try:
            return self._tried(start, limit)
        except MemoryError as error:
            if self._shrunk:
                raise CardMemory(
                    f"the card ran out of memory twice ({error}); something else takes it: look at "
                    "nvidia-smi, or use --device cpu",
                    details={"error": "card_memory", "free_bytes": self._card.free_bytes()},
                ) from error
        self._shrunk, self._launch = True, None
        self._kept.clear()
        tried = min(limit - start, self._room.positions)
        left = min(self._room.bytes, self._card.free_bytes() - RESERVE_BYTES)
        self._room = Room(left, False, max(1, tried // 2))
        return self._launched(start, limit)

    def _tried(self, start: int, limit: int) -> Launch:
        self._launch = None  # its arrays make place for the next
        stop = min(limit, start + self._room.positions)
        while True:
            index, lid, sid = self._layout.positions(start, stop)
            if self._room.resident:
                table = self._keep("planes", self._stage.votes.planes)
                break
            used, places = np.unique(np.concatenate((lid, sid)), return_inverse=True)
            if self._needs.total(len(used), stop - start) <= self._room.bytes:
                lid, sid = np.split(places.reshape(-1, lid.shape[1]).astype(np.int32), 2)
                table = self._card.put(self._stage.votes.planes[used])
                break
            if stop - start == 1:
                raise refused(self._needs, len(used), self._room.bytes)
            stop = start + (stop - start) // 2
        conflict = self._keep("conflict", self._stage.votes.conflict)
        close = self._keep("close", self._stage.close)
        more = (self._keep(name, array) for name, array in self._layout.tables())
        ids = (np.ascontiguousarray(lid), np.ascontiguousarray(sid))
        inputs = (table, *map(self._card.put, ids), conflict, close, *more)
        layout, count = self._layout, stop - start
        named = {
            name: self._card.empty(shape, kind)
            for name, (shape, kind) in layout.outputs(count).items()
        }
        self._card.launch(
            layout.kernel, layout.threads(count), inputs, self._stage.terms, tuple(named.values())
        )
        return Launch(start, stop, layout.each, index, **layout.scores(named, self._card.arrays))

    def _keep(self, name: str, array: NDArray[Any]) -> Any:
        """The array on the card, put there once."""
        if name not in self._kept:
            self._kept[name] = self._card.put(array)
        return self._kept[name]

    def _measured(self) -> Room:
        votes, layout = self._stage.votes, self._layout
        shared = self._stage.close.nbytes + sum(array.nbytes for _, array in layout.tables())
        outputs = sum(
            math.prod(shape) * np.dtype(kind).itemsize for shape, kind in layout.outputs(1).values()
        )
        # The last launch is read while the next one runs, and reducing it takes room too.
        position = 8 * len(votes.conflict) + 2 * outputs + _REDUCING * layout.each
        self._needs = Needs(
            len(votes.planes), votes.planes.shape[1] * 8, position, shared + votes.conflict.nbytes
        )
        length = min(max(_LEAST, int(_LAUNCH_NS / layout.nanoseconds())), _MOST)
        return room(self._needs, self._card.free_bytes(), length)
