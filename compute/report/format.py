"""Texts of the report's values and the two-column Markdown table (contract backtest 7.4)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Protocol

from compute.quantities import decimal, spaced

NOT_AVAILABLE = "N/A"

# A float64 has at most 309 digits before the point and 1074 after it: nothing is rounded twice.
_EXACT = Context(prec=1500, rounding=ROUND_HALF_EVEN)
_DATE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}\+00:00")
_DURATION = re.compile(r"(?:(\d+) days?, )?(\d+):(\d\d):(\d\d)(?:\.\d+)?")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_GAP = "\N{NARROW NO-BREAK SPACE}"
_GAINS = frozenset((
    "Total Profit", "Total Return [%]", "Benchmark Return [%]",
    "Best Trade [%]", "Worst Trade [%]", "Avg. Trade [%]", "Expectancy",
))  # fmt: skip
"""Rows whose sign says whether it is a gain."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Line(Protocol):
    @property
    def metric(self) -> str: ...

    @property
    def text(self) -> str: ...


def number_text(value: float | int | None, places: int) -> str:
    """Text of a number rounded to `places` decimals, ties to even on its exact binary value.

    None and non-finite values are `N/A`; trailing zeros, a bare point and the sign of zero go.
    """
    if value is None or not math.isfinite(value):
        return NOT_AVAILABLE
    rounded = Decimal(value).quantize(Decimal(1).scaleb(-places), context=_EXACT)
    if rounded == 0:
        return "0"
    text = f"{rounded:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def count_text(value: int | None) -> str:
    """Text of a whole number."""
    return NOT_AVAILABLE if value is None else str(value)


def date_text(time_ms: int | None) -> str:
    """UTC text of epoch milliseconds, `YYYY-MM-DD HH:MM:SS.mmm+00:00`."""
    if time_ms is None:
        return NOT_AVAILABLE
    return (_EPOCH + timedelta(milliseconds=time_ms)).isoformat(sep=" ", timespec="milliseconds")


def duration_text(duration_ms: int | None) -> str:
    """Text of milliseconds, `[N days, ]H:MM:SS[.ffffff]`."""
    return NOT_AVAILABLE if duration_ms is None else str(timedelta(milliseconds=duration_ms))


def read_text(metric: str, text: str) -> str:
    """The text of a row's value as people read it: numbers to two places with their unit, dates to
    the minute where that is all of them, durations in days, hours and minutes, below a minute in
    seconds; any other text as it is.
    """
    if _DATE.fullmatch(text):
        return text.removesuffix("+00:00").removesuffix(".000").removesuffix(":00")
    if _NUMBER.fullmatch(text):
        return _read_number(metric, float(text))
    found = _DURATION.fullmatch(text)
    if found is None:
        return text
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    if not (days or hours or minutes):
        return f"{seconds} s"
    total = (days * 24 + hours) * 60 + minutes + (seconds >= 30)
    parts = ((total // 1440, "d"), (total // 60 % 24, "h"), (total % 60, "min"))
    return " ".join(f"{count} {unit}" for count, unit in parts if count)


def _read_number(metric: str, value: float) -> str:
    """A number as the pages say it; of what may be gained with its sign."""
    if metric == "Num. Trades":
        return spaced(int(value))
    sign = "+" if value > 0 and metric in _GAINS else ""
    unit = f"{_GAP}%" if metric.endswith("[%]") or metric == "Expectancy" else ""
    return sign + decimal(value, 2) + unit


def table_md(rows: Iterable[Line]) -> str:
    """The report as a Markdown table, no trailing newline."""
    return "\n".join(["|Metric|Value|", "|---|---|", *(f"|{r.metric}|{r.text}|" for r in rows)])
