"""What a page says of numbers, times and names."""

from __future__ import annotations

import pytest

from api.pages.words import brief, browser, count, dates, number, percent, share, signed
from compute.report.format import read_text

LIKE_GECKO = "AppleWebKit/537.36 (KHTML, like Gecko)"


@pytest.mark.parametrize(
    ("user_agent", "said"),
    [
        (f"Mozilla/5.0 (X11; Linux x86_64) {LIKE_GECKO} Chrome/126.0.0.0 Safari/537.36",
         "Chrome 126 on Linux"),
        (f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {LIKE_GECKO} Chrome/126.0.0.0 Safari/537.36"
         " Edg/126.0.2592.87", "Edge 126 on Windows"),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 14_5) AppleWebKit/605.1.15 (KHTML, like Gecko)"
         " Version/17.5 Safari/605.1.15", "Safari 17 on macOS"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like"
         " Gecko) Version/17.5 Mobile/15E148 Safari/604.1", "Safari 17 on iOS"),
        (f"Mozilla/5.0 (Linux; Android 10; K) {LIKE_GECKO} Chrome/126.0.0.0 Mobile Safari/537.36",
         "Chrome 126 on Android"),
        ("Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0",
         "Firefox 127 on Linux"),
        ("python-httpx/0.27.0", "python-httpx/0.27.0"),
        ("", "says nothing of itself"),
        ("x" * 500, "x" * 40),
    ],
)  # fmt: skip
def test_a_browser_has_a_short_name(user_agent: str, said: str) -> None:
    assert browser(user_agent) == said


def test_a_number_in_the_middle_between_two_goes_away_from_zero() -> None:
    values = (0.125, -0.125, 0.375, 2.5, 1.005)
    assert [number(value) for value in values] == ["0.13", "−0.13", "0.38", "2.50", "1.00"]
    assert [number(value, 0) for value in (0.5, 1.5, 2.5, -0.5, -0.4)] == ["1", "2", "3", "−1", "0"]


def test_a_share_is_no_gain() -> None:
    assert (share(19.174, 2), share(0.0), share(None)) == ("19.17\u202f%", "0\u202f%", "–")


@pytest.mark.parametrize(
    "text", ["0", "-0.001", "0.0012", "115.3433", "0.125", "-8.8645", "1234567.8912"]
)
def test_a_row_of_the_report_reads_as_the_other_numbers_of_a_page(text: str) -> None:
    value = float(text)
    assert read_text("Total Return [%]", text) == percent(value)
    assert read_text("Expectancy", text) == percent(value)
    assert read_text("Max. Drawdown [%]", text) == share(value, 2)
    assert read_text("Init. Cash", text) == read_text("SQN", text) == number(value)
    assert read_text("Total Profit", text) == signed(value)
    assert read_text("Num. Trades", "1234567") == count(1_234_567)
    assert read_text("SQN", "N/A") == "N/A"


def test_a_range_of_whole_days_has_no_hours() -> None:
    whole = {"start": "2026-01-01T00:00:00Z", "end": "2026-01-08T00:00:00Z"}
    assert dates(whole) == "2026-01-01 to 2026-01-08"
    part = whole | {"end": "2026-01-08T06:30:00Z"}
    assert dates(part) == "2026-01-01 00:00 to 2026-01-08 06:30"


def test_indicators_are_brief() -> None:
    assert brief(["ma.sma", "momentum.rsi"]) == "sma, rsi"
    assert brief([f"ma.{name}" for name in "abcdef"]) == "a, b, c, d and 2 more"
