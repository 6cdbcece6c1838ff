"""The probe beside every table: what the machine could do if voting bits were all there is.

AND of two indicators' planes, edges, population count: the least any engine over packed votes has
to do for one variant. It tells a slow machine from a slow engine.
"""

from __future__ import annotations

from concurrent.futures import Executor

import numpy as np
from numpy.typing import NDArray

from compute.bits import popcount
from compute.jit import kernel

_ONE = np.uint64(1)
_LAST = np.uint64(63)


@kernel
def _starts(long_a, long_b, short_a, short_b):
    """Runs that start where two votes agree."""
    total = 0
    for w in range(1, long_a.size):
        long = long_a[w] & long_b[w]
        short = short_a[w] & short_b[w]
        before_long = (long << _ONE) | ((long_a[w - 1] & long_b[w - 1]) >> _LAST)
        before_short = (short << _ONE) | ((short_a[w - 1] & short_b[w - 1]) >> _LAST)
        total += popcount((long & ~before_long) | (short & ~before_short))
    return total


@kernel
def entries(long, short, counts):
    """Fills counts i8[n, n]: runs that start where rows i and j of planes u8[n, W] agree."""
    rows = long.shape[0]
    for i in range(rows):
        for j in range(rows):
            counts[i, j] = _starts(long[i], long[j], short[i], short[j])


def probe(pool: Executor, threads: int, words: int, *, rows: int = 16) -> int:
    """Variants counted: `rows`² a thread, over planes of `words` words."""
    planes = _planes(rows, words)
    done = [pool.submit(entries, *planes, np.empty((rows, rows), np.int64)) for _ in range(threads)]
    for future in done:
        future.result()
    return threads * rows * rows


_made: dict[tuple[int, int], tuple[NDArray[np.uint64], NDArray[np.uint64]]] = {}


def _planes(rows: int, words: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    if (rows, words) not in _made:
        random = np.random.default_rng(7)
        long = random.integers(0, 1 << 63, (rows, words), np.uint64)
        short = ~long
        for table in (long, short):
            table.flags.writeable = False
        _made[rows, words] = long, short
    return _made[rows, words]
