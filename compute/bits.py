"""Votes as bits: bit i of word w is bar 64·w + i of the target slice."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import Signature
from numba.extending import intrinsic
from numpy.typing import NDArray

from compute.jit import inlined, kernel

WORD_BITS = 64
_LANES = 8  # floats a comparison step reads: one AVX register, two of SSE or NEON
_LINE = 16  # floats of a cache line
_AHEAD = 1024  # floats: processors stop fetching at the end of a page of 4 KiB
_LARGEST = float(np.finfo(np.float32).max)


def words(bars: int) -> int:
    """Number of 64-bit words that hold `bars` bits."""
    return (bars + WORD_BITS - 1) // WORD_BITS


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


def _fetch(context: Any, builder: Any, array_type: Any, array: Any, start: Any) -> None:
    """Asks for the 64 floats a page after `start`; beyond the array nothing happens."""
    data = context.make_array(array_type)(context, builder, value=array).data
    byte, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
    fetch = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(ir.VoidType(), [byte, flag, flag, flag]), "llvm.prefetch.p0"
    )
    read, near, of_data = (ir.Constant(flag, value) for value in (0, 3, 1))
    for line in range(0, WORD_BITS, _LINE):
        place = builder.gep(data, [builder.add(start, ir.Constant(start.type, _AHEAD + line))])
        builder.call(fetch, [builder.bitcast(place, byte), read, near, of_data])


def _word_of(builder: Any, flags: list[Any]) -> Any:
    """Eight vectors of eight flags as one word, first flag lowest."""
    word = ir.IntType(64)
    total: Any = ir.Constant(word, 0)
    for step, flag in enumerate(flags):
        byte = builder.zext(builder.bitcast(flag, ir.IntType(_LANES)), word)
        total = builder.or_(total, builder.shl(byte, ir.Constant(word, step * _LANES)))
    return total


def _put(context: Any, builder: Any, array_type: Any, array: Any, word: Any, flags: Any) -> None:
    """Stores eight vectors of eight flags as the bytes of `array`[word], first flag lowest."""
    data = context.make_array(array_type)(context, builder, value=array).data
    bytes_ = builder.bitcast(builder.gep(data, [word]), ir.IntType(_LANES).as_pointer())
    for step, flag in enumerate(flags):
        place = builder.gep(bytes_, [ir.Constant(ir.IntType(64), step)])
        builder.store(builder.bitcast(flag, ir.IntType(_LANES)), place)


def _ctz_typed(typingctx: Any, word: Any) -> Any:
    return types.int64(types.uint64), _word_call("cttz", True)


def _popcount_typed(typingctx: Any, word: Any) -> Any:
    return types.int64(types.uint64), _word_call("ctpop", False)


def _between_flags(
    context: Any, builder: Any, kind: Any, values: Any, start: Any, bounds: Any
) -> Any:
    low, high = (_splat(builder, bound) for bound in bounds)
    flags = []
    for step in range(WORD_BITS // _LANES):
        lanes = _lanes(context, builder, kind, values, start, step)
        above = builder.fcmp_ordered(">=", lanes, low)
        flags.append(builder.and_(above, builder.fcmp_ordered("<=", lanes, high)))
    return flags


def _put_between_typed(
    typingctx: Any, words: Any, word: Any, values: Any, start: Any, low: Any, high: Any
) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args
        flags = _between_flags(context, builder, kinds[2], args[2], args[3], args[4:])
        _fetch(context, builder, kinds[2], args[2], args[3])
        _put(context, builder, kinds[0], args[0], args[1], flags)
        return context.get_dummy_value()

    real = types.float32
    return types.void(words, types.int64, values, types.int64, real, real), codegen


def _infinite_flags(builder: Any, lanes: Any) -> Any:
    """Which of eight floats are infinite."""
    real = ir.FloatType()
    vector = ir.VectorType(real, _LANES)
    size = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(vector, [vector]), f"llvm.fabs.v{_LANES}f32"
    )
    most = _splat(builder, ir.Constant(real, _LARGEST))
    return builder.fcmp_ordered(">", builder.call(size, [lanes]), most)


def _infinite_word_typed(typingctx: Any, values: Any, start: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        steps = range(WORD_BITS // _LANES)
        lanes = [
            _lanes(context, builder, signature.args[0], args[0], args[1], step) for step in steps
        ]
        return _word_of(builder, [_infinite_flags(builder, part) for part in lanes])

    return types.uint64(values, types.int64), codegen


def _put_both_typed(
    typingctx: Any,
    above: Any,
    below: Any,
    left: Any,
    at_left: Any,
    right: Any,
    at_right: Any,
    begin: Any,
    stop: Any,
) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args
        vector, index = ir.VectorType(ir.FloatType(), _LANES), args[6].type
        size = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(vector, [vector]), f"llvm.fabs.v{_LANES}f32"
        )
        largest = cgutils.alloca_once_value(builder, ir.Constant(vector, None))
        with cgutils.for_range_slice(
            builder, args[6], args[7], ir.Constant(index, 1), index, inc=True
        ) as (word, _):
            bar = builder.mul(word, ir.Constant(index, WORD_BITS))
            at = [builder.add(args[3], bar), builder.add(args[5], bar)]
            more, less, most = [], [], builder.load(largest)
            for step in range(WORD_BITS // _LANES):
                a = _lanes(context, builder, kinds[2], args[2], at[0], step)
                b = _lanes(context, builder, kinds[4], args[4], at[1], step)
                more.append(builder.fcmp_ordered(">", a, b))
                less.append(builder.fcmp_ordered("<", a, b))
                b = builder.call(size, [b])
                most = builder.select(builder.fcmp_ordered(">", b, most), b, most)
            builder.store(most, largest)
            _fetch(context, builder, kinds[4], args[4], at[1])
            _put(context, builder, kinds[0], args[0], word, more)
            _put(context, builder, kinds[1], args[1], word, less)
        limit = _splat(builder, ir.Constant(ir.FloatType(), _LARGEST))
        wild = builder.fcmp_ordered(">", builder.load(largest), limit)
        lanes = builder.bitcast(wild, ir.IntType(_LANES))
        return builder.icmp_unsigned("!=", lanes, ir.Constant(lanes.type, 0))

    index = types.int64
    given = (above, below, left, index, right, index, index, index)
    return Signature(types.boolean, given, None), codegen


_ctz: Any = intrinsic(_ctz_typed)
_popcount: Any = intrinsic(_popcount_typed)
_put_between: Any = intrinsic(_put_between_typed)
_put_both: Any = intrinsic(_put_both_typed)
_infinite_word: Any = intrinsic(_infinite_word_typed)


@kernel
def ctz(word: Any) -> Any:
    """Number of zero bits below the lowest one of a uint64; 64 for 0."""
    return _ctz(word)


@kernel
def popcount(word: Any) -> Any:
    """Number of one bits of a uint64."""
    return _popcount(word)


@inlined
def put_between(words: Any, word: Any, values: Any, start: Any, low: Any, high: Any) -> Any:
    """Set `words[word]` to 64 votes `low <= values[start + i] <= high`; NaN is no vote.

    `values` f4[T] has at least 64 elements from `start`; the bounds are float32.
    """
    _put_between(words, word, values, start, low, high)


@inlined
def put_both(
    above: Any,
    below: Any,
    left: Any,
    at_left: Any,
    right: Any,
    at_right: Any,
    begin: Any,
    stop: Any,
) -> Any:
    """Set words [begin, stop) of `above` and `below` to the votes left > right and left < right.

    Bar t of the votes compares left[at_left + t] and right[at_right + t] (f4 arrays); NaN is no
    vote. What comes back is whether an infinity is among the right values.
    """
    return _put_both(above, below, left, at_left, right, at_right, begin, stop)


@inlined
def infinite_word(values: Any, start: Any) -> Any:
    """64 flags of infinities among `values[start + i]` (f4) as a word."""
    return _infinite_word(values, start)
