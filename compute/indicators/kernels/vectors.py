"""Recursions of eight rows as vectors: a step of all rows is one instruction, and eight bars are
turned into eight rows by a transposition in registers.

Written as LLVM vectors because the loop vectoriser leaves such loops scalar (five instructions a
value where these take about one and a half). Every lane does what the scalar expression does, in
the same order and without fused operations, so a row has the same bits in every group.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from compute.jit import emitted

LANES = 8
_DOUBLES = ir.VectorType(ir.DoubleType(), LANES)
_INDEX = ir.IntType(64)
# Interleave low and high pairs, join halves, join quarters: three steps of an 8 x 8 transposition.
_SINGLE = ((0, 8, 1, 9, 4, 12, 5, 13), (2, 10, 3, 11, 6, 14, 7, 15))
_DOUBLE = ((0, 8, 2, 10, 4, 12, 6, 14), (1, 9, 3, 11, 5, 13, 7, 15))
_HALVES = ((0, 1, 8, 9, 4, 5, 12, 13), (2, 3, 10, 11, 6, 7, 14, 15))
_QUARTERS = ((0, 1, 2, 3, 8, 9, 10, 11), (4, 5, 6, 7, 12, 13, 14, 15))


def _mask(places: tuple[int, ...]) -> Any:
    return ir.Constant(ir.VectorType(ir.IntType(32), LANES), list(places))


def _transposed(builder: Any, rows: list[Any], single: bool) -> list[Any]:
    """Eight vectors whose element [i][k] is that of [k][i]."""

    def mixed(a: Any, b: Any, masks: tuple[tuple[int, ...], ...]) -> list[Any]:
        return [builder.shuffle_vector(a, b, _mask(places)) for places in masks]

    pairs = [mixed(rows[i], rows[i + 1], _SINGLE if single else _DOUBLE) for i in (0, 2, 4, 6)]
    result: list[Any] = [None] * LANES
    for high in range(2):
        early = mixed(pairs[0][high], pairs[1][high], _HALVES)
        late = mixed(pairs[2][high], pairs[3][high], _HALVES)
        for half in range(2):
            at = 2 * high + half if single else high + 2 * half
            result[at], result[at + 4] = mixed(early[half], late[half], _QUARTERS)
    return result


def splat(builder: Any, scalar: Any) -> Any:
    none = ir.Constant(_DOUBLES, ir.Undefined)
    first = builder.insert_element(none, scalar, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, none, _mask((0,) * LANES))


class Matrix:
    """An array of the kernel as rows of memory."""

    def __init__(self, context: Any, builder: Any, kind: Any, value: Any) -> None:
        self.builder = builder
        self.array = context.make_array(kind)(context, builder, value=value)
        self.single = kind.dtype == types.float32
        self.strides = cgutils.unpack_tuple(builder, self.array.strides, kind.ndim)

    def pointer(self, row: Any, column: Any) -> Any:
        """Address of an element; `row` counts only where there are two dimensions."""
        builder, at = self.builder, self.array.data
        if len(self.strides) == 2:
            raw = builder.bitcast(at, ir.IntType(8).as_pointer())
            raw = builder.gep(raw, [builder.mul(row, self.strides[0])])
            at = builder.bitcast(raw, self.array.data.type)
        return builder.gep(at, [column])

    def load(self, row: Any, column: Any) -> Any:
        """Eight doubles of a row."""
        address = self.builder.bitcast(self.pointer(row, column), _DOUBLES.as_pointer())
        return self.builder.load(address, align=8)

    def store(self, vector: Any, row: Any, column: Any) -> None:
        """Write eight values to a row."""
        address = self.builder.bitcast(self.pointer(row, column), vector.type.as_pointer())
        self.builder.store(vector, address, align=4 if self.single else 8)

    def values(self, column: Any, whole: bool) -> Any:
        """Eight doubles from `column` on, or one."""
        if whole:
            return self.load(constant(0), column)
        return self.builder.load(self.pointer(constant(0), column))

    def put(self, value: Any, row: Any, column: Any, whole: bool) -> None:
        """Write what `values` gave, in the matrix's own precision."""
        if whole:
            self.store(self.narrowed(value), row, column)
            return
        if self.single:
            value = self.builder.fptrunc(value, ir.FloatType())
        self.builder.store(value, self.pointer(row, column))

    def narrowed(self, vector: Any) -> Any:
        """A vector of doubles in the matrix's own precision."""
        if not self.single:
            return vector
        return self.builder.fptrunc(vector, ir.VectorType(ir.FloatType(), LANES))


def constant(value: int) -> Any:
    return ir.Constant(_INDEX, value)


def _columns(builder: Any, tile: Matrix, at: Any, whole: bool) -> list[Any]:
    """Bars `at` ... of eight rows of a tile: eight vectors over the rows, or one."""
    if whole:
        return _transposed(builder, [tile.load(constant(g), at) for g in range(LANES)], False)
    vector: Any = ir.Constant(_DOUBLES, ir.Undefined)
    for g in range(LANES):
        value = builder.load(tile.pointer(constant(g), at))
        vector = builder.insert_element(vector, value, ir.Constant(ir.IntType(32), g))
    return [vector]


def put_rows(builder: Any, out: Matrix, vectors: list[Any], group: Any, at: Any) -> None:
    """Write what `_columns` read."""
    values = [out.narrowed(vector) for vector in vectors]
    if len(values) == LANES:
        for g, row in enumerate(_transposed(builder, values, out.single)):
            out.store(row, builder.add(group, constant(g)), at)
        return
    for g in range(LANES):
        single = builder.extract_element(values[0], ir.Constant(ir.IntType(32), g))
        builder.store(single, out.pointer(builder.add(group, constant(g)), at))


def each(builder: Any, count: Any, body: Callable[[Any, bool], None]) -> None:
    """`body` for eight bars at a time, then for each bar that is left."""
    whole = builder.and_(count, constant(-LANES))
    with cgutils.for_range_slice(builder, constant(0), whole, constant(LANES)) as (k, _):
        body(k, True)
    with cgutils.for_range_slice(builder, whole, count, constant(1)) as (k, _):
        body(k, False)


Finish = Callable[[Any, list[Any], Any, Any], Any]


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
    known = builder.fcmp_ordered("!=", before, ir.Constant(_DOUBLES, [0.0] * LANES))
    missing = ir.Constant(_DOUBLES, [float("nan")] * LANES)
    return builder.select(known, builder.fdiv(percent, before), missing)


class _Cascade:
    """Eight rows of smoothed values, smoothed again in every further stage."""

    def __init__(self, builder: Any, stages: int, finish: Finish, parts: Any, group: Any) -> None:
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


def _advance(stages: int, groups: int, finish: Finish) -> Any:
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
            for fresh in _columns(builder, rows, k, whole):
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
            for bar, share in enumerate(_columns(builder, rate, k, whole)):
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
