"""Fast scores of base variants whose account is a product: words of neighbours are reused.

All-in accounts compound (all_in, strategy_compound); the profit lock compounds with a skim. See
`compute.words` for the monoid and for why the walk does not show in the result.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from compute.account import LONG_ONLY, PROFIT_LOCK, SHORT_ONLY, factor_table
from compute.exact import EQUITY, LOST, OFF, SCORES, TRADES, WINS, WON, account_runs, extract_runs
from compute.jit import kernel
from compute.words import last_close, word_columns, word_product

_LAST = np.uint64(63)
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
# Below this growth float64 loses digits to underflow; the exact engine decides.
TINY = 1e-200


class Walk(NamedTuple):
    """Memory of a walk over neighbouring variants: what the last one's words were and gave."""

    last: NDArray[np.int32]  # [2, K] plane ids of the last variant
    memo: NDArray[np.int64]  # [0] a variant was walked, [1] indicator that `rest` leaves out
    rest: NDArray[np.uint64]  # [2, W] AND of the other indicators' votes
    votes: NDArray[np.uint64]  # [2, W] aggregated votes
    carries: NDArray[np.int32]  # [W + 1] position carried into each word
    growths: NDArray[np.float64]  # [W]
    counts: NDArray[np.int32]  # [W]
    doubts: NDArray[np.uint8]  # [W]
    sums: NDArray[np.float64]  # [2, W] profits won, lost per unit entering the word
    wins: NDArray[np.int32]  # [W]
    entry: NDArray[np.int32]  # [bars + 1] runs of a variant that the exact engine scores
    exit: NDArray[np.int32]
    side: NDArray[np.int8]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def walk_memory(indicators: int, words: int, bars: int) -> Walk:
    """A fresh `Walk`: about 60 bytes a word and 25 a bar."""
    return Walk(
        np.zeros((2, indicators), np.int32),
        np.array([0, -1], np.int64),
        np.zeros((2, words), np.uint64),
        np.zeros((2, words), np.uint64),
        np.zeros(words + 1, np.int32),
        np.ones(words),
        np.zeros(words, np.int32),
        np.zeros(words, np.uint8),
        np.zeros((2, words)),
        np.zeros(words, np.int32),
        np.empty(bars + 1, np.int32),
        np.empty(bars + 1, np.int32),
        np.empty(bars + 1, np.int8),
        np.empty(bars + 1),
        np.empty(bars + 1),
    )


@kernel
def changed_indicator(lid, sid, i, last):
    """The one indicator whose votes differ from variant `last`'s; -1 none, -2 several."""
    varying = -1
    for k in range(lid.shape[1]):
        if lid[i, k] != last[0, k] or sid[i, k] != last[1, k]:
            if varying != -1:
                return -2
            varying = k
    return varying


@kernel
def and_others(planes, lid, sid, conflict, i, skip, direction, rest):
    """Fills `rest` u8[2, W]: the AND of all votes of variant i but those of indicator `skip`.

    A side that the direction mode forbids never opens a position and counts as no vote.
    """
    rest[0, :] = np.uint64(0) if direction == SHORT_ONLY else _ALL
    rest[1, :] = np.uint64(0) if direction == LONG_ONLY else _ALL
    for k in range(lid.shape[1]):
        if k == skip:
            continue
        long = planes[lid[i, k]]
        short = planes[sid[i, k]]
        both = conflict[k]
        for w in range(rest.shape[1]):
            clash = long[w] & short[w] & both
            rest[0, w] &= long[w] & ~clash
            rest[1, w] &= short[w] & ~clash


@kernel
def focus(planes, lid, sid, conflict, i, direction, walk):
    """The indicator to vary for variant i, -1 if i repeats the last.

    The votes of the others are ANDed in `walk.rest`.
    """
    varying = -2
    if walk.memo[0]:
        varying = changed_indicator(lid, sid, i, walk.last)
        if varying == -1:
            return -1
    if varying < 0:
        varying = max(walk.memo[1], 0)
        walk.memo[1] = -1
    if walk.memo[1] != varying:
        and_others(planes, lid, sid, conflict, i, varying, direction, walk.rest)
        walk.memo[1] = varying
    for k in range(lid.shape[1]):
        walk.last[0, k] = lid[i, k]
        walk.last[1, k] = sid[i, k]
    return varying


