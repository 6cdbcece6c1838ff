"""An executor that remembers: spans that were committed are read, only the others are computed.

Whoever computed them, on however many cores, with whatever interruptions, the parts of a fold are
merged one by one in the order of the lattice. So the answer is the same to the bit, and with it
everything that is asked next: a run that goes on asks the folds that the first one asked.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final, Protocol, TypeVar

from cluster.jobs.committing import Committer, Ledger
from cluster.jobs.part_files import Fresh, PartFiles, Stored
from cluster.jobs.parts import PartUnreadable, question
from cluster.jobs.spans import SpanRow
from cluster.jobs.spanwise import Piece, Spanwise
from compute.control import Control, Meter
from compute.executor import Executor, Query, Sink, Span
from compute.packing import Packing

P = TypeVar("P")

LEAST_NS: Final = 1e8
"""Model cost below which neighbouring spans share a file: a tenth of a second."""
_HELD_PARTS: Final = 64

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Unit:
    """Consecutive spans of the lattice that are stored as one."""

    spans: tuple[Span, ...]

    @property
    def start(self) -> int:
        return self.spans[0][0]

    @property
    def stop(self) -> int:
        return self.spans[-1][1]


def units_of(spans: Sequence[Span], each_ns: float, least_ns: float) -> list[Unit]:
    """`spans` joined in order to units of at least `least_ns` of model cost, but for the last."""
    cuts, cost = [0], 0.0
    for i, (start, stop) in enumerate(spans):
        cost += (stop - start) * each_ns
        if cost >= least_ns or i == len(spans) - 1:
            cuts.append(i + 1)
            cost = 0.0
    return [Unit(tuple(spans[i:j])) for i, j in pairwise(cuts)]


@dataclass(frozen=True, slots=True)
class FoldStart:
    """One fold at its beginning: what is asked, and how many spans are there already."""

    number: int
    stage: Any
    query: Any
    spans: int
    reused: int
    reused_units: int


class Watch(Protocol):
    """Who looks on while folds are computed, on the thread that computes."""

    def fold_started(self, fold: FoldStart) -> None:
        """What was committed before has been read; the rest is about to be computed."""
        ...

    def part_merged(self, stage: Any, query: Any, merged: Any) -> None:
        """Another part is in `merged`."""
        ...


class Unwatched:
    """Nobody looks on."""

    def fold_started(self, fold: FoldStart) -> None: ...

    def part_merged(self, stage: Any, query: Any, merged: Any) -> None: ...


@dataclass(slots=True)
class _Line:
    """Parts merged one by one in the order of their units, whenever they come.

    A part that comes early is held; one too many is let go, and read again when it is its turn.
    """

    query: Query[Any]
    count: int
    read: Callable[[int], Any]
    merged: Any = None
    at: int = 0
    held: dict[int, Any] = field(default_factory=dict)

    def offer(self, i: int, part: Any) -> bool:
        """Takes the part of unit `i`; whether something was merged."""
        if i == self.at or len(self.held) < _HELD_PARTS:
            self.held[i] = part
        before = self.at
        while self.at in self.held:
            self._merge(self.held.pop(self.at))
        return self.at > before

    def finish(self) -> Any:
        """All parts merged; each of them is on the disk by now."""
        while self.at < self.count:
            self._merge(self.held.pop(self.at) if self.at in self.held else self.read(self.at))
        return self.query.merge([]) if self.count == 0 else self.merged

    def _merge(self, part: Any) -> None:
        self.merged = self.query.merge([part] if self.at == 0 else [self.merged, part])
        self.at += 1


class CommittedExecutor:
    """`inner`, computing only what `ledger` does not know to be done.

    `workers` should be those that the plan was made for: how a plan is cut into blocks depends on
    them, and folds are known by their number in the run. One executor serves one run.
    """

    def __init__(
        self,
        inner: Executor,
        ledger: Ledger,
        files: PartFiles,
        *,
        workers: int | None = None,
        watch: Watch | None = None,
        least_ns: float | None = None,
    ) -> None:
        self.name = inner.name
        self._inner, self._ledger, self._files = inner, ledger, files
        self._workers = workers
        self._watch = watch or Unwatched()
        self._least_ns = LEAST_NS if least_ns is None else least_ns
        self._folds = 0
        self._committer = Committer(files, ledger)
        files.sweep()

    def __enter__(self) -> CommittedExecutor:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Commits what was computed, as far as that goes; `inner` stays open."""
        self._committer.close()

    @property
    def device(self) -> str:
        """As `inner` has it: what it has searched on, nothing where all was committed before."""
        return self._inner.device

    @property
    def workers(self) -> int:
        return self._workers or self._inner.workers

    def each(self, work: Callable[[Any], None], items: Sequence[Any]) -> None:
        """Runs `work` over `items` on this process's threads; the first error is raised."""
        self._inner.each(work, items)

    def job(self, check: Callable[[], None]) -> AbstractContextManager[Packing | None]:
        """As `inner` has it."""
        return self._inner.job(check)

    def fold(
        self, stage: Any, query: Query[P], spans: Sequence[Span], meter: Meter, control: Control,
        sink: Sink | None = None,
    ) -> P:  # fmt: skip
        """Merged parts of `query` over `spans`; all of them are committed when it returns.

        Raises what `inner` and the ledger raise, and ResultsUnwritable.
        """
        control.check(stage.name)
        fold = _Fold(self, self._folds, stage, query, spans, meter, control, sink)
        self._folds += 1
        return fold.run()


