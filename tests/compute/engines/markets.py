"""Hypothesis strategies for what an engine meets: closes, runs of signals, terms, stop levels."""

from __future__ import annotations

import hashlib
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


@st.composite
def closes(draw: st.DrawFn, bars: int, wildness: int | None = None) -> list[float]:
    """Float32 closes as float64, from tiny to large; up to every step of `STEPS` may be drawn."""
    wild = draw(st.sampled_from([4, 8, 10, len(STEPS)])) if wildness is None else wildness
    price = draw(st.sampled_from([1e-7, 3e-4, 1.0, 97.31, 64_000.0]))
    walk = []
    for step in draw(st.lists(st.integers(0, wild - 1), min_size=bars, max_size=bars)):
        price = min(max(price * STEPS[step], 1e-9), 1e9)
        walk.append(float(np.float32(price)))
    return walk


@st.composite
def signals(draw: st.DrawFn, bars: int) -> list[int]:
    """Codes in runs of random length, reversals included."""
    codes: list[int] = []
    while len(codes) < bars:
        code = draw(st.sampled_from([1, -1, 0]))
        codes += [code] * draw(st.sampled_from([1, 1, 2, 3, 5, 9, 40, 64, 70, 130]))
    return codes[:bars]


@st.composite
def slices(draw: st.DrawFn, bars: int) -> tuple[int, int]:
    """(start, stop), mostly the whole or nearly so."""
    start = draw(st.one_of(st.just(0), st.integers(0, min(70, bars))))
    stop = draw(st.one_of(st.just(bars), st.integers(start, bars)))
    return start, stop


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
    bars = draw(st.integers(1, MOST_BARS))
    indicators: list[list[list[int]]] = []
    for _ in range(draw(st.integers(1, 3))):
        row = draw(signals(bars))
        rows = [row]
        for _ in range(draw(st.integers(0, 3))):
            row = list(row)
            for _ in range(draw(st.integers(0, 3))):
                at = draw(st.integers(0, bars - 1))
                width = draw(st.sampled_from([1, 2, 7, 66]))
                vote = draw(st.sampled_from([1, -1, 0, BOTH]))
                row[at : at + width] = [vote] * len(row[at : at + width])
            rows.append(row)
        indicators.append(rows)
    chosen = st.tuples(*(st.integers(0, len(rows) - 1) for rows in indicators))
    variants = draw(st.lists(chosen, min_size=1, max_size=most_variants))
    start, stop = draw(slices(bars))
    return Market(
        draw(closes(bars)),
        indicators,
        variants,
        draw(terms(sizing_mode)),
        start,
        stop,
        order=draw(st.permutations(range(len(variants)))),
        key=tie_breaking_key,
    )
