"""Recursions of eight rows as vectors: a step of all rows is one instruction, and eight bars are
turned into eight rows by a transposition in registers.

Written as LLVM vectors because the loop vectoriser leaves such loops scalar (five instructions a
value where these take about one and a half).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from compute.indicators.kernels.vectors import (
    DOUBLES,
    LANES,
    Matrix,
    columns,
    constant,
    each,
    put_rows,
    splat,
)
from compute.jit import emitted

_Finish = Callable[[Any, list[Any], Any, Any], Any]


def _smoothed(builder: Any, levels: list[Any], before: Any, factors: Any) -> Any:
    return levels[-1]


def _combined(builder: Any, levels: list[Any], before: Any, factors: Any) -> Any:
    total: Any = None
    for level, factor in zip(levels, factors, strict=True):
        part = builder.fmul(factor, level)
        total = part if total is None else builder.fadd(total, part)
    return total


def _grown(builder: Any, levels: list[Any], before: Any, factors: Any) -> Any:
    percent = builder.fmul(
        splat(builder, ir.Constant(ir.DoubleType(), 100.0)), builder.fsub(levels[-1], before)
    )
    known = builder.fcmp_ordered("!=", before, ir.Constant(DOUBLES, [0.0] * LANES))
    missing = ir.Constant(DOUBLES, [float("nan")] * LANES)
    return builder.select(known, builder.fdiv(percent, before), missing)


class _Cascade:
    """Eight rows of smoothed values, smoothed again in every further stage."""

    def __init__(self, builder: Any, stages: int, finish: _Finish, parts: Any, group: Any) -> None:
        self.builder, self.finish, self.group = builder, finish, group
        self.state = parts.state
        zero = constant(0)
        self.weight, self.keep = parts.weights.load(zero, group), parts.keeps.load(zero, group)
        rows = [constant(i) for i in range(stages)]
        self.factors = [parts.factors.load(row, group) for row in rows] if parts.factors else []
        self.levels = [cgutils.alloca_once_value(builder, self.state.load(r, group)) for r in rows]

    def step(self, value: Any) -> Any:
        """What the rows say after one more bar."""
        builder = self.builder
        before = builder.load(self.levels[-1])
        levels = []
        for place in self.levels:
            fresh = builder.fmul(self.weight, value)
            value = builder.fadd(fresh, builder.fmul(self.keep, builder.load(place)))
            builder.store(value, place)
            levels.append(value)
        return self.finish(builder, levels, before, self.factors)

    def save(self) -> None:
        for i, place in enumerate(self.levels):
            self.state.store(self.builder.load(place), constant(i), self.group)


class _Parts:
    """The arrays of one call."""

    def __init__(self, context: Any, builder: Any, kinds: Any, values: Any, factored: bool) -> None:
        def matrix(i: int) -> Matrix:
            return Matrix(context, builder, kinds[i], values[i])

        self.x, self.weights, self.keeps, self.state = matrix(0), matrix(3), matrix(4), matrix(5)
        self.factors = matrix(6) if factored else None
        self.out = matrix(7)


def _emit(builder: Any, parts: _Parts, groups: list[_Cascade], span: Any, column: Any) -> None:
    """Advance `groups` over bars span = (begin, count), eight at a time, then one at a time."""
    begin, count = span
    zero = constant(0)

    def advance(k: Any, whole: bool) -> None:
        results: list[list[Any]] = [[] for _ in groups]
        for bar in range(LANES if whole else 1):
            at = builder.add(builder.add(begin, k), constant(bar))
            value = splat(builder, builder.load(parts.x.pointer(zero, at)))
            for group, result in zip(groups, results, strict=True):
                result.append(group.step(value))
        for group, result in zip(groups, results, strict=True):
            put_rows(builder, parts.out, result, group.group, builder.add(column, k))

    each(builder, count, advance)
    for group in groups:
        group.save()


def _advance(stages: int, groups: int, finish: _Finish) -> Any:
    """An intrinsic (x, begin, count, weights, keeps, state, factors, out, column, group).

    It smooths `x[begin : begin + count]` f8 into `out[group + lane, column ...]` for the eight
    lanes of each of `groups` groups; `state` f8[stages, n], `weights`, `keeps` (1 - weight) f8[n]
    and `factors` f8[stages, n] are read from `group` on.
    """

    def typed(
        _: Any,
        x: Any,
        begin: Any,
        count: Any,
        weights: Any,
        keeps: Any,
        state: Any,
        factors: Any,
        out: Any,
        column: Any,
        group: Any,
    ) -> Any:
        index = types.int64
        signature = types.void(x, index, index, weights, keeps, state, factors, out, index, index)

        def codegen(context: Any, builder: Any, known: Any, values: Any) -> Any:
            parts = _Parts(context, builder, known.args, values, finish is _combined)
            first = values[9]
            cascades = [
                _Cascade(builder, stages, finish, parts, builder.add(first, constant(LANES * i)))
                for i in range(groups)
            ]
            _emit(builder, parts, cascades, (values[1], values[2]), values[8])
            return context.get_dummy_value()

        return signature, codegen

    return emitted(typed)


smooth_8 = _advance(1, 1, _smoothed)
smooth_16 = _advance(1, 2, _smoothed)
combine_2 = _advance(2, 1, _combined)
combine_3 = _advance(3, 1, _combined)
combine_6 = _advance(6, 1, _combined)
grow_3 = _advance(3, 1, _grown)


@emitted
def smooth_own(_: Any, tile: Any, count: Any, weights: Any, keeps: Any, state: Any) -> Any:
    """Smooth the first `count` values of each of eight rows of `tile` f8[8, n] in place.

    `weights`, `keeps` (1 - weight), `state` f8[8]; a NaN state starts again from the next value.
    """

    def codegen(context: Any, builder: Any, known: Any, values: Any) -> Any:
        rows, weight, keep, last = (
            Matrix(context, builder, known.args[i], values[i]) for i in (0, 2, 3, 4)
        )
        zero = constant(0)
        a, b = weight.load(zero, zero), keep.load(zero, zero)
        place = cgutils.alloca_once_value(builder, last.load(zero, zero))

        def advance(k: Any, whole: bool) -> None:
            results = []
            for fresh in columns(builder, rows, k, whole):
                y = builder.load(place)
                moved = builder.fadd(builder.fmul(a, fresh), builder.fmul(b, y))
                y = builder.select(builder.fcmp_ordered("==", y, y), moved, fresh)
                builder.store(y, place)
                results.append(y)
            put_rows(builder, rows, results, zero, k)

        each(builder, values[1], advance)
        last.store(builder.load(place), zero, zero)
        return context.get_dummy_value()

    return types.void(tile, types.int64, weights, keeps, state), codegen


@emitted
def follow_own(
    _: Any,
    x: Any,
    before: Any,
    begin: Any,
    count: Any,
    rates: Any,
    state: Any,
    out: Any,
    column: Any,
    group: Any,
) -> Any:
    """Fill `out[group + lane, column ...]` with y + rate (x - y) over `x[begin : begin + count]`,
    `rates` f8[8, n].

    `state` f8[8] holds y; a NaN one starts again from `before` (x one bar ago).
    """

    def codegen(context: Any, builder: Any, known: Any, values: Any) -> Any:
        prices, lagged, rate, last, rows = (
            Matrix(context, builder, known.args[i], values[i]) for i in (0, 1, 4, 5, 6)
        )
        zero = constant(0)
        place = cgutils.alloca_once_value(builder, last.load(zero, zero))

        def advance(k: Any, whole: bool) -> None:
            results = []
            for bar, share in enumerate(columns(builder, rate, k, whole)):
                at = builder.add(builder.add(values[2], k), constant(bar))
                price = splat(builder, builder.load(prices.pointer(zero, at)))
                start = splat(builder, builder.load(lagged.pointer(zero, at)))
                y = builder.load(place)
                y = builder.select(builder.fcmp_ordered("==", y, y), y, start)
                y = builder.fadd(y, builder.fmul(share, builder.fsub(price, y)))
                builder.store(y, place)
                results.append(y)
            put_rows(builder, rows, results, values[8], builder.add(values[7], k))

        each(builder, values[3], advance)
        last.store(builder.load(place), zero, zero)
        return context.get_dummy_value()

    index = types.int64
    return types.void(x, before, index, index, rates, state, out, index, index), codegen


@emitted
def strength_8(
    _: Any,
    gain: Any,
    loss: Any,
    begin: Any,
    count: Any,
    weights: Any,
    keeps: Any,
    state: Any,
    out: Any,
    column: Any,
    group: Any,
) -> Any:
    """Fill `out[group + lane, column ...]` with 100 G / (G + L) over bars begin .. begin + count.

    G and L are `gain` and `loss` f8[T] smoothed with `weights` f8[n]; `state` f8[2, n] holds them.
    """

    def codegen(context: Any, builder: Any, known: Any, values: Any) -> Any:
        up, down, weight, keep, last, rows = (
            Matrix(context, builder, known.args[i], values[i]) for i in (0, 1, 4, 5, 6, 7)
        )
        zero, first = constant(0), values[9]
        a, b = weight.load(zero, first), keep.load(zero, first)
        places = [
            cgutils.alloca_once_value(builder, last.load(constant(i), first)) for i in range(2)
        ]
        hundred = splat(builder, ir.Constant(ir.DoubleType(), 100.0))

        def advance(k: Any, whole: bool) -> None:
            results = []
            for bar in range(LANES if whole else 1):
                at = builder.add(builder.add(values[2], k), constant(bar))
                levels = []
                for moves, place in zip((up, down), places, strict=True):
                    fresh = splat(builder, builder.load(moves.pointer(zero, at)))
                    kept = builder.fmul(b, builder.load(place))
                    levels.append(builder.fadd(builder.fmul(a, fresh), kept))
                    builder.store(levels[-1], place)
                rise, fall = levels
                share = builder.fdiv(builder.fmul(hundred, rise), builder.fadd(rise, fall))
                results.append(share)
            put_rows(builder, rows, results, first, builder.add(values[8], k))

        each(builder, values[3], advance)
        for i, place in enumerate(places):
            last.store(builder.load(place), constant(i), first)
        return context.get_dummy_value()

    index = types.int64
    return types.void(gain, loss, index, index, weights, keeps, state, out, index, index), codegen


def _ratio(form: int, clean: bool = False) -> Any:
    """An intrinsic (over, under, begin, count, weights, keeps, state, out).

    It fills `out[lane, :count]` with 100 · `over` / `under` from bar `begin` on, both f8[T] and
    smoothed twice (form 0), that smoothed again (1), or the difference of the two (2); NaN where
    the denominator is 0. `weights`, `keeps` (1 - weight), `state` f8[5, 8]: twice for `over`, twice
    for `under`, once for the ratio; a NaN state starts again from the next value, unless there is
    none and `clean` says so.
    """

    def typed(
        _: Any,
        over: Any,
        under: Any,
        begin: Any,
        count: Any,
        weights: Any,
        keeps: Any,
        state: Any,
        out: Any,
    ) -> Any:
        index = types.int64
        signature = types.void(over, under, index, index, weights, keeps, state, out)

        def codegen(context: Any, builder: Any, known: Any, values: Any) -> Any:
            top, bottom, weight, keep, last, rows = (
                Matrix(context, builder, known.args[i], values[i]) for i in (0, 1, 4, 5, 6, 7)
            )
            zero, levels = constant(0), [constant(i) for i in range(5 if form else 4)]
            shares = [(weight.load(i, zero), keep.load(i, zero)) for i in levels]
            places = [cgutils.alloca_once_value(builder, last.load(i, zero)) for i in levels]
            hundred = splat(builder, ir.Constant(ir.DoubleType(), 100.0))
            missing = ir.Constant(DOUBLES, [float("nan")] * LANES)
            nothing = ir.Constant(DOUBLES, [0.0] * LANES)

            def smoothed(i: int, fresh: Any) -> Any:
                (share, rest), y = shares[i], builder.load(places[i])
                moved = builder.fadd(builder.fmul(share, fresh), builder.fmul(rest, y))
                if not clean:
                    moved = builder.select(builder.fcmp_ordered("==", y, y), moved, fresh)
                builder.store(moved, places[i])
                return moved

            def advance(k: Any, whole: bool) -> None:
                results = []
                for bar in range(LANES if whole else 1):
                    at = builder.add(builder.add(values[2], k), constant(bar))
                    parts = [
                        splat(builder, builder.load(m.pointer(zero, at))) for m in (top, bottom)
                    ]
                    above = smoothed(1, smoothed(0, parts[0]))
                    below = smoothed(3, smoothed(2, parts[1]))
                    share = builder.fdiv(builder.fmul(hundred, above), below)
                    moving = builder.fcmp_unordered("!=", below, nothing)
                    share = builder.select(moving, share, missing)
                    if form:
                        signal = smoothed(4, share)
                        share = signal if form == 1 else builder.fsub(share, signal)
                    results.append(share)
                put_rows(builder, rows, results, zero, k)

            each(builder, values[3], advance)
            for i, place in zip(levels, places, strict=True):
                last.store(builder.load(place), i, zero)
            return context.get_dummy_value()

        return signature, codegen

    return emitted(typed)


ratio_8, ratio_signal_8, ratio_hist_8 = (_ratio(form) for form in range(3))
ratio_clean_8 = _ratio(0, clean=True)


_HALF = LANES // 2


def _shuffled(builder: Any, a: Any, b: Any, places: list[int]) -> Any:
    return builder.shuffle_vector(
        a, b, ir.Constant(ir.VectorType(ir.IntType(32), len(places)), places)
    )


def _scanned(builder: Any, four: Any) -> Any:
    """Running sums of four doubles."""
    nothing = ir.Constant(four.type, [0.0] * _HALF)
    for step in (1, 2):
        places = [*range(_HALF - step, _HALF), *range(_HALF, 2 * _HALF - step)]
        four = builder.fadd(four, _shuffled(builder, nothing, four, places))
    return four


@emitted
def sum_up(_: Any, values: Any, total: Any, out: Any) -> Any:
    """Fill `out` [n] with `total` + the running sum of `values` f8[n], n a multiple of 8; what
    comes back is the last one. Eight are summed in registers, so that the chain is one addition
    for eight; no sum depends on the values after it."""

    def codegen(context: Any, builder: Any, known: Any, given: Any) -> Any:
        source, target = (Matrix(context, builder, known.args[i], given[i]) for i in (0, 2))
        place = cgutils.alloca_once_value(builder, splat(builder, given[1]))
        count = builder.extract_value(source.array.shape, 0)
        whole, last = [*range(LANES)], [_HALF - 1] * _HALF
        with cgutils.for_range_slice(builder, constant(0), count, constant(LANES)) as (k, _i):
            eight = source.load(constant(0), k)
            low = _scanned(builder, _shuffled(builder, eight, eight, whole[:_HALF]))
            high = _scanned(builder, _shuffled(builder, eight, eight, whole[_HALF:]))
            high = builder.fadd(high, _shuffled(builder, low, low, last))
            before = builder.load(place)
            local = _shuffled(builder, low, high, whole)
            target.store(target.narrowed(builder.fadd(before, local)), constant(0), k)
            end = _shuffled(builder, high, high, [_HALF - 1] * LANES)
            builder.store(builder.fadd(before, end), place)
        return builder.extract_element(builder.load(place), ir.Constant(ir.IntType(32), 0))

    return types.float64(values, types.float64, out), codegen
