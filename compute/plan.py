"""Plan: what a back-test will allocate and compute, counted before any of it happens."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from compute.backtest import Backtest
from compute.bits import words
from compute.errors import GuardExceeded
from compute.grid import IndicatorGrid
from compute.indicators.definition import SOURCE
from compute.planes import scratch_shape
from compute.quantities import plural, size_text, spaced
from compute.route import Box
from compute.rules import sides, voting_rule
from compute.settings import Limits

_MIB = 1 << 20
# Votes of chosen variants held at a time, where those of Stage A do not serve.
GATHERED_BYTES = 128 * _MIB
# Arrays that an indicator derives from the bars, a bar and source: 56 at most (measured over all of
# them), and an eighth more where they are made slice by slice.
_DERIVED_BYTES = 64
# One candidate of a selection: index, merit; and a row of exact scores.
_CANDIDATE_BYTES = 16
_SCORE_BYTES = 56
_TITLE = "Backtest variants guard exceeded"
_FEWER = "give them fewer values or a larger step"
_NAMED = 3  # axes that a refusal names


@dataclass(frozen=True, slots=True)
class Tables:
    """Vote tables of one indicator: settings that differ, rows of both tables, ids per vote row."""

    indicator_id: str
    variants: int
    distinct: int
    long_rows: int
    short_rows: int
    vote_rows: int

    def plane_bytes(self, bars: int) -> int:
        """Bytes of the packed planes over `bars`."""
        return (self.long_rows + self.short_rows) * words(bars) * 8

    @property
    def id_bytes(self) -> int:
        """Bytes of the row ids, and of what numbers them."""
        return self.vote_rows * 24


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes of a run: variants of each stage, bytes of each part, blocks of the outermost rows."""

    bars: int
    slice_bars: int
    tables: tuple[Tables, ...]
    stage_a_total: int
    preselect: int
    risk_total: int
    stage_b_total: int
    memory_bytes: dict[str, int]
    contract_memory_bytes: int
    boxes: tuple[Box | None, ...]

    @property
    def distinct_total(self) -> int:
        """Base variants whose votes can differ."""
        return math.prod(table.distinct for table in self.tables)

    @property
    def total_bytes(self) -> int:
        """Bytes the run holds at its peak."""
        return sum(self.memory_bytes.values())


def vote_tables(part: IndicatorGrid) -> Tables:
    """Sizes of one indicator's vote tables, from its axes alone."""
    rule = voting_rule(part.definition, part.output)
    output = part.definition.output(part.output)
    both = sides(
        part.indicator_id, rule, output.name, {axis.name: axis.values for axis in part.signals}
    )
    live = math.prod(len(axis) for axis in part.compute if axis.name in output.axes)
    votes = len(set(zip(both.long.key.tolist(), both.short.key.tolist(), strict=True)))
    return Tables(
        part.indicator_id,
        part.compute_total,
        live * votes,
        live * both.long.count,
        live * both.short.count,
        part.rows,
    )


def check_variants(job: Backtest, limits: Limits) -> None:
    """Raises GuardExceeded when a stage, or one indicator of it, has more variants than allowed."""
    limit = limits.max_variants_per_compute
    for part in job.grid.indicators:
        if part.compute_total > limit:
            raise GuardExceeded(
                f"{part.indicator_id} alone has {spaced(part.compute_total)} combinations,"
                f" {spaced(limit)} are allowed",
                title=f"variants exceed guard: variants={part.compute_total},"
                f" max_variants_guard={limit}",
                cure=_FEWER,
                largest=_largest(_lengths([part])),
                enough=_enough(job),
            )
    total = job.grid.total
    if total > limit:
        raise GuardExceeded(
            f"{spaced(total)} combinations{_factors(job.grid.indicators)}, {spaced(limit)} are"
            " allowed",
            title=_TITLE,
            cure=_FEWER,
            largest=_largest(_lengths(job.grid.indicators)),
            enough=_enough(job),
            details=_details("stage_a", total, limit),
        )


