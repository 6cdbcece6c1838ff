"""Window sums of four rows at once as vectors: they share what is newest, and each loads only the
sum it subtracts. Four rows in one plain loop are too many arrays for the compiler to vectorise."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from compute.indicators.kernels.vectors import Matrix, constant, each, splat
from compute.jit import emitted

ROWS = 4


def _emit(context: Any, builder: Any, known: Any, values: Any, weighted: bool) -> None:
    """Rows `order[first : first + 4]` of out: (a_new - a_old) · scale, or weighted (a_new - a_old +
    w · b_new) · scale + centre."""
    sums, heavy, at, _, first, _, _, centre, out, column, count = values
    above = Matrix(context, builder, known.args[0], sums)
    below = Matrix(context, builder, known.args[1], heavy)
    lists = [Matrix(context, builder, known.args[i], values[i]) for i in (3, 5, 6)]
    target = Matrix(context, builder, known.args[8], out)
    zero, middle = constant(0), splat(builder, centre)
    rows = []
    for i in range(ROWS):
        row = builder.load(lists[0].pointer(zero, builder.add(first, constant(i))))
        window = builder.load(lists[1].pointer(zero, row))
        scale = splat(builder, builder.load(lists[2].pointer(zero, row)))
        width = splat(builder, builder.sitofp(window, ir.DoubleType()))
        rows.append((row, builder.sub(at, window), scale, width))

    def advance(k: Any, whole: bool) -> None:
        newest = builder.add(at, k)
        a = above.values(newest, whole)
        b = below.values(newest, whole) if weighted else None
        for row, oldest, scale, width in rows:
            total = builder.fsub(a, above.values(builder.add(oldest, k), whole))
            if weighted:
                lane = width if whole else builder.extract_element(width, _FIRST)
                total = builder.fadd(total, builder.fmul(lane, b))
            total = builder.fmul(total, scale if whole else builder.extract_element(scale, _FIRST))
            if weighted:
                total = builder.fadd(total, middle if whole else centre)
            target.put(total, row, builder.add(column, k), whole)

    each(builder, count, advance)


_FIRST = ir.Constant(ir.IntType(32), 0)


def _rows_of_four(weighted: bool) -> Any:
    def typed(
        _: Any,
        sums: Any,
        heavy: Any,
        at: Any,
        order: Any,
        first: Any,
        windows: Any,
        scales: Any,
        centre: Any,
        out: Any,
        column: Any,
        count: Any,
    ) -> Any:
        index = types.int64
        signature = types.void(
            sums, heavy, index, order, index, windows, scales, types.float64, out, index, index
        )

        def codegen(context: Any, builder: Any, known: Any, values: Any) -> Any:
            _emit(context, builder, known, values, weighted)
            return context.get_dummy_value()

        return signature, codegen

    return emitted(typed)


mean_4 = _rows_of_four(weighted=False)
weighted_4 = _rows_of_four(weighted=True)
