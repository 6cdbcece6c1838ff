"""The timeline against a plain minute-by-minute roll-up that shares nothing with it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from compute.errors import NoMarketData
from compute.market.candles import Candles
from compute.market.instrument import Instrument
from compute.market.period import Period
from compute.market.timeframe import TIMEFRAMES
from compute.market.timeline import dense, timeline

Row = tuple[int, float, float, float, float, float]


@dataclass
class Naive:
    load: tuple[int, int]
    present: dict[int, Row]
    bars: list[Row]
    synthetic: int
    start: int
    stop: int


def naive_timeline(
    rows: list[Row], frame: int, tf: int, start: int, end: int, warmup: int
) -> Naive | None:
    load_start = math.floor((start - warmup * tf) / frame) * frame
    load_end = math.ceil(end / frame) * frame
    winner: dict[int, Row] = {}
    for row in rows:
        if load_start <= row[0] < load_end and row[0] % frame == 0:
            winner[row[0]] = row
    present = {t: row for t, row in winner.items() if math.isfinite(row[4])}
    if not any(t + frame > start for t in present):
        return None
    bars: list[Row] = []
    synthetic = 0
    opening = math.floor(load_start / tf) * tf
    while opening + tf < load_end:
        inside = [present[t] for t in range(opening, opening + tf, frame) if t in present]
        made: Row | None = None
        if inside:
            highs = [row[2] for row in inside]
            lows = [row[3] for row in inside]
            volume = math.fsum(row[5] for row in inside)
            nan = any(math.isnan(x) for x in highs + lows)
            values = (inside[0][1], max(highs), min(lows), inside[-1][4], volume)
            if not nan and all(math.isfinite(x) for x in values):
                made = (opening, *values)
        if made is None and bars:
            last = bars[-1][4]
            made = (opening, last, last, last, last, 0.0)
            synthetic += 1
        if made is not None:
            bars.append(made)
        opening += tf
    if not bars:
        return None
    closes = [bar[0] + tf for bar in bars]
    first = sum(1 for close in closes if close < start)
    return Naive(
        load=(load_start, load_end),
        present=present,
        bars=bars,
        synthetic=synthetic,
        start=first,
        stop=first + sum(1 for close in closes if start <= close < end),
    )


PAIRS = [
    (frame, tf)
    for frame in TIMEFRAMES
    for tf in TIMEFRAMES
    if 1 <= TIMEFRAMES[tf].ms // TIMEFRAMES[frame].ms <= 60
]


@dataclass
class Case:
    rows: list[Row]
    frame: str
    tf: str
    start: int
    end: int
    warmup: int


def random_row(random: Random, time: int, broken: float) -> Row:
    # Quarters and small integers: float32 and sums are exact, so equality is exact.
    values = [random.randint(4, 400) / 4 for _ in range(5)]
    if random.random() < broken:
        values[random.randrange(5)] = math.nan
    if random.random() < broken:
        values[random.choice([0, 1, 4])] = math.inf
    return time, values[0], values[1], values[2], values[3], values[4]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Candles of random density around a random period; hypothesis would leave slots empty."""
    frame_code, tf_code = draw(st.sampled_from(PAIRS))
    frame, tf = TIMEFRAMES[frame_code].ms, TIMEFRAMES[tf_code].ms
    warmup = draw(st.integers(1, 4))
    density = draw(st.sampled_from([0.02, 0.2, 0.7, 1.0]))
    broken = draw(st.sampled_from([0.0, 0.0, 0.02, 0.3]))
    odd = draw(st.sampled_from([0.0, 0.0, 0.1]))
    shuffled = draw(st.booleans())
    random = Random(draw(st.integers(0, 2**32 - 1)))
    unit = random.choice([tf, frame, 1_000, 1])
    origin = random.choice([0, 1_767_225_600_000])
    start = origin + random.randint(-tf, 2 * tf) // unit * unit
    end = start + max(1, random.randint(1, 5 * tf) // unit * unit)

    first, last = start - (warmup + 1) * tf, end + tf
    if random.random() < 0.3:
        first, last = sorted(random.randint(first, last) for _ in range(2))
    rows: list[Row] = []
    for time in range(first // frame * frame, last, frame):
        if random.random() < density:
            rows.append(random_row(random, time, broken))
        if random.random() < odd:
            rows.append(random_row(random, time, broken))
            rows.append(random_row(random, time + random.choice([1, frame // 2]), broken))
    if shuffled:
        random.shuffle(rows)
    return Case(rows, frame_code, tf_code, start, end, warmup)


@settings(max_examples=300, deadline=None)
@given(cases())
def test_timeline_equals_the_naive_roll_up(case: Case) -> None:
    rows, warmup = case.rows, case.warmup
    frame, tf = TIMEFRAMES[case.frame], TIMEFRAMES[case.tf]
    values = np.array([row[1:] for row in rows], np.float32).reshape(-1, 5)
    candles = Candles(
        np.array([row[0] for row in rows], np.int64), *(values[:, k] for k in range(5))
    )
    expected = naive_timeline(rows, frame.ms, tf.ms, case.start, case.end, warmup)
    try:
        period = Period(case.start, case.end)
        line = timeline(candles, frame, Instrument(1, "X"), tf, period, warmup)
    except NoMarketData:
        assert expected is None
        return
    assert expected is not None
    assert (line.load.start_ms, line.load.end_ms) == expected.load
    assert line.candles.ts_open_ms.tolist() == [bar[0] for bar in expected.bars]
    assert np.column_stack(line.candles.series()).tolist() == [list(b[1:]) for b in expected.bars]
    assert (line.start, line.stop) == (expected.start, expected.stop)
    assert line.synthetic == expected.synthetic
    assert line.rows == len(expected.present)
    assert line.missing == (expected.load[1] - expected.load[0]) // frame.ms - line.rows
    assert (line.first_ms, line.last_ms) == (min(expected.present), max(expected.present))

    slots = dense(candles, frame, line.load)
    assert len(slots) == line.rows + line.missing
    assert np.flatnonzero(np.isfinite(slots.close)).tolist() == sorted(
        (t - line.load.start_ms) // frame.ms for t in expected.present
    )
