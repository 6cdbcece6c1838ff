"""Kernels of the search: which thread scores which variant, or makes which votes; what goes where.

Arrays travel in tuples, inputs and outputs apart: the simulator hands plain arrays of a tuple
through to the compiled bodies, and a launch stays readable. `sums` of outputs are in the units of
the bodies, money won in row 0 and lost in row 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda as numba_cuda

from compute.cuda.bodies import all_pairs, base_columns, base_fixed, base_product, pair_score
from compute.packing import inside_word, moved_word
from compute.rules import BETWEEN, RISING

cuda: Any = numba_cuda  # its types are those of its stubs
_RUNS = 65  # that end in one word: 64, and one that is closed on the last bar


@cuda.jit
def product_kernel(inputs, terms, outputs):
    """Stage A of compounding accounts, return and trades alone: a thread a variant."""
    planes, lid, sid, conflict, close, table = inputs
    equity, trades, doubts = outputs
    i = cuda.grid(1)
    if i < equity.size:
        equity[i], trades[i], doubts[i] = base_product(
            planes, lid, sid, conflict, i, close, terms, table
        )


@cuda.jit
def columns_kernel(inputs, terms, outputs):
    """Stage A of compounding accounts with wins and profits."""
    planes, lid, sid, conflict, close, table = inputs
    equity, trades, doubts, wins, sums = outputs
    i = cuda.grid(1)
    if i < equity.size:
        equity[i], trades[i], doubts[i], wins[i], sums[0, i], sums[1, i] = base_columns(
            planes, lid, sid, conflict, i, close, terms, table
        )


@cuda.jit
def fixed_kernel(inputs, terms, outputs):
    """Stage A of accounts that put a fixed amount into each trade."""
    planes, lid, sid, conflict, close, table = inputs
    equity, trades, doubts, wins, sums = outputs
    i = cuda.grid(1)
    if i < equity.size:
        equity[i], trades[i], doubts[i], wins[i], sums[0, i], sums[1, i] = base_fixed(
            planes, lid, sid, conflict, i, close, terms, table
        )


@cuda.jit
def pairs_kernel(inputs, terms, outputs):
    """Stage B of compounding accounts: a thread a variant, whose runs serve all pairs at once."""
    planes, lid, sid, conflict, close, table, calm, sl, tp, pair = inputs
    equity, trades, doubts, by_sl, by_tp, by_end, growth = outputs
    i = cuda.grid(1)
    if i < doubts.size:
        entry = cuda.local.array(_RUNS, np.int32)
        exit_ = cuda.local.array(_RUNS, np.int32)
        side = cuda.local.array(_RUNS, np.int8)
        count, doubts[i] = all_pairs(
            planes, lid, sid, conflict, i, close, calm, terms, table, sl, tp, entry, exit_, side,
            by_sl[i], by_tp[i], by_end[i], growth[i],
        )  # fmt: skip
        for s in range(sl.size):
            for t in range(tp.size):
                equity[i, pair[s, t]] = growth[i, s, t]
                trades[i, pair[s, t]] = count


@cuda.jit
def pair_kernel(inputs, terms, outputs):
    """Stage B of other accounts: a thread a pair of stops; a warp walks one run together."""
    planes, lid, sid, conflict, close, calm, sl, tp = inputs
    equity, trades, wins, sums = outputs
    n = cuda.grid(1)
    if n < equity.size:
        i, p = n // sl.size, n % sl.size
        total, trades[n], wins[n], sums[0, n], sums[1, n] = pair_score(
            planes, lid, sid, conflict, i, close, calm, terms, sl[p], tp[p]
        )
        equity[n] = total / terms.init_cash


@cuda.jit
def votes_kernel(inputs, start, outputs):
    """Words of votes from column `start` of indicator rows on: a thread a word of one comparison.

    Lanes of a warp make several comparisons of the same bars, which are read once for all.
    """
    rows, forms, low, high, lags = inputs
    (votes,) = outputs
    n = cuda.grid(1)
    if n < votes.size:
        k = n % forms.size
        w = n // forms.size % votes.shape[2]
        r = n // forms.size // votes.shape[2]
        begin = start + 64 * w
        count = min(64, rows.shape[1] - begin)
        if forms[k] == BETWEEN:
            votes[k, r, w] = inside_word(rows[r], begin, count, low[k], high[k])
        else:
            votes[k, r, w] = moved_word(rows[r], forms[k] == RISING, lags[k], begin, count)
