"""Votes as bits: bit i of word w is bar 64·w + i of the target slice."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from compute.jit import kernel

WORD_BITS = 64
_LANES = 8  # floats a comparison step reads: one AVX register, two of SSE or NEON
_LARGEST = float(np.finfo(np.float32).max)


def words(bars: int) -> int:
    """Number of 64-bit words that hold `bars` bits."""
    return (bars + WORD_BITS - 1) // WORD_BITS


def tail_mask(bars: int) -> np.uint64:
    """Bits of the last word that are bars; all ones when the last word is full."""
    used = bars % WORD_BITS
    return np.uint64((1 << used) - 1) if used else np.uint64(0xFFFFFFFFFFFFFFFF)


def pack(flags: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """`flags` [..., N] as words [..., words(N)]; bits beyond N are zero."""
    count = flags.shape[-1]
    padded = np.zeros((*flags.shape[:-1], words(count) * WORD_BITS), np.bool_)
    padded[..., :count] = flags
    packed = np.packbits(padded, axis=-1, bitorder="little")
    return packed.view(np.dtype("<u8")).astype(np.uint64, copy=False)


def unpack(packed: NDArray[np.uint64], bars: int) -> NDArray[np.bool_]:
    """Words [..., W] as flags [..., bars]."""
    little = np.ascontiguousarray(packed, dtype="<u8").view(np.uint8)
    return np.unpackbits(little, axis=-1, count=bars, bitorder="little").astype(np.bool_)


def _word_call(name: str, flag: bool) -> Any:
    """Code generator of a one-word LLVM bit instruction that returns an int64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word = ir.IntType(64)
        extra = [ir.IntType(1)] if flag else []
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(word, [word, *extra]), f"llvm.{name}.i64"
        )
        return builder.call(function, [args[0], *(ir.Constant(bit, 0) for bit in extra)])

    return codegen


def _splat(builder: Any, scalar: Any) -> Any:
    one = builder.insert_element(
        ir.Constant(ir.VectorType(scalar.type, _LANES), ir.Undefined),
        scalar,
        ir.Constant(ir.IntType(32), 0),
    )
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), _LANES), [0] * _LANES)
    return builder.shuffle_vector(one, one, zeros)


def _lanes(context: Any, builder: Any, array_type: Any, array: Any, start: Any, step: int) -> Any:
    """Eight floats of `array` from `start` + 8·step, of any alignment."""
    data = context.make_array(array_type)(context, builder, value=array).data
    offset = builder.add(start, ir.Constant(start.type, step * _LANES))
    vector = ir.VectorType(ir.FloatType(), _LANES)
    pointer = builder.bitcast(builder.gep(data, [offset]), vector.as_pointer())
    return builder.load(pointer, align=4)


def _word_of(builder: Any, flags: list[Any]) -> Any:
    """Eight vectors of eight flags as one word, first flag lowest."""
    word = ir.IntType(64)
    total: Any = ir.Constant(word, 0)
    for step, flag in enumerate(flags):
        byte = builder.zext(builder.bitcast(flag, ir.IntType(_LANES)), word)
        total = builder.or_(total, builder.shl(byte, ir.Constant(word, step * _LANES)))
    return total


def _ctz_typed(typingctx: Any, word: Any) -> Any:
    return types.int64(types.uint64), _word_call("cttz", True)


def _popcount_typed(typingctx: Any, word: Any) -> Any:
    return types.int64(types.uint64), _word_call("ctpop", False)


def _between_word_typed(typingctx: Any, values: Any, start: Any, low: Any, high: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        low_lanes, high_lanes = _splat(builder, args[2]), _splat(builder, args[3])
        flags = []
        for step in range(WORD_BITS // _LANES):
            lanes = _lanes(context, builder, signature.args[0], args[0], args[1], step)
            above = builder.fcmp_ordered(">=", lanes, low_lanes)
            flags.append(builder.and_(above, builder.fcmp_ordered("<=", lanes, high_lanes)))
        return _word_of(builder, flags)

    return types.uint64(values, types.int64, types.float32, types.float32), codegen


def _greater_word_typed(typingctx: Any, left: Any, at_left: Any, right: Any, at_right: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        real = ir.FloatType()
        most = _splat(builder, ir.Constant(real, _LARGEST))
        least = _splat(builder, ir.Constant(real, -_LARGEST))
        flags = []
        for step in range(WORD_BITS // _LANES):
            a = _lanes(context, builder, signature.args[0], args[0], args[1], step)
            b = _lanes(context, builder, signature.args[2], args[2], args[3], step)
            finite = builder.and_(
                builder.fcmp_ordered("<=", a, most), builder.fcmp_ordered(">=", b, least)
            )
            flags.append(builder.and_(builder.fcmp_ordered(">", a, b), finite))
        return _word_of(builder, flags)

    return types.uint64(left, types.int64, right, types.int64), codegen


_ctz: Any = intrinsic(_ctz_typed)
_popcount: Any = intrinsic(_popcount_typed)
_between_word: Any = intrinsic(_between_word_typed)
_greater_word: Any = intrinsic(_greater_word_typed)


@kernel
def ctz(word: Any) -> Any:
    """Number of zero bits below the lowest one of a uint64; 64 for 0."""
    return _ctz(word)


@kernel
def popcount(word: Any) -> Any:
    """Number of one bits of a uint64."""
    return _popcount(word)


@kernel
def between_word(values: Any, start: Any, low: Any, high: Any) -> Any:
    """64 votes `low <= values[start + i] <= high` as a word; NaN is no vote.

    `values` f4[T] has at least 64 elements from `start`; the bounds are float32.
    """
    return _between_word(values, start, low, high)


@kernel
def greater_word(left: Any, at_left: Any, right: Any, at_right: Any) -> Any:
    """64 votes `left[at_left + i] > right[at_right + i]`, both finite, as a word (f4 arrays)."""
    return _greater_word(left, at_left, right, at_right)
