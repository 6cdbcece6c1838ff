"""Rows of memory as vectors of eight lanes, for kernels that write their own LLVM code.

Every lane does what the scalar expression does, in the same order and without fused operations, so
a row has the same bits in every group.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

LANES = 8
DOUBLES = ir.VectorType(ir.DoubleType(), LANES)
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
    none = ir.Constant(DOUBLES, ir.Undefined)
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
        address = self.builder.bitcast(self.pointer(row, column), DOUBLES.as_pointer())
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


def columns(builder: Any, tile: Matrix, at: Any, whole: bool) -> list[Any]:
    """Bars `at` ... of eight rows of a tile: eight vectors over the rows, or one."""
    if whole:
        return _transposed(builder, [tile.load(constant(g), at) for g in range(LANES)], False)
    vector: Any = ir.Constant(DOUBLES, ir.Undefined)
    for g in range(LANES):
        value = builder.load(tile.pointer(constant(g), at))
        vector = builder.insert_element(vector, value, ir.Constant(ir.IntType(32), g))
    return [vector]


def put_rows(builder: Any, out: Matrix, vectors: list[Any], group: Any, at: Any) -> None:
    """Write what `columns` read."""
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
