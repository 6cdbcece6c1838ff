"""Numbers, times and names as a page says them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from markupsafe import Markup, escape

from compute.quantities import decimal, plural, size_text, some, spaced

NONE: Final = "–"
PERCENT: Final = "\N{NARROW NO-BREAK SPACE}%"


def count(value: float | None) -> str:
    """A whole number with thin gaps between its thousands."""
    return NONE if value is None else spaced(int(value))


def number(value: float | None, digits: int = 2) -> str:
    """A number to `digits` places; what is none is a dash, what has no end ∞."""
    if value is None or math.isnan(value):
        return NONE
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return decimal(value, digits)


def signed(value: float | None, digits: int = 2) -> str:
    """A number that says whether it is a gain."""
    text = number(value, digits)
    return f"+{text}" if value is not None and value > 0 and text != NONE else text


def percent(value: float | None, digits: int = 2) -> str:
    """A signed number of percent."""
    text = signed(value, digits)
    return text if text == NONE else text + PERCENT


def share(value: float | None, digits: int = 0) -> str:
    """A number of percent that is no gain."""
    text = number(value, digits)
    return text if text == NONE else text + PERCENT


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


def dates(period: Mapping[str, str]) -> str:
    """A range of times; to the day where it has whole days."""
    ends = [moment(period[end]) for end in ("start", "end")]
    whole = all(end.endswith(" 00:00") for end in ends)
    return " to ".join(end[:10] if whole else end for end in ends)


def brief(indicators: Sequence[str]) -> str:
    """Ids of indicators without their groups, the first ones of many."""
    return some([one.rpartition(".")[2] for one in indicators])


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


_SPANS: Final = (
    (31_557_600, "year"), (2_629_800, "month"), (86_400, "day"), (3600, "hour"), (60, "minute"),
)  # fmt: skip


def span(seconds: float) -> str:
    """A duration in its largest unit, for whoever wants to know about how long: 2.5 years."""
    size, name = next((one for one in _SPANS if seconds >= 0.95 * one[0]), _SPANS[-1])
    return plural(round(seconds / size, 1 if name == "year" else None), name)


_BROWSERS: Final = (
    ("Edge", r"Edg[A-Za-z]*/(\d+)"), ("Opera", r"OPR/(\d+)"),
    ("Firefox", r"(?:Firefox|FxiOS)/(\d+)"), ("Chrome", r"(?:Chrome|CriOS)/(\d+)"),
    ("Safari", r"Version/(\d+)\S* .*Safari/"),
)  # fmt: skip
_SYSTEMS: Final = (
    ("Android", "Android"), ("iOS", "iPhone|iPad"), ("Windows", "Windows"), ("macOS", "Mac OS X"),
    ("ChromeOS", "CrOS"), ("Linux", "Linux|X11"),
)  # fmt: skip


def browser(user_agent: str) -> str:
    """A browser and its system, short; of another program what it calls itself first."""
    for name, pattern in _BROWSERS:
        if found := re.search(pattern, user_agent):
            on = next((f" on {name}" for name, mark in _SYSTEMS if re.search(mark, user_agent)), "")
            return f"{name} {found[1]}{on}"
    return user_agent.partition(" ")[0][:40] or "says nothing of itself"


def coded(text: str) -> Markup:
    """A text whose parts between backticks are code."""
    parts = re.split("`([^`]+)`", text)
    code = Markup("<code>{}</code>")
    return Markup("").join(
        code.format(part) if number % 2 else escape(part) for number, part in enumerate(parts)
    )


FILTERS: Final[dict[str, Callable[..., Any]]] = {
    "brief": brief,
    "browser": browser,
    "coded": coded,
    "count": count,
    "dates": dates,
    "number": number,
    "signed": signed,
    "percent": percent,
    "share": share,
    "side": side,
    "moment": moment,
    "lasting": lasting,
    "plural": plural,
    "span": span,
    "size": size_text,
}
"""By the names that templates use."""