class _Fold:
    """One fold of a `CommittedExecutor` under way."""

    def __init__(
        self, executor: CommittedExecutor, number: int, stage: Any, query: Query[Any],
        spans: Sequence[Span], meter: Meter, control: Control, sink: Sink | None,
    ) -> None:  # fmt: skip
        self._inner, self._committer = executor._inner, executor._committer
        self._ledger, self._files = executor._ledger, executor._files
        self._watch = executor._watch
        self._number, self._stage, self._query = number, stage, query
        self._spans, self._meter, self._control, self._sink = spans, meter, control, sink
        self._units = units_of(spans, query.nanoseconds(stage), executor._least_ns)
        self._question = question(stage, query)
        self._line = _Line(query, len(self._units), self._again)
        self._pieces: dict[int, dict[int, Any]] = {}
        self._unit_at: dict[int, int] = {}
        self._reread: dict[int, SpanRow] | None = None

    def run(self) -> Any:
        missing = self._recalled()
        if missing:
            self._unit_at = {start: i for i in missing for start, _ in self._units[i].spans}
            wanted = [span for i in missing for span in self._units[i].spans]
            try:
                self._inner.fold(
                    self._stage, Spanwise(self._query), wanted, self._meter, self._control,
                    self._deliver,  # type: ignore[arg-type]  # pieces, instead of bulk columns
                )  # fmt: skip
            except BaseException:
                with suppress(Exception):  # the first reason is the one to tell
                    self._committer.flush()
                raise
            self._committer.flush()
        return self._line.finish()

    def _recalled(self) -> list[int]:
        """Units that have to be computed; the others are on their way into the line."""
        rows = self._rows()
        missing: list[int] = []
        units = 0
        for i, unit in enumerate(self._units):
            stored = self._stored(rows.get(unit.start), unit)
            if stored is None:
                missing.append(i)
                continue
            self._control.check(self._stage.name)
            self._line.offer(i, stored.part)
            units += (unit.stop - unit.start) * self._stage.units_per_position
            if self._sink is not None and stored.columns is not None:
                self._sink(stored.columns)
        if units:
            self._meter.add(units)
        reused = len(self._units) - len(missing)
        self._watch.fold_started(
            FoldStart(self._number, self._stage, self._query, len(self._units), reused, units)
        )
        return missing

    def _rows(self) -> dict[int, SpanRow]:
        """What is committed of this fold, by start."""
        rows = self._ledger.committed(self._files.plan_key, self._number)
        return {row.start_at: row for row in rows}

    def _stored(self, row: SpanRow | None, unit: Unit) -> Stored | None:
        """What was committed of a unit; None when nothing was that can still be read."""
        if row is None or row.stop_at != unit.stop:
            return None
        try:
            return self._files.read(row, self._question, columns=self._sink is not None)
        except PartUnreadable as error:
            _LOG.warning(
                "part %d of fold %d is computed again: %s", unit.start, self._number, error
            )
            return None

    def _again(self, i: int) -> Any:
        """The part of a unit that was let go: from the disk, else computed anew."""
        unit = self._units[i]
        if self._reread is None:
            self._reread = self._rows()
        stored = self._stored(self._reread.get(unit.start), unit)
        if stored is not None:
            return stored.part
        quiet = Meter(self._stage.name, 0)
        return self._inner.fold(self._stage, self._query, unit.spans, quiet, self._control)

    def _deliver(self, piece: Any) -> None:
        """Takes the part of a span as it comes from `inner`."""
        start, _, part = _piece(piece)
        i = self._unit_at[start]
        unit, pieces = self._units[i], self._pieces.setdefault(i, {})
        pieces[start] = part
        if len(pieces) < len(unit.spans):
            return
        parts = [pieces[at] for at, _ in unit.spans]
        del self._pieces[i]
        columns = [*_blocks(parts)] if self._sink is not None else None
        merged = self._query.merge(parts)
        self._committer.put(
            Fresh(self._number, unit.start, unit.stop, self._question, merged, columns)
        )
        if self._sink is not None:
            for block in columns or ():
                self._sink(block)
        if self._line.offer(i, merged):
            self._watch.part_merged(self._stage, self._query, self._line.merged)


def _piece(piece: Any) -> Piece:
    return piece


def _blocks(parts: Sequence[Any]) -> Iterator[dict[str, Any]]:
    for part in parts:
        yield from getattr(part, "columns", None) or ()
