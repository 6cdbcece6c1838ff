"""The six bar lengths the product knows, all dividing one another upwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from compute.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Timeframe:
    """Length of a bar: its `code` on the wire and its duration in milliseconds."""

    code: str
    ms: int

    def __str__(self) -> str:
        return self.code


TIMEFRAMES: Final[dict[str, Timeframe]] = {
    code: Timeframe(code, seconds * 1000)
    for code, seconds in (
        ("1m", 60),
        ("5m", 300),
        ("15m", 900),
        ("1h", 3600),
        ("4h", 14_400),
        ("1d", 86_400),
    )
}


def timeframe(text: str) -> Timeframe:
    """The timeframe named by `text`, which is trimmed and lower-cased.

    Raises:
        InvalidInput: `text` names none of `TIMEFRAMES`.
    """
    found = TIMEFRAMES.get(text.strip().lower()) if type(text) is str else None
    if found is None:
        raise InvalidInput(
            f"timeframe {text!r} is not supported; use one of {' '.join(TIMEFRAMES)}"
        )
    return found