@kernel
def word_walk(
    long, short, rest, both, fresh, close, terms, keep,
    votes, carries, growths, counts, doubts, wons, losts, wins_of, sums,
):  # fmt: skip
    """(growth, exits, doubtful, carry out, wins, won, lost) of one variant, word after word.

    Plain arrays, no tuple of them: a member read inside the loop would count references.
    """
    table = factor_table(terms)
    last_top = np.uint64((close.size - 1) & 63)
    growth = 1.0
    won = 0.0
    lost = 0.0
    count = 0
    wins = 0
    carry = 0
    doubt = 0
    words = long.size
    for w in range(words):
        clash = long[w] & short[w] & both
        lw = rest[0, w] & long[w] & ~clash
        sw = rest[1, w] & short[w] & ~clash
        if fresh or lw != votes[0, w] or sw != votes[1, w] or carry != carries[w]:
            votes[0, w] = lw
            votes[1, w] = sw
            carries[w] = carry
            top = last_top if w == words - 1 else _LAST
            base = np.uint64(w << 6)
            if sums is not None:
                v = word_columns(lw, sw, carry, base, top, close, table, keep)
                wins_of[w] = v[4]
                wons[w] = v[5]
                losts[w] = v[6]
                growths[w] = v[0]
                counts[w] = v[1]
                doubts[w] = v[2]
                carry = v[3]
            else:
                s = word_product(lw, sw, carry, base, top, close, table)
                growths[w] = s[0]
                counts[w] = s[1]
                doubts[w] = s[2]
                carry = s[3]
        else:
            carry = carries[w + 1]
        if sums is not None:
            won += growth * wons[w]
            lost += growth * losts[w]
            wins += wins_of[w]
        growth *= growths[w]
        count += counts[w]
        doubt |= doubts[w]
    carries[words] = carry
    return growth, count, doubt != 0, carry, wins, won, lost


@kernel
def product_scores(
    planes, lid, sid, conflict, close, terms, start, stop, walk, equity, trades, wins, sums
):
    """Fills equity f8[n] (init cash = 1) and trades i4[n] of variants start..stop.

    With `sums` f8[2, n] (None: not wanted) also wins i4[n] and the profits won and lost, in units
    of initial cash.
    """
    bars = close.size
    keep = 1.0 - terms.safe_pct / 100.0 if terms.sizing == PROFIT_LOCK else 1.0
    out = np.empty(SCORES)
    for i in range(start, stop):
        fresh = walk.memo[0] == 0
        varying = focus(planes, lid, sid, conflict, i, terms.direction, walk)
        if varying < 0 and i > start:
            equity[i] = equity[i - 1]
            trades[i] = trades[i - 1]
            if sums is not None:
                wins[i] = wins[i - 1]
                sums[0, i] = sums[0, i - 1]
                sums[1, i] = sums[1, i - 1]
            continue
        varying = max(varying, walk.memo[1])
        walk.memo[0] = 1
        growth, count, doubtful, carry, won_count, won, lost = word_walk(
            planes[lid[i, varying]], planes[sid[i, varying]], walk.rest, conflict[varying], fresh,
            close, terms, keep, walk.votes, walk.carries, walk.growths, walk.counts, walk.doubts,
            walk.sums[0], walk.sums[1], walk.wins, sums,
        )  # fmt: skip
        growth, count, doubtful, won_count, won, lost = last_close(
            growth, count, doubtful, carry, won_count, won, lost, close, terms, keep,
            sums is not None,
        )  # fmt: skip
        if doubtful or growth < TINY:
            runs, unfinished = extract_runs(
                walk.votes[0], walk.votes[1], bars, walk.entry, walk.exit, walk.side
            )
            account_runs(
                close, walk.entry, walk.exit, walk.side, walk.low, walk.high, runs, unfinished,
                terms, OFF, OFF, False, None, None, None, None, out,
            )  # fmt: skip
            equity[i] = out[EQUITY] / terms.init_cash
            trades[i] = np.int64(out[TRADES])
            if sums is not None:
                wins[i] = np.int64(out[WINS])
                sums[0, i] = out[WON] / terms.init_cash
                sums[1, i] = out[LOST] / terms.init_cash
        else:
            equity[i] = growth
            trades[i] = count
            if sums is not None:
                equity[i] = growth + (1.0 - keep) * won
                wins[i] = won_count
                sums[0, i] = won
                sums[1, i] = lost
