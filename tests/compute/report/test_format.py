from __future__ import annotations

import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute.report.format import (
    count_text,
    date_text,
    duration_text,
    number_text,
    read_text,
    table_md,
)
from compute.report.rows import Row

HOUR_MS = 3_600_000


@pytest.mark.parametrize(
    ("value", "places", "text"),
    [
        (12.345, 2, "12.35"),  # the float is a little above the tie
        (0.015, 2, "0.01"),  # and here a little below
        (0.125, 2, "0.12"),  # an exact tie goes to even
        (0.375, 2, "0.38"),
        (2.5, 0, "2"),
        (-0.004, 2, "0"),
        (-0.0, 2, "0"),
        (12.30, 2, "12.3"),
        (10000.0, 2, "10000"),
        (100.0, 0, "100"),
        (10, 2, "10"),
        (-0.00005, 4, "-0.0001"),
        (0.0001, 4, "0.0001"),
        (5e-324, 5, "0"),
        (1e22, 2, "10000000000000000000000"),
        (None, 4, "N/A"),
        (math.nan, 4, "N/A"),
        (math.inf, 2, "N/A"),
        (-math.inf, 2, "N/A"),
    ],
)
def test_number(value: float | None, places: int, text: str) -> None:
    assert number_text(value, places) == text


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(0, 5))
def test_number_is_the_nearest_short_decimal(value: float, places: int) -> None:
    text = number_text(value, places)
    half = Decimal(5).scaleb(-places - 1)
    assert abs(Decimal(text) - Decimal(value)).compare_total_mag(half) <= 0
    assert "e" not in text.lower()
    assert text not in ("-0", "")
    if "." in text:
        assert not text.endswith(("0", "."))
        assert len(text.split(".")[1]) <= places


def test_count() -> None:
    assert [count_text(0), count_text(12345), count_text(None)] == ["0", "12345", "N/A"]


def test_date() -> None:
    assert date_text(0) == "1970-01-01 00:00:00.000+00:00"
    assert date_text(1_767_312_000_000) == "2026-01-02 00:00:00.000+00:00"
    assert date_text(1_767_312_000_007) == "2026-01-02 00:00:00.007+00:00"
    assert date_text(None) == "N/A"


@pytest.mark.parametrize(
    ("hours", "text"),
    [
        (0, "0:00:00"),
        (1.5, "1:30:00"),
        (24, "1 day, 0:00:00"),
        (240, "10 days, 0:00:00"),
        (25 + 1 / 3_600_000, "1 day, 1:00:00.001000"),
    ],
)
def test_duration(hours: float, text: str) -> None:
    assert duration_text(round(hours * HOUR_MS)) == text


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("1 day, 3:24:13.714000", "1 d 3 h 24 min"),
        ("2 days, 23:59:45", "3 d"),
        ("0:15:00", "15 min"),
        ("0:00:30.500000", "30 s"),
        ("0:00:00", "0 s"),
        ("2026-01-02 03:04:00.000+00:00", "2026-01-02 03:04"),
        ("2026-01-02 03:04:05.000+00:00", "2026-01-02 03:04:05"),
        ("2026-01-02 03:04:05.006+00:00", "2026-01-02 03:04:05.006"),
        ("N/A", "N/A"),
        ("-1.5", "−1.50"),
    ],
)
def test_people_read_dates_and_durations_to_the_minute(text: str, read: str) -> None:
    assert read_text("SQN", text) == read


def test_table_has_no_trailing_newline() -> None:
    table = table_md([Row("Start", 0, "a"), Row("End", None, "N/A")])
    assert table == "|Metric|Value|\n|---|---|\n|Start|a|\n|End|N/A|"
