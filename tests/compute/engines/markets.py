"""Hypothesis strategies for what an engine meets: closes, runs of signals, terms, stop levels."""

from __future__ import annotations

import hashlib
from random import Random
from typing import Any

import numpy as np
from hypothesis import strategies as st

from compute.reference.engine import SIZINGS
from compute.reference.search import RiskPair
from tests.compute.engines.fast import BOTH, Market

MOST_BARS = 192
# Steps of a close: quiet ones, none at all, and moves that ruin a short at once.
STEPS = (1.0, 1.0, 1.001, 0.999, 1.01, 0.99, 1.05, 0.95, 1.3, 0.75, 2.6, 0.35, 40.0, 0.02)
LEVELS = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0, 20.0, 100.0, 300.0)


def walk(random: Random, bars: int, wildness: int) -> list[float]:
    """Float32 closes as float64, from tiny to large, by the first `wildness` of `STEPS`."""
    price = random.choice([1e-7, 3e-4, 1.0, 97.31, 64_000.0])
    prices = []
    for _ in range(bars):
        price = min(max(price * random.choice(STEPS[:wildness]), 1e-9), 1e9)
        prices.append(float(np.float32(price)))
    return prices


def vote(random: Random, bars: int, lengths: tuple[int, ...]) -> list[int]:
    """Codes in runs of random length, reversals included."""
    codes: list[int] = []
    while len(codes) < bars:
        codes += [random.choice([1, -1, 1, -1, 0])] * random.choice(lengths)
    return codes[:bars]


# A seed drawn by hypothesis stands for a whole series: drawing every bar would run into its limits
# on the size of an example, and large examples would be the ones left out.
SEEDS = st.integers(0, 2**32 - 1).map(Random)
LENGTHS = st.sampled_from([(1, 1, 2, 3), (1, 2, 5, 9, 17), (1, 5, 40, 64, 70, 130)])


@st.composite
def closes(draw: st.DrawFn, bars: int) -> list[float]:
    """Closes of a calm or a wild market."""
    return walk(draw(SEEDS), bars, draw(st.sampled_from([4, 10, len(STEPS), len(STEPS)])))


@st.composite
def signals(draw: st.DrawFn, bars: int) -> list[int]:
    """A signal vector of short, mixed or long runs."""
    return vote(draw(SEEDS), bars, draw(LENGTHS))


def lengths_of_history() -> st.SearchStrategy[int]:
    """Numbers of loaded bars, the edges of words among them."""
    edges = st.sampled_from([63, 64, 65, 127, 128, 129, MOST_BARS])
    return st.one_of(st.integers(1, MOST_BARS), edges)


@st.composite
def slices(draw: st.DrawFn, bars: int) -> tuple[int, int]:
    """(start, stop), mostly the whole or nearly so."""
    if not draw(st.sampled_from([True, False, False])):
        return 0, bars
    start = draw(st.integers(0, min(70, bars)))
    return start, draw(st.one_of(st.just(bars), st.integers(start, bars)))


@st.composite
def terms(draw: st.DrawFn, sizing_mode: str | None = None) -> dict[str, Any]:
    """Account terms, with and without costs."""
    free = draw(st.booleans())
    return {
        "direction_mode": draw(st.sampled_from(["long-short", "long-only", "short-only"])),
        "sizing_mode": sizing_mode or draw(st.sampled_from(SIZINGS)),
        "init_cash_quote": draw(st.sampled_from([1.0, 1000.0, 12_345.67])),
        "fee_pct": 0.0 if free else draw(st.sampled_from([0.075, 0.1, 1.5])),
        "slippage_pct": 0.0 if free else draw(st.sampled_from([0.0, 0.01, 0.5])),
        "fixed_quote": draw(st.sampled_from([0.3, 100.0, 900.0, 5000.0])),
        "safe_profit_percent": draw(st.sampled_from([0.0, 30.0, 100.0])),
    }


def level() -> st.SearchStrategy[float | None]:
    """A stop level in percent, or none."""
    return st.one_of(st.none(), st.sampled_from(LEVELS))


def axis() -> st.SearchStrategy[tuple[float | None, ...]]:
    """A risk axis: off, or some levels in any order."""
    some = st.lists(st.sampled_from(LEVELS), min_size=1, max_size=5, unique=True).map(tuple)
    return st.one_of(st.just((None,)), some)


def tie_breaking_key(base: int, pair: RiskPair) -> str:
    """An identity whose order has nothing to do with the index."""
    return hashlib.sha256(f"{base}|{pair}".encode()).hexdigest()


@st.composite
def markets(draw: st.DrawFn, sizing_mode: str | None = None, most_variants: int = 12) -> Market:
    """A market of one to three indicators whose rows differ a little from one to the next."""
    bars = draw(lengths_of_history())
    random = draw(SEEDS)
    indicators = []
    for _ in range(draw(st.sampled_from([1, 1, 2, 3]))):
        rows = [vote(random, bars, draw(LENGTHS))]
        for _ in range(random.randrange(4)):
            rows.append(neighbour(random, rows[-1]))
        indicators.append(rows)
    variants = [
        tuple(random.randrange(len(rows)) for rows in indicators)
        for _ in range(draw(st.integers(1, most_variants)))
    ]
    order = list(range(len(variants)))
    random.shuffle(order)
    start, stop = draw(slices(bars))
    return Market(
        draw(closes(bars)),
        indicators,
        variants,
        draw(terms(sizing_mode)),
        start,
        stop,
        order=order,
        key=tie_breaking_key,
    )


def neighbour(random: Random, row: list[int]) -> list[int]:
    """`row` with up to three stretches overwritten, conflicting votes among them."""
    row = list(row)
    for _ in range(random.randrange(4)):
        at, width = random.randrange(len(row)), random.choice([1, 2, 7, 66])
        row[at : at + width] = [random.choice([1, -1, 0, BOTH])] * len(row[at : at + width])
    return row
