"""Tags: 64-bit fingerprints by which variants with equal votes, or equal trades, are recognised.

A tag is a sum of strongly mixed terms, one a word or one a trade, so that what variants share need
not be summed again. Two of five million different variants share one with odds of a millionth.
"""

from __future__ import annotations

import numpy as np

from compute.exact import extract_runs, run_extremes
from compute.falls import first_touches
from compute.jit import kernel
from compute.products import and_others

_A = np.uint64(0x9E3779B97F4A7C15)
_B = np.uint64(0xBF58476D1CE4E5B9)
_C = np.uint64(0x94D049BB133111EB)
_27 = np.uint64(27)
_30 = np.uint64(30)
_31 = np.uint64(31)


@kernel
def mixed(a, b):
    """A 64-bit hash of two words (the finaliser of SplitMix64, Steele et al. 2014)."""
    z = (a + _A) * _B + b
    z = (z ^ (z >> _30)) * _B
    z = (z ^ (z >> _27)) * _C
    z = z + b * _A
    z = (z ^ (z >> _30)) * _B
    z = (z ^ (z >> _27)) * _C
    return z ^ (z >> _31)


@kernel
def vote_tags(planes, lid, sid, conflict, direction, walk, tags):
    """Fills tags u8[n] of the aggregated votes of n variants."""
    for i in range(tags.size):
        and_others(planes, lid, sid, conflict, i, -1, direction, walk.rest)
        tag = np.uint64(0)
        for w in range(walk.rest.shape[1]):
            lw = walk.rest[0, w]
            sw = walk.rest[1, w]
            if (lw | sw) != 0:
                tag += mixed(lw ^ (np.uint64(w) * _C), sw)
        tags[i] = tag


@kernel
def trade_tag(entry, exit_, side, r, bar):
    """Term of one trade: entry and exit bar, side."""
    return mixed(np.uint64(entry[r]) * np.uint64(2) + np.uint64(side[r] > 0), np.uint64(bar))


@kernel
def pair_tags(planes, lid, sid, conflict, close, terms, levels, walk, touched, trades, tags):
    """Fills tags u8[n, P] of the trades of n base variants under all pairs; trades i4[n, P].

    An account that was ruined traded the first `trades` runs only.
    """
    sl, tp, pair = levels.sl, levels.tp, levels.pair
    for v in range(tags.shape[0]):
        and_others(planes, lid, sid, conflict, v, -1, terms.direction, walk.rest)
        runs, _ = extract_runs(
            walk.rest[0], walk.rest[1], close.size, walk.entry, walk.exit, walk.side
        )
        run_extremes(close, walk.entry, walk.exit, runs, walk.low, walk.high)
        first_touches(
            close, walk.entry, walk.exit, walk.side, walk.low, walk.high, runs, terms.slippage,
            sl, tp, touched.sl, touched.tp,
        )  # fmt: skip
        for i in range(sl.size):
            for j in range(tp.size):
                p = pair[i, j]
                tag = np.uint64(0)
                for r in range(trades[v, p]):
                    bar = min(walk.exit[r], min(touched.sl[r, i], touched.tp[r, j]))
                    tag += trade_tag(walk.entry, walk.exit, walk.side, r, bar)
                tags[v, p] = tag
