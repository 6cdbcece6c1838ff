"""Tags: 64-bit fingerprints by which variants with equal votes, or equal trades, are recognised.

A tag is a sum of strongly mixed terms, one a word or one a trade, so that what variants share need
not be summed again. Two of five million different variants share one with odds of a millionth.
"""

from __future__ import annotations

import numpy as np

from compute.account import entry_fill
from compute.exact import extract_runs, walk_exit
from compute.jit import kernel
from compute.products import and_others
from compute.stops import real_levels

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
def trade_tag(entry, up, bar):
    """Term of one trade: entry bar, side, exit bar."""
    return mixed(np.uint64(entry) * np.uint64(2) + np.uint64(up), np.uint64(bar))


@kernel
def touch_tags(
    close, calm, entry, exit_, side, runs, slippage, sl, tp, real_sl, real_tp, by_sl, by_tp, by_end
):
    """Adds each run's terms to the cells from which on they hold: `touch_factors` with sums.

    The walk stands twice because neither loop bears a call: see there.
    """
    for r in range(runs):
        sign = np.float64(side[r])
        up = side[r] > 0
        fill = close[entry[r]] * (1.0 + sign * slippage)
        i = 0
        j = 0
        stop = fill * (1.0 - sign * sl[0])
        target = fill * (1.0 + sign * tp[0])
        for t in range(calm[0 if up else 1, entry[r]], exit_[r] + 1):
            c = close[t]
            if min(stop, target) < c < max(stop, target):
                continue
            term = trade_tag(entry[r], up, t)
            while i < real_sl and (c - stop) * sign <= 0.0:
                by_sl[i, j] += term
                i += 1
                stop = fill * (1.0 - sign * (sl[i] if i < real_sl else np.inf))
            while j < real_tp and (c - target) * sign >= 0.0:
                by_tp[i, j] += term
                j += 1
                target = fill * (1.0 + sign * (tp[j] if j < real_tp else np.inf))
            if i == real_sl and j == real_tp:
                break
        by_end[i, j] += trade_tag(entry[r], up, exit_[r])


@kernel
def pair_tags(
    planes, lid, sid, conflict, close, calm, terms, levels, walk, by_sl, by_tp, by_end, trades, tags
):
    """Fills tags u8[n, P] of the trades of n base variants under all pairs; trades i4[n, P].

    The `by_…` u8[S + 1, T + 1] are scratch. An account that was ruined traded the first runs only.
    """
    sl, tp, pair = levels.sl, levels.tp, levels.pair
    rows, columns = pair.shape
    real_sl = real_levels(sl)
    real_tp = real_levels(tp)
    for v in range(tags.shape[0]):
        and_others(planes, lid, sid, conflict, v, -1, terms.direction, walk.rest)
        runs, _ = extract_runs(
            walk.rest[0], walk.rest[1], close.size, walk.entry, walk.exit, walk.side
        )
        by_sl[:] = np.uint64(0)
        by_tp[:] = np.uint64(0)
        by_end[:] = np.uint64(0)
        touch_tags(
            close, calm, walk.entry, walk.exit, walk.side, runs, terms.slippage, sl, tp,
            real_sl, real_tp, by_sl, by_tp, by_end,
        )  # fmt: skip
        for i in range(rows):
            for j in range(columns):
                if j > 0:
                    by_sl[i, j] += by_sl[i, j - 1]
                    by_end[i, j] += by_end[i, j - 1]
                if i > 0:
                    by_tp[i, j] += by_tp[i - 1, j]
        for i in range(rows):
            for j in range(columns):
                if i > 0:
                    by_end[i, j] += by_end[i - 1, j]
                p = pair[i, j]
                tag = by_sl[i, j] + by_tp[i, j] + by_end[i, j]
                if trades[v, p] < runs:
                    tag = first_trades(
                        close, walk.entry, walk.exit, walk.side, trades[v, p], terms.slippage,
                        sl[i], tp[j],
                    )  # fmt: skip
                tags[v, p] = tag


@kernel
def first_trades(close, entry, exit_, side, count, slippage, sl, tp):
    """Tag of the first `count` runs under one pair of stops."""
    tag = np.uint64(0)
    for r in range(count):
        fill = entry_fill(close[entry[r]], side[r], slippage)
        bar, _ = walk_exit(close, entry[r] + 1, np.int64(exit_[r]), side[r], fill, sl, tp)
        tag += trade_tag(entry[r], side[r] > 0, bar)
    return tag
