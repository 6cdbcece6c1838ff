from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute.bits import between_word, ctz, greater_word, pack, popcount, tail_mask, unpack, words


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


def test_tail_mask_covers_the_bars_of_the_last_word():
    assert int(tail_mask(1)) == 1
    assert int(tail_mask(67)) == 0b111
    assert int(tail_mask(64)) == 2**64 - 1


@given(st.integers(0, 2**64 - 1))
def test_counts_of_a_word(word):
    text = f"{word:064b}"
    assert popcount(np.uint64(word)) == text.count("1")
    assert ctz(np.uint64(word)) == len(text) - len(text.rstrip("0"))


def test_comparisons_of_a_word_leave_out_what_is_not_finite():
    rng = np.random.default_rng(3)
    left, right = rng.integers(-3, 4, (2, 80)).astype(np.float32)
    left[[5, 20, 30]] = [np.nan, np.inf, -np.inf]
    right[[6, 21, 31, 20]] = [np.nan, np.inf, -np.inf, np.inf]
    finite = np.isfinite(left) & np.isfinite(right)
    bounds = np.float32(-1), np.float32(2)
    for at in (0, 7, 16):
        span = slice(at, at + 64)
        inside = (left >= bounds[0]) & (left <= bounds[1])
        assert between_word(left, at, *bounds) == pack(inside[span])[0]
        assert greater_word(left, at, right, at) == pack(((left > right) & finite)[span])[0]
