"""Numbers, times and names as a page says them."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from compute.quantities import size_text, spaced

NONE: Final = "–"


def count(value: float | None) -> str:
    """A whole number with thin gaps between its thousands."""
    return NONE if value is None else spaced(int(value))


def number(value: float | None, digits: int = 2) -> str:
    """A number to `digits` places; what is none is a dash, what has no end ∞."""
    if value is None or math.isnan(value):
        return NONE
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    text = f"{abs(value):,.{digits}f}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    return f"−{text}" if value < 0 and float(f"{value:.{digits}f}") else text


def signed(value: float | None, digits: int = 2) -> str:
    """A number that says whether it is a gain."""
    text = number(value, digits)
    return f"+{text}" if value is not None and value > 0 and text != NONE else text


def percent(value: float | None, digits: int = 2) -> str:
    """A signed number of percent."""
    text = signed(value, digits)
    return text if text == NONE else f"{text}\N{NARROW NO-BREAK SPACE}%"


def side(value: float | None) -> str:
    """The class of a number: gain, loss, or neither."""
    if value is None or math.isnan(value) or value == 0:
        return ""
    return "gain" if value > 0 else "loss"


def moment(value: str | int | datetime | None) -> str:
    """A time in UTC, to the minute."""
    if value is None:
        return NONE
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    elif isinstance(value, int):
        value = datetime.fromtimestamp(value / 1000, UTC)
    return f"{value.astimezone(UTC):%Y-%m-%d %H:%M}"


def lasting(seconds: float | None) -> str:
    """A duration in its two largest units."""
    if seconds is None or not math.isfinite(seconds):
        return NONE
    left = max(0, round(seconds))
    for size, name, below, less in (
        (86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"),
    ):  # fmt: skip
        if left >= size:
            rest = left % size // below
            return f"{left // size} {name}" + (f" {rest} {less}" if rest else "")
    return f"{left} s"


FILTERS: Final[dict[str, Callable[..., Any]]] = {
    "count": count,
    "number": number,
    "signed": signed,
    "percent": percent,
    "side": side,
    "moment": moment,
    "lasting": lasting,
    "size": size_text,
}
"""By the names that templates use."""
