"""Kernels of the search: which thread scores which variant, and where the scores go.

Arrays travel in tuples, inputs and outputs apart: the simulator hands plain arrays of a tuple
through to the compiled bodies, and a launch stays readable. `sums` of outputs are in the units of
the bodies, money won in row 0 and lost in row 1.
"""

from __future__ import annotations

from typing import Any

from numba import cuda as numba_cuda

from compute.cuda.bodies import base_columns, base_fixed, base_product, pair_score

cuda: Any = numba_cuda  # its types are those of its stubs


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
def pair_kernel(inputs, terms, outputs):
    """Stage B of every account: a thread a pair of stops, so that a warp walks one run together."""
    planes, lid, sid, conflict, close, calm, sl, tp = inputs
    equity, trades, wins, sums = outputs
    n = cuda.grid(1)
    if n < equity.size:
        i, p = n // sl.size, n % sl.size
        total, trades[n], wins[n], sums[0, n], sums[1, n] = pair_score(
            planes, lid, sid, conflict, i, close, calm, terms, sl[p], tp[p]
        )
        equity[n] = total / terms.init_cash
