from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute.bits import (
    ctz,
    infinite_word,
    pack,
    popcount,
    put_between,
    put_both,
    unpack,
    words,
)
from compute.jit import kernel


@given(st.lists(st.booleans(), max_size=300))
def test_pack_and_unpack_are_inverse(flags):
    array = np.array(flags, np.bool_)
    packed = pack(array)
    assert packed.dtype == np.uint64
    assert packed.size == words(len(flags))
    assert sum(int(word) << (64 * w) for w, word in enumerate(packed)) == sum(
        1 << i for i, flag in enumerate(flags) if flag
    )
    np.testing.assert_array_equal(unpack(packed, len(flags)), array)


def test_pack_keeps_leading_axes():
    flags = np.random.default_rng(1).random((3, 2, 130)) < 0.5
    assert pack(flags).shape == (3, 2, 3)
    np.testing.assert_array_equal(unpack(pack(flags), 130), flags)


@pytest.mark.parametrize(("bars", "count"), [(0, 0), (1, 1), (64, 1), (65, 2), (128, 2)])
def test_words(bars, count):
    assert words(bars) == count


@given(st.integers(0, 2**64 - 1))
def test_counts_of_a_word(word):
    text = f"{word:064b}"
    assert popcount(np.uint64(word)) == text.count("1")
    assert ctz(np.uint64(word)) == len(text) - len(text.rstrip("0"))


@kernel
def _words(left, right, at, low, high):
    """Between, greater, less and infinite votes of 64 values from `at`, in the middle of three."""
    found = np.zeros((4, 3), np.uint64)
    put_between(found[0], 1, left, at, low, high)
    wild = put_both(found[1], found[2], left, at - 64, right, at - 64, 1, 2)
    found[3, 1] = infinite_word(left, at)
    return found, wild


def test_comparisons_of_a_word_leave_nan_out():
    rng = np.random.default_rng(3)
    left, right = rng.integers(-3, 4, (2, 80)).astype(np.float32)
    left[[5, 20, 30]] = [np.nan, np.inf, -np.inf]
    right[[6, 21, 31, 20]] = [np.nan, np.inf, -np.inf, np.inf]
    low, high = np.float32(-1), np.float32(2)
    for at in (0, 7, 16):
        span = slice(at, at + 64)
        found, wild = _words(left, right, at, low, high)
        assert wild == bool(np.any(np.isinf(right[span])))
        between = (left >= low) & (left <= high)
        expected = (between, left > right, left < right, np.isinf(left))
        for row, flags in zip(found, expected, strict=True):
            assert list(row) == [0, pack(flags[span])[0], 0]