def _check_stops(job: Backtest, preselect: int, limit: int) -> None:
    """Raises GuardExceeded when there are too many variants with stops."""
    total = preselect * job.risk.total
    if total > limit:
        lengths = {
            "preselect": preselect,
            "risk.sl": len(job.risk.sl),
            "risk.tp": len(job.risk.tp),
        }
        raise GuardExceeded(
            f"{spaced(total)} combinations with stops (the best {spaced(preselect)}, each with"
            f" {plural(job.risk.total, 'pair')} of levels), {spaced(limit)} are allowed",
            title=_TITLE,
            cure="try stops on fewer of the best, or fewer levels",
            largest=_largest(lengths),
            enough=_enough(job),
            details=_details("stage_b", total, limit),
        )


def _details(stage: str, total: int, limit: int) -> dict[str, str | int]:
    return {
        "error": "max_variants_per_compute_exceeded",
        "stage": stage,
        "total_variants": total,
        "max_variants_per_compute": limit,
    }


def _enough(job: Backtest) -> tuple[str, int]:
    """The variants guard and a number of it that is enough for every stage."""
    second = min(job.preselect, job.grid.total) * job.risk.total
    return "max_variants_per_compute", max(job.grid.total, second)


def _lengths(parts: Sequence[IndicatorGrid]) -> dict[str, int]:
    """Numbers of values of all axes, by indicator and axis."""
    return {
        f"{part.indicator_id}.{axis.name}": len(axis)
        for part in parts
        for axis in (*part.compute, *part.signals)
    }


def _factors(parts: Sequence[IndicatorGrid]) -> str:
    """What each indicator multiplies the combinations by, where there are several."""
    found = [f"{part.indicator_id} {spaced(part.rows)}" for part in parts if part.rows > 1]
    return f" ({' × '.join(found)})" if len(found) > 1 else ""


def _largest(lengths: Mapping[str, int]) -> list[tuple[str, int]]:
    """The few with the most values, most first."""
    found = sorted(lengths.items(), key=lambda one: -one[1])[:_NAMED]
    return [(name, count) for name, count in found if count > 1]


def plan(
    job: Backtest,
    bars: int,
    slice_bars: int,
    limits: Limits,
    *,
    workers: int = 1,
    columns: bool = False,
) -> Plan:
    """The `Plan` of `job` over `bars` loaded bars of which `slice_bars` are traded.

    Raises: GuardExceeded, in the contract's order: indicator variants, Stage A, memory, Stage B.
    """
    check_variants(job, limits)
    tables = tuple(vote_tables(part) for part in job.grid.indicators)
    total = job.grid.total
    preselect = min(job.preselect, total)
    contract = _contract_bytes(job, bars)
    parts = _fixed_bytes(job, tables, bars, slice_bars, preselect, workers)
    if columns:
        parts["columns"] = 2 * _MIB * 16
    if job.holdout_fraction:
        parts["holdout"] = GATHERED_BYTES
    boxes, planes = _boxes(job, tables, slice_bars, limits, sum(parts.values()), contract)
    parts = {"planes": planes, **parts}
    stage_b_total = preselect * job.risk.total
    _check_stops(job, preselect, limits.max_variants_per_compute)
    return Plan(
        bars,
        slice_bars,
        tables,
        total,
        preselect,
        job.risk.total,
        stage_b_total,
        parts,
        contract,
        boxes,
    )


