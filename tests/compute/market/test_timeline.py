"""The worked examples and single rules of the candle timeline."""

from __future__ import annotations

import numpy as np
import pytest

from compute.errors import InvalidCandles, InvalidInput, NoMarketData
from compute.market.candles import Candles
from compute.market.instrument import Instrument
from compute.market.period import Period
from compute.market.timeframe import TIMEFRAMES
from compute.market.timeline import Timeline, dense, load_window, present, timeline

BTC = Instrument(1, "BTCUSDT")
M1, M5, M15, H1 = (TIMEFRAMES[code] for code in ("1m", "5m", "15m", "1h"))
NAN = float("nan")
INF = float("inf")

Row = tuple[float, float, float, float, float]


def at(clock: str, day: str = "2026-01-01") -> str:
    return f"{day}T{clock}Z"


def ms(clock: str, day: str = "2026-01-01") -> int:
    return Period.parse(at(clock, day), "9000-01-01T00:00:00Z").start_ms


def made(rows: list[tuple[int, Row]]) -> Candles:
    times = np.array([time for time, _ in rows], np.int64)
    values = np.array([row for _, row in rows], np.float32).reshape(-1, 5)
    return Candles(times, *(values[:, k] for k in range(5)))


def minutes(rows: dict[str, Row]) -> Candles:
    return made([(ms(clock), row) for clock, row in rows.items()])


def flat(first_ms: int, count: int, step_ms: int = 60_000) -> Candles:
    return made([(first_ms + k * step_ms, (1 + k, 1 + k, 1 + k, 1 + k, 1)) for k in range(count)])


def rows_of(line: Timeline) -> dict[str, Row]:
    clocks = [
        f"{ms_ // 3_600_000 % 24:02}:{ms_ // 60_000 % 60:02}" for ms_ in line.candles.ts_open_ms
    ]
    return dict(zip(clocks, np.column_stack(line.candles.series()).tolist(), strict=True))  # type: ignore[arg-type]


def test_load_window_is_floored_and_ceiled_to_minutes() -> None:
    period = Period.parse(at("10:07:30"), at("12:00:00.001"))
    assert load_window(period, M15, 4) == Period.parse(at("09:07:00"), at("12:01:00"))
    aligned = Period.parse(at("10:00:00"), at("12:00:00"))
    assert load_window(aligned, M15, 4) == Period.parse(at("09:00:00"), at("12:00:00"))


def test_load_window_of_native_candles_is_made_of_their_slots() -> None:
    period = Period.parse(at("10:07:30"), at("12:00:00.001"))
    assert load_window(period, M15, 4, M15) == Period.parse(at("09:00:00"), at("12:15:00"))


def test_worked_rollup_with_partial_first_bucket_carry_forward_and_unemitted_last() -> None:
    # Load window [00:02, 00:23) of 5m: warm-up of one bar before 00:07, end 00:23.
    candles = minutes(
        {
            "00:05:00": (10, 12, 9, 11, 1),
            "00:06:00": (11, 13, 10, 12, 2),
            "00:07:00": (12, 12, 12, 12, 1),
            "00:09:00": (13, 15, 11, 14, 3),
            "00:17:00": (20, 21, 19, 20, 5),
        }
    )
    period = Period.parse(at("00:07:00"), at("00:23:00"))
    line = timeline(candles, M1, BTC, M5, period, 1)
    assert line.load == Period.parse(at("00:02:00"), at("00:23:00"))
    assert rows_of(line) == {
        "00:05": [10, 15, 9, 14, 7],
        "00:10": [14, 14, 14, 14, 0],
        "00:15": [20, 21, 19, 20, 5],
    }
    assert (line.rows, line.missing, line.synthetic) == (5, 16, 1)
    assert (line.first_ms, line.last_ms) == (ms("00:05:00"), ms("00:17:00"))
    assert (line.start, line.stop) == (0, 3)
    assert line.first_bar == ms("00:05:00") // 300_000
    assert line.close_ts_ms.tolist() == [ms("00:10:00"), ms("00:15:00"), ms("00:20:00")]


