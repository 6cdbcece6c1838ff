"""Texts of the report's values and the two-column Markdown table (contract backtest 7.4)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Protocol

NOT_AVAILABLE = "N/A"

# A float64 has at most 309 digits before the point and 1074 after it: nothing is rounded twice.
_EXACT = Context(prec=1500, rounding=ROUND_HALF_EVEN)
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


def table_md(rows: Iterable[Line]) -> str:
    """The report as a Markdown table, no trailing newline."""
    return "\n".join(["|Metric|Value|", "|---|---|", *(f"|{r.metric}|{r.text}|" for r in rows)])