def _contract_bytes(job: Backtest, bars: int) -> int:
    """The contract's tensor formula, kept as a field of estimates."""
    base = bars * 28 + sum(bars * part.compute_total * 4 for part in job.grid.indicators)
    return base + max(64 * _MIB, -(-base // 5))


def _fixed_bytes(
    job: Backtest,
    tables: Sequence[Tables],
    bars: int,
    slice_bars: int,
    preselect: int,
    workers: int,
) -> dict[str, int]:
    """Bytes of everything but the planes, by part."""
    outputs = derived = 0
    for part, table in zip(job.grid.indicators, tables, strict=True):
        rows, columns = scratch_shape(part, bars, slice_bars)
        outputs = max(outputs, min(rows, table.variants) * columns * 4 + 64 * bars)
        sources = next((len(axis) for axis in part.compute if axis.name == SOURCE), 1)
        derived += _DERIVED_BYTES * sources * bars
    walk = 80 * words(slice_bars) + 25 * slice_bars
    touched = 0
    if job.primary_metric in ("max_drawdown_pct", "return_over_max_drawdown"):
        touched = 4 * slice_bars * (min(10, len(job.risk.sl)) + min(10, len(job.risk.tp)))
    call = max(1, min(job.grid.total, 500_000_000 // max(64, slice_bars))) * 64
    pairs = job.risk.total
    top_k = min(job.top_k, preselect * pairs)
    capacity = 2 * max(preselect, top_k) + 4096
    return {
        "candles": bars * 28 + slice_bars * 8,
        "derived": derived,
        "row_ids": sum(table.id_bytes for table in tables),
        "scratch": workers * (outputs + walk + touched + call + _MIB),
        "candidates": capacity * _CANDIDATE_BYTES * (2 * workers + 2),
        "shortlist": preselect * (_SCORE_BYTES * 3 + 16 * len(tables)),
        "stage_b": workers * pairs * (_SCORE_BYTES * 8 + 64) + top_k * _SCORE_BYTES,
    }


def _boxes(
    job: Backtest,
    tables: Sequence[Tables],
    slice_bars: int,
    limits: Limits,
    fixed: int,
    contract: int,
) -> tuple[tuple[Box | None, ...], int]:
    """(parts of the grid walked one after the other, bytes of the planes held at a time)."""
    budget = limits.max_compute_bytes_total - fixed
    need = [table.plane_bytes(slice_bars) for table in tables]
    if sum(need) <= budget:
        return (None,), sum(need)
    k = need.index(max(need))
    part = job.grid.indicators[k]
    offset = sum(len(other.compute) for other in job.grid.indicators[:k])
    live = set(part.definition.output(part.output).axes) - {SOURCE}
    axes = [(len(axis), offset + i) for i, axis in enumerate(part.compute) if axis.name in live]
    length, axis = max(axes, default=(1, 0))
    room = budget - (sum(need) - need[k])
    step = room * length // need[k] if need[k] and room > 0 else 0
    if step < 1:
        _refuse_memory(job, tables[k], sum(need) + fixed, slice_bars, limits, contract)
    boxes = tuple(Box(axis, at, min(at + step, length)) for at in range(0, length, step))
    return boxes, sum(need) - need[k] + need[k] * step // length


def _refuse_memory(
    job: Backtest,
    table: Tables,
    need: int,
    slice_bars: int,
    limits: Limits,
    contract: int,
) -> None:
    """Raises GuardExceeded that names `table`, the one with the largest planes."""
    rows = table.long_rows + table.short_rows
    part = next(p for p in job.grid.indicators if p.indicator_id == table.indicator_id)
    budget = limits.max_compute_bytes_total
    largest = _largest(_lengths([part]))
    shorter = "take a shorter time range"
    raise GuardExceeded(
        f"the run needs {size_text(need)} of memory, {size_text(table.plane_bytes(slice_bars))} of"
        f" it for the votes of {table.indicator_id} ({spaced(rows)} rows × {spaced(slice_bars)}"
        f" bars), {size_text(budget)} are allowed",
        title="Backtest memory guard exceeded",
        cure=f"{_FEWER}, or {shorter}" if largest else shorter,
        largest=largest,
        enough=("max_compute_bytes_total", need),
        details={
            "error": "max_compute_bytes_total_exceeded",
            "stage": "stage_a",
            "estimated_memory_bytes": need,
            "max_compute_bytes_total": budget,
            "contract_memory_bytes": contract,
        },
    )