def test_worked_target_slice_of_240_hours_after_49_of_warm_up() -> None:
    candles = flat(ms("00:00:00", "2025-12-25"), 20 * 24, H1.ms)
    period = Period.parse(at("00:00:00"), at("00:00:00", "2026-01-11"))
    line = timeline(candles, H1, BTC, H1, period, 50)
    assert len(line.candles) == 289
    assert (line.start, line.stop) == (49, 289)
    closes = line.close_ts_ms
    # The bar that closes exactly at the start is in, the one that closes at the end is out.
    assert closes[line.start] == period.start_ms
    assert closes[line.stop - 1] == period.end_ms - H1.ms


def test_first_bucket_uses_only_the_minutes_inside_the_window() -> None:
    candles = flat(ms("00:00:00"), 30)
    period = Period.parse(at("00:07:00"), at("00:20:00"))
    line = timeline(candles, M1, BTC, M5, period, 1)
    assert rows_of(line)["00:00"] == [3, 5, 3, 5, 3]


def test_minutes_of_1m_go_through_the_same_path() -> None:
    candles = minutes({"00:01:00": (1, 2, 1, 2, 3), "00:03:00": (5, 6, 5, 6, 7)})
    line = timeline(candles, M1, BTC, M1, Period.parse(at("00:01:00"), at("00:06:00")), 1)
    assert rows_of(line) == {
        "00:01": [1, 2, 1, 2, 3],
        "00:02": [2, 2, 2, 2, 0],
        "00:03": [5, 6, 5, 6, 7],
        "00:04": [6, 6, 6, 6, 0],
    }
    assert line.synthetic == 2


def test_short_history_shortens_the_warm_up_without_a_word() -> None:
    candles = flat(ms("00:10:00"), 60)
    line = timeline(candles, M1, BTC, M5, Period.parse(at("00:20:00"), at("01:00:00")), 100)
    assert line.candles.ts_open_ms[0] == ms("00:10:00")
    assert line.start == 1


def test_carry_forward_reaches_the_tail() -> None:
    candles = flat(ms("00:00:00"), 11)
    line = timeline(candles, M1, BTC, M5, Period.parse(at("00:10:00"), at("00:31:00")), 2)
    assert rows_of(line)["00:25"] == [11, 11, 11, 11, 0]
    assert line.synthetic == 3


def test_native_candles_use_slots_of_their_frame() -> None:
    candles = flat(ms("00:00:00"), 8, M15.ms)
    line = timeline(candles, M15, BTC, H1, Period.parse(at("01:00:00"), at("02:00:00.001")), 1)
    assert rows_of(line) == {"00:00": [1, 4, 1, 4, 4], "01:00": [5, 8, 5, 8, 4]}
    assert (line.rows, line.missing) == (8, 1)
    assert line.frame is M15


def test_the_last_of_equal_times_wins_whole_even_when_it_is_absent() -> None:
    candles = made(
        [
            (ms("00:02:00"), (9, 9, 9, 9, 9)),
            (ms("00:01:00"), (1, 1, 1, 1, 1)),
            (ms("00:02:00"), (5, 6, 4, 5, 2)),
            (ms("00:03:00"), (7, 7, 7, 7, 7)),
            (ms("00:03:00"), (7, 7, 7, NAN, 7)),
        ]
    )
    line = timeline(candles, M1, BTC, M1, Period.parse(at("00:01:00"), at("00:05:00")), 1)
    assert rows_of(line) == {
        "00:01": [1, 1, 1, 1, 1],
        "00:02": [5, 6, 4, 5, 2],
        "00:03": [5, 5, 5, 5, 0],
    }


def test_rows_off_the_grid_are_ignored() -> None:
    candles = made(
        [
            (ms("00:01:00"), (1, 1, 1, 1, 1)),
            (ms("00:02:00.001"), (9, 9, 9, 9, 9)),
            (ms("00:03:00"), (3, 3, 3, 3, 3)),
        ]
    )
    line = timeline(candles, M1, BTC, M1, Period.parse(at("00:01:00"), at("00:05:00")), 1)
    assert rows_of(line)["00:02"] == [1, 1, 1, 1, 0]
    assert line.rows == 2


