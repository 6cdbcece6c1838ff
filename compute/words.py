"""Score monoid of one 64-bar word: what the trades that exit inside it do to one unit of equity.

A word's value is a pure function of its vote bits and of the position carried in, so a walk over
neighbouring variants evaluates only words that changed and combines all of them in bar order: the
score of a variant never depends on the walk, the span or the thread.

A carried position is an int: 0 none, e + 1 a long entered at slice bar e, -(e + 1) a short.
"""

from __future__ import annotations

import numpy as np

from compute.account import factors
from compute.bits import ctz, popcount
from compute.jit import inlined

# A factor is a difference of numbers near 1, known to 2e-16: below this it has lost too many digits
# for the guard band. Likewise a trade this close to break-even is won or lost by rounding alone.
# The exact engine then scores the variant.
NEAR = 1e-5
EVEN = 1e-12
_ZERO = np.uint64(0)
_ONE = np.uint64(1)
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_LAST = np.uint64(63)


@inlined
def word_events(lw, sw, carry, top):
    """(entry bits, exit bits) of one word whose last existing bar is bit `top`."""
    before_long = (lw << _ONE) | np.uint64(carry > 0)
    before_short = (sw << _ONE) | np.uint64(carry < 0)
    entries = (lw & ~before_long) | (sw & ~before_short)
    exits = (before_long & ~lw) | (before_short & ~sw)
    return entries, exits & (_ALL >> (_LAST - top))


@inlined
def first_entry(entries, sw, carry, base):
    """(entry bar, 0 long or 1 short, further entry bits) of the position that exits first."""
    if carry > 0:
        return np.uint64(carry - 1), _ZERO, entries
    if carry < 0:
        return np.uint64(-carry - 1), _ONE, entries
    bit = np.uint64(ctz(entries))
    return base + bit, (sw >> (bit & _LAST)) & _ONE, entries & (entries - _ONE)


@inlined
def carried(lw, sw, top, entered, d):
    """Position carried out of a word: `entered` and its side when bar `top` is still in a run."""
    bar = np.int64(entered) + 1
    if ((lw | sw) >> top) & _ONE:
        return -bar if d else bar
    return 0


@inlined
def word_product(lw, sw, carry, base, top, close, table):
    """(growth, exits, doubtful, carry out) of one word with the whole account in every trade.

    `table` is `compute.account.factor_table`, `top` the last existing bar.
    """
    entries, exits = word_events(lw, sw, carry, top)
    growth = 1.0
    least = 1.0
    entered, d, entries = first_entry(entries, sw, carry, base)
    count = popcount(exits)
    for _ in range(count):
        factor = table[d, 0] + table[d, 1] * (close[base + np.uint64(ctz(exits))] / close[entered])
        exits &= exits - _ONE
        growth *= factor
        least = min(least, factor)
        bit = np.uint64(ctz(entries))  # 64 without a further entry: read by nobody
        entries &= entries - _ONE
        entered = base + bit
        d = (sw >> (bit & _LAST)) & _ONE
    return growth, count, least <= NEAR, carried(lw, sw, top, entered, d)


@inlined
def word_columns(lw, sw, carry, base, top, close, table, keep):
    """(growth, exits, doubtful, carry out, wins, won, lost) of one word, sums per unit entering it.

    `keep` is the share of a profit that stays in the account (1 but for the profit lock).
    """
    entries, exits = word_events(lw, sw, carry, top)
    growth = 1.0
    doubtful = False
    wins = 0
    won = 0.0
    lost = 0.0
    entered, d, entries = first_entry(entries, sw, carry, base)
    count = popcount(exits)
    for _ in range(count):
        gain = (
            table[d, 0] + table[d, 1] * (close[base + np.uint64(ctz(exits))] / close[entered]) - 1.0
        )
        exits &= exits - _ONE
        doubtful |= gain <= NEAR - 1.0 or abs(gain) < EVEN
        profit = growth * max(gain, 0.0)
        loss = growth * min(gain, 0.0)
        won += profit
        lost -= loss
        wins += gain > 0.0
        growth += profit * keep + loss
        bit = np.uint64(ctz(entries))
        entries &= entries - _ONE
        entered = base + bit
        d = (sw >> (bit & _LAST)) & _ONE
    return growth, count, doubtful, carried(lw, sw, top, entered, d), wins, won, lost


@inlined
def word_fixed(
    lw, sw, carry, base, top, close, table, fixed, available, won, lost, wins
):  # fmt: skip
    """(exits, doubtful, carry out, available, won, lost, wins) after one word.

    A trade uses at most `fixed`. Sequential by nature: what a trade may use depends on all before
    it, so the account comes in and goes out (units of initial cash).
    """
    entries, exits = word_events(lw, sw, carry, top)
    entered, d, entries = first_entry(entries, sw, carry, base)
    count = popcount(exits)
    doubtful = False
    for _ in range(count):
        gain = (
            table[d, 0] + table[d, 1] * (close[base + np.uint64(ctz(exits))] / close[entered]) - 1.0
        )
        exits &= exits - _ONE
        net = min(available, fixed) * gain
        available += net
        won += max(net, 0.0)
        lost -= min(net, 0.0)
        wins += gain > 0.0
        doubtful |= available < NEAR or abs(gain) < EVEN
        bit = np.uint64(ctz(entries))
        entries &= entries - _ONE
        entered = base + bit
        d = (sw >> (bit & _LAST)) & _ONE
    return count, doubtful, carried(lw, sw, top, entered, d), available, won, lost, wins


@inlined
def last_close(growth, count, doubtful, carry, wins, won, lost, close, terms, keep, detailed):
    """(growth, exits, doubtful, wins, won, lost) after the forced close on the last bar.

    `detailed` asks for the sums too, see `word_columns`.
    """
    if carry != 0:
        a, b = factors(carry, terms)
        gain = a + b * (close[close.size - 1] / close[abs(carry) - 1]) - 1.0
        net = growth * gain
        count += 1
        doubtful |= gain <= NEAR - 1.0
        if detailed:
            doubtful |= abs(gain) < EVEN
            if net > 0.0:
                won += net
                wins += 1
                net *= keep
            else:
                lost -= net
        growth += net
    return growth, count, doubtful, wins, won, lost


@inlined
def last_fixed(count, doubtful, carry, available, won, lost, wins, close, terms, fixed):
    """(exits, doubtful, available, won, lost, wins) after the forced close, see `word_fixed`."""
    if carry != 0:
        a, b = factors(carry, terms)
        gain = a + b * (close[close.size - 1] / close[abs(carry) - 1]) - 1.0
        net = min(available, fixed) * gain
        available += net
        won += max(net, 0.0)
        lost -= min(net, 0.0)
        wins += gain > 0.0
        doubtful |= abs(gain) < EVEN or available < NEAR
        count += 1
    return count, doubtful, available, won, lost, wins
