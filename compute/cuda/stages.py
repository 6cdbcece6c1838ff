"""A stage whose fast scores are computed on a card; whatever else is asked of it, it does itself.

Scores come in launches of many positions, in the order of the stage. A launch that answers one
span stays on the card for the next ones, so that short spans cost no launch of their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from compute.cuda.layouts import layout_of
from compute.cuda.memory import RESERVE_BYTES, CardMemory, Needs, Room, refused, room
from compute.cuda.residence import Residence
from compute.executor import Span
from compute.ranking import RETURN, Scores, joined, margin, settled
from compute.selection import Best, Scan
from compute.stage_a import StageA
from compute.stage_b import StageB

T = TypeVar("T")
Check = Callable[[], None]
Each = Callable[[Callable[[Any], None], Sequence[Any]], None]

_LAUNCH_NS = 1e8  # of a card, for nobody can stop it meanwhile
_MOST, _LEAST = 1 << 20, 4096  # positions, scores of a launch
# Bytes a score at the cut of `_reduced`: three masks, trades, places and merits of candidates, the
# copy that is partitioned and what sorting it takes; and doubts of positions repeated for pairs.
_REDUCING = 44
_LAID = 1 << 16  # positions that a thread lays out at a time


def served(stage: Any) -> bool:
    """Whether a card scores `stage`. A ranking by drawdown follows bars and stays on the CPU."""
    return isinstance(stage, StageA | StageB) and not stage.ranking.searches_drawdown


@dataclass(frozen=True, slots=True)
class Laid:
    """Positions [start, stop) laid out: index of every score, LONG and SHORT plane ids.

    `ids` are both on the card already, or None.
    """

    start: int
    stop: int
    index: NDArray[np.int64]
    lid: NDArray[np.int32]
    sid: NDArray[np.int32]
    ids: tuple[Any, Any] | None = None


@dataclass(frozen=True, slots=True)
class Launch:
    """Scores on the card of positions [start, stop), `each` to a position, and their index.

    `ids` are what the kernel reads: they must stay until its scores have been read.
    """

    start: int
    stop: int
    each: int
    index: NDArray[np.int64]
    ids: tuple[Any, Any]
    equity: Any
    trades: Any
    doubts: Any | None = None
    wins: Any | None = None
    sums: Any | None = None

    def rows(self, start: int, stop: int) -> slice:
        """Where the scores of positions [start, stop) are."""
        return slice((start - self.start) * self.each, (stop - self.start) * self.each)


def launch_positions(nanoseconds: float, each: int, cores: int) -> int:
    """Positions of a launch on a card that is worth `cores`, of `each` scores a position."""
    return min(max(1, _LEAST // each, int(_LAUNCH_NS * cores / nanoseconds)), _MOST)


class CardStage:
    """`stage` on the card of `residence`; `runs` are the positions that will be asked for."""

    def __init__(self, stage: Any, residence: Residence, runs: Sequence[Span], each: Each) -> None:
        self._stage, self._residence, self._runs, self._each = stage, residence, runs, each
        self._card = residence.card
        self._layout = layout_of(stage)
        self._tables = (stage.votes.conflict, stage.close, *self._layout.tables())
        self._launch: Launch | None = None
        self._ahead: Laid | None = None
        self._shrunk = False
        self._fitting: int | None = None  # positions that fitted without all planes
        self._tried = 1  # positions of the last launch
        self._room = self._measured()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stage, name)

    def scores(self, start: int, stop: int, check: Check) -> Iterator[Scores]:
        """As `StageA.scores` and `StageB.scores`."""
        for scores, doubtful in self._each_launch(start, stop, check, self._brought):
            yield self._settled(scores, doubtful, check)

    def best(self, scan: Scan, start: int, stop: int, check: Check) -> Best | None:
        """The part of `scan`, reduced on the card; None where all scores are wanted here."""
        if scan.wants_columns or scan.metric != RETURN:
            return None
        found = [scan.merge([])]
        floor, most_trades = -np.inf, 0

        def use(launch: Launch, rows: slice) -> tuple[Best, float, NDArray[np.int64]]:
            return self._reduced(scan, launch, rows, floor)

        for best, higher, doubtful in self._each_launch(start, stop, check, use):
            found.append(best)
            floor, most_trades = higher, max(most_trades, best.most_trades)
            if len(doubtful):
                some = self._exact(doubtful, check)
                enough = some.trades >= scan.min_trades
                found.append(
                    Best(some.index[enough], some.equity[enough], eligible=int(enough.sum()))
                )
                most_trades = max(most_trades, int(some.trades.max(initial=0)))
            found = [scan.merge(found)]
        best = found[0]
        return Best(best.index, best.merit, best.dropped, best.eligible, None, most_trades)

    def _reduced(
        self, scan: Scan, launch: Launch, rows: slice, floor: float
    ) -> tuple[Best, float, NDArray[np.int64]]:
        """(candidates among scores that are certain, merit that a candidate needs from now on,
        index of those that are in doubt)."""
        doubtful = launch.index[:0]
        arrays, card = self._card.arrays, self._card
        equity, trades = launch.equity[rows], launch.trades[rows]
        enough = trades >= scan.min_trades
        if launch.doubts is not None:
            sure = launch.doubts[rows] == 0
            enough &= sure
            trades = trades * sure
            doubtful = launch.index[rows][card.host(launch.doubts[rows]) != 0]
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
        return best, floor, doubtful

    def _brought(self, launch: Launch, rows: slice) -> tuple[Scores, NDArray[np.bool_] | None]:
        """(scores here, which of them are in doubt; None where nothing ever is)."""
        host, index = self._card.host, launch.index[rows]
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
        return scores, None if launch.doubts is None else host(launch.doubts[rows]) != 0

    def _settled(self, scores: Scores, doubtful: NDArray[np.bool_] | None, check: Check) -> Scores:
        """`scores` with doubtful ones replaced by exact ones."""
        if doubtful is None:
            return scores
        index, cash = scores.index, self._stage.terms.init_cash
        if doubtful.any():
            better = self._exact(index[doubtful], check)
            scores.equity[doubtful], scores.trades[doubtful] = better.equity, better.trades
            if "sums" in self._layout.outputs(1):
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

    def _each_launch(
        self, start: int, stop: int, check: Check, use: Callable[[Launch, slice], T]
    ) -> Iterator[T]:
        """What `use` makes of launches that together hold positions [start, stop).

        It gets a launch and where that holds its part, and keeps nothing of it: it may be asked
        again. Raises: CardMemory.
        """
        while start < stop:
            check()
            limit = next((end for begin, end in self._runs if begin <= start < end), stop)
            try:
                found, start = self._used(start, stop, limit, use)
            except MemoryError as error:
                reason = str(error)
            else:
                yield found
                continue
            self._shrink(reason)  # the error, and what it held, are gone

    def _used(
        self, start: int, stop: int, limit: int, use: Callable[[Launch, slice], T]
    ) -> tuple[T, int]:
        """(what `use` makes of the launch that holds `start`, where its part ends)."""
        launch = self._launch
        if launch is None or not launch.start <= start < launch.stop:
            self._launch = launch = None  # its arrays make place for the next
            launch = self._launch = self._launched(start, limit)
        end = min(stop, launch.stop)
        return use(launch, launch.rows(start, end)), end

    def _shrink(self, reason: str) -> None:
        """Drops all that the stage has on the card and halves launches; only once.

        Raises: CardMemory.
        """
        self._launch, self._ahead = None, None
        self._residence.keep_only(())
        left = min(self._room.bytes, self._card.free_bytes() - RESERVE_BYTES)
        if self._shrunk:
            raise CardMemory(
                f"the card ran out of memory twice ({reason}); something else takes it: look at "
                "nvidia-smi, or use --device cpu",
                details={"error": "card_memory", "free_bytes": left},
            )
        self._shrunk, self._fitting = True, None
        self._room = Room(left, False, max(1, self._tried // 2))

    def _launched(self, start: int, limit: int) -> Launch:
        """The launch that begins at `start`, as long as fits. Raises: MemoryError, CardMemory."""
        self._tried = min(limit - start, self._room.positions)
        laid, planes = self._placed(start, start + self._tried)
        self._tried = laid.stop - start
        put = self._residence.put
        ids = laid.ids or (self._card.put(laid.lid), self._card.put(laid.sid))
        conflict, close, *more = map(put, self._tables)
        layout, count = self._layout, laid.stop - laid.start
        named = {
            name: self._card.empty(shape, kind)
            for name, (shape, kind) in layout.outputs(count).items()
        }
        inputs = (planes, *ids, conflict, close, *more)
        self._card.launch(
            layout.kernel, layout.threads(count), inputs, self._stage.terms, tuple(named.values())
        )
        self._look_ahead(laid.stop, min(limit, laid.stop + self._room.positions))
        scores = layout.scores(named, self._card.arrays)
        return Launch(start, laid.stop, layout.each, laid.index, ids, **scores)

    def _placed(self, start: int, stop: int) -> tuple[Laid, Any]:
        """(positions from `start` on, the planes that they read, on the card): as many as fit.

        Raises: CardMemory.
        """
        if self._room.resident:
            laid, self._ahead = self._ahead, None
            if laid is None or (laid.start, laid.stop) != (start, stop):
                laid = self._laid(start, stop)
            return laid, self._residence.put(self._stage.votes.planes)
        if self._fitting is not None:
            stop = min(stop, start + self._fitting)
        while True:
            laid = self._laid(start, stop)
            used, places = np.unique(np.concatenate((laid.lid, laid.sid)), return_inverse=True)
            taken = self._needs.total(len(used), stop - start)
            if taken <= self._room.bytes:
                break
            if stop - start == 1:
                raise refused(self._needs, len(used), self._room.bytes)
            stop = start + (stop - start) // 2
        # Neighbours read as many planes: the next launch begins with what fitted this one.
        self._fitting = (stop - start) * (2 if 2 * taken <= self._room.bytes else 1)
        lid, sid = np.split(places.reshape(-1, laid.lid.shape[1]).astype(np.int32), 2)
        laid = Laid(start, stop, laid.index, np.ascontiguousarray(lid), np.ascontiguousarray(sid))
        return laid, self._card.put(self._stage.votes.planes[used])

    def _laid(self, start: int, stop: int) -> Laid:
        """Positions [start, stop) laid out, on the threads of this process."""
        starts = range(start, stop, _LAID)
        parts: dict[int, Any] = {}

        def lay(at: int) -> None:
            parts[at] = self._layout.positions(at, min(at + _LAID, stop))

        self._each(lay, starts)
        index, lid, sid = (
            column[0] if len(column) == 1 else np.concatenate(column)
            for column in zip(*(parts[at] for at in starts), strict=True)
        )
        return Laid(start, stop, index, np.ascontiguousarray(lid), np.ascontiguousarray(sid))

    def _look_ahead(self, start: int, stop: int) -> None:
        """Lays out the next launch, and brings it to the card, while that is computing this one."""
        if start == stop or not self._room.resident:
            return
        laid = self._laid(start, stop)
        with self._card.apart():
            ids = self._card.put(laid.lid), self._card.put(laid.sid)
        self._ahead = replace(laid, ids=ids)

    def _measured(self) -> Room:
        """What the stage may take; what the job left on the card and this does not read goes."""
        planes, layout = self._stage.votes.planes, self._layout
        outputs = sum(
            math.prod(shape) * np.dtype(kind).itemsize for shape, kind in layout.outputs(1).values()
        )
        ids = 2 * 8 * len(self._stage.votes.conflict)  # of this launch and of the next
        self._needs = Needs(
            len(planes),
            planes.shape[1] * 8,
            ids + outputs + _REDUCING * layout.each,
            sum(table.nbytes for table in self._tables),
        )
        length = launch_positions(
            layout.nanoseconds(), layout.each, layout.cores(self._card.few_doubles)
        )
        there = self._residence.keep_only((planes, *self._tables))
        found = room(self._needs, self._card.free_bytes() + there, length)
        if not found.resident:
            self._residence.keep_only(self._tables)
        return found