@pytest.mark.parametrize(
    ("column", "bad"),
    [(0, NAN), (1, NAN), (2, NAN), (4, NAN), (0, INF), (1, INF), (2, -INF), (4, INF)],
)
def test_a_bucket_with_a_non_finite_result_is_empty(column: int, bad: float) -> None:
    broken = [5.0, 6.0, 4.0, 5.0, 1.0]
    broken[column] = bad
    rows = [(ms("00:00:00"), (1, 1, 1, 1, 1)), (ms("00:05:00"), tuple(broken))]
    rows += [(ms("00:06:00"), (7, 7, 3, 7, 1)), (ms("00:10:00"), (8, 8, 8, 8, 1))]
    line = timeline(made(rows), M1, BTC, M5, Period.parse(at("00:05:00"), at("00:16:00")), 1)  # type: ignore[arg-type]
    expected = [1, 1, 1, 1, 0]
    assert rows_of(line)["00:05"] == expected
    single = timeline(made(rows), M1, BTC, M1, Period.parse(at("00:05:00"), at("00:16:00")), 5)  # type: ignore[arg-type]
    assert rows_of(single)["00:05"] == expected


def test_volume_is_summed_in_float64() -> None:
    # In float32, 2**24 + 1 + 1 + 1 + 1 stays 2**24.
    volumes = [2.0**24, 1, 1, 1, 1]
    rows: list[tuple[int, Row]] = [
        (ms("00:00:00") + k * 60_000, (1, 1, 1, 1, v)) for k, v in enumerate(volumes)
    ]
    line = timeline(made(rows), M1, BTC, M5, Period.parse(at("00:04:00"), at("00:06:00")), 1)
    assert line.candles.volume[0] == 2**24 + 4


def test_a_volume_beyond_float32_is_refused() -> None:
    rows: list[tuple[int, Row]] = [
        (ms("00:00:00") + k * 60_000, (1, 1, 1, 1, 3e38)) for k in range(5)
    ]
    with pytest.raises(InvalidCandles, match="derived candles must not contain NaN in volume"):
        timeline(made(rows), M1, BTC, M5, Period.parse(at("00:04:00"), at("00:06:00")), 1)


def test_a_range_without_a_bar_close_gives_an_empty_slice() -> None:
    candles = flat(ms("00:00:00"), 300)
    line = timeline(candles, M1, BTC, H1, Period.parse(at("03:10:00"), at("03:50:00")), 2)
    assert line.start == line.stop == len(line.candles)
    assert len(line.candles) == 2


@pytest.mark.parametrize("warmup_bars", [0, -3])
def test_warmup_bars_must_be_positive(warmup_bars: int) -> None:
    with pytest.raises(InvalidInput, match=r"^warmup_bars must be > 0$"):
        load_window(Period(0, 1), M1, warmup_bars)


@pytest.mark.parametrize("warmup_bars", [True, 1.0, "4", None])
def test_warmup_bars_must_be_an_integer(warmup_bars: int) -> None:
    with pytest.raises(InvalidInput, match="warmup_bars must be an integer"):
        load_window(Period(0, 1), M1, warmup_bars)


def test_warm_up_before_the_calendar_is_refused() -> None:
    with pytest.raises(InvalidInput, match="reach before the year 1; lower it"):
        load_window(Period(0, 1), TIMEFRAMES["1d"], 10**15)


def test_a_frame_coarser_than_the_timeframe_is_refused_with_what_fits() -> None:
    candles = flat(0, 10, M15.ms)
    with pytest.raises(
        InvalidInput, match="candles of 15m cannot make bars of 5m; use timeframe 15m 1h 4h 1d or"
    ):
        timeline(candles, M15, BTC, M5, Period(M15.ms, 2 * M15.ms), 1)


@pytest.mark.parametrize("close", [0.0, -1.0, 1e-50])
def test_zero_or_negative_close_is_refused_with_its_time(close: float) -> None:
    rows: list[tuple[int, Row]] = [(ms("00:00:00") + k * 60_000, (1, 1, 1, 1, 1)) for k in range(9)]
    rows[2] = (rows[2][0], (1, 1, 1, close, 1))
    period = Period.parse(at("00:05:00"), at("00:08:00"))
    with pytest.raises(InvalidCandles, match=r"1 of 8 candles .* at 2026-01-01T00:02:00Z"):
        timeline(made(rows), M1, BTC, M1, period, 5)
    # Outside the load window nobody trades on it.
    assert timeline(made(rows), M1, BTC, M1, period, 2).rows == 5


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2025-06-01T00:00:00Z", "2025-06-02T00:00:00Z"),  # before the candles
        ("2026-01-01T05:00:00Z", "2026-01-02T00:00:00Z"),  # after them, warm-up inside
        ("2027-01-01T00:00:00Z", "2027-01-02T00:00:00Z"),  # long after them
        ("2026-01-01T02:00:00Z", "2026-01-01T03:00:00Z"),  # in the gap between them
    ],
)
def test_a_range_without_data_says_what_the_candles_cover(start: str, end: str) -> None:
    candles = flat(ms("00:00:00"), 300)
    candles = candles.take(np.r_[0:100, 200:300])
    with pytest.raises(NoMarketData) as refused:
        timeline(candles, M1, BTC, M5, Period.parse(start, end), 50)
    message = refused.value.message
    assert message.startswith(f"no market data for requested range [{start}, {end})")
    assert "200 candles of 1m" in message
    assert "cover [2026-01-01T00:00:00Z, 2026-01-01T05:00:00Z)" in message


def test_data_only_in_the_bucket_that_is_not_emitted_is_no_data() -> None:
    with pytest.raises(NoMarketData, match=r"^no market data for requested range"):
        timeline(
            minutes({"00:05:00": (1, 1, 1, 1, 1)}),
            M1,
            BTC,
            M5,
            Period.parse(at("00:05:00"), at("00:08:00")),
            1,
        )


def test_no_candles_at_all_is_no_data() -> None:
    with pytest.raises(NoMarketData, match=r"requested range .* there are no candles at all$"):
        timeline(made([]), M1, BTC, M5, Period(0, 600_000), 1)


def test_a_range_too_long_to_allocate_is_refused_before_it_is() -> None:
    candles = flat(ms("00:00:00"), 10)
    far = Period(ms("00:05:00"), ms("00:00:00", "2900-01-01"))
    with pytest.raises(InvalidInput, match=r"makes \d+ bars of 1m, at most 50000000"):
        timeline(candles, M1, BTC, M1, far, 1)


def test_dense_slots_come_from_the_range_with_whole_rows_of_nan() -> None:
    candles = made(
        [
            (ms("00:03:00"), (3, 3, 3, 3, 0)),
            (ms("00:01:00"), (1, 1, 1, 1, 1)),
            (ms("00:01:30"), (8, 8, 8, 8, 8)),
            (ms("00:02:00"), (2, 2, 2, NAN, 2)),
            (ms("00:09:00"), (9, 9, 9, 9, 9)),
        ]
    )
    slots = dense(candles, M1, Period(ms("00:00:00"), ms("00:05:00")))
    assert slots.ts_open_ms.tolist() == [ms("00:00:00") + k * 60_000 for k in range(5)]
    for column in slots.series():
        assert np.isnan(column).tolist() == [True, False, True, False, True]
    assert slots.volume[[1, 3]].tolist() == [1, 0]
    with pytest.raises(InvalidInput, match="not made of whole bars of 1m"):
        dense(candles, M1, Period(ms("00:00:30"), ms("00:05:30")))


def test_clean_candles_are_not_copied() -> None:
    candles = flat(ms("00:00:00"), 300)
    found = present(candles, M1, Period(ms("01:00:00"), ms("02:00:00")))
    assert np.shares_memory(found.close, candles.close)
    assert len(found) == 60
