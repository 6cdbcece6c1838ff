"""Half-open spans of UTC time in whole milliseconds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Self

from compute.errors import InvalidInput

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
FIRST_MS: Final = -62_135_596_800_000  # 0001-01-01T00:00Z
LAST_MS: Final = 253_402_300_799_999  # 9999-12-31T23:59:59.999Z


@dataclass(frozen=True, slots=True)
class Period:
    """A half-open span `[start_ms, end_ms)` of UTC epoch milliseconds.

    Raises:
        InvalidInput: `start_ms >= end_ms`, or a bound outside the years 1 to 9999.
    """

    start_ms: int
    end_ms: int

    def __post_init__(self) -> None:
        for bound in (self.start_ms, self.end_ms):
            if not FIRST_MS <= bound <= LAST_MS + 1:
                raise InvalidInput(f"time {bound} ms lies outside the years 1 to 9999")
        if self.start_ms >= self.end_ms:
            raise InvalidInput(
                f"time range must have start < end, got {instant(self.start_ms)} "
                f"and {instant(self.end_ms)}"
            )

    def __str__(self) -> str:
        return f"[{instant(self.start_ms)}, {instant(self.end_ms)})"

    @property
    def duration_ms(self) -> int:
        """Length of the span."""
        return self.end_ms - self.start_ms

    @classmethod
    def of(cls, start: datetime, end: datetime) -> Self:
        """The span between two aware datetimes, each truncated to its millisecond.

        Raises:
            InvalidInput: a datetime without a time zone, or `start >= end`.
        """
        return cls(epoch_ms(start), epoch_ms(end))

    @classmethod
    def parse(cls, start: str, end: str) -> Self:
        """The span between two ISO 8601 texts that carry a zone.

        Raises:
            InvalidInput: a text that is no timestamp or has no zone, or `start >= end`.
        """
        return cls.of(_parsed(start), _parsed(end))


def epoch_ms(moment: datetime) -> int:
    """UTC epoch milliseconds of an aware datetime, microseconds truncated.

    Raises:
        InvalidInput: the datetime has no time zone.
    """
    if moment.utcoffset() is None:
        raise InvalidInput(
            f"timestamp {moment.isoformat()} has no time zone; add Z or an offset like +02:00"
        )
    return (moment - EPOCH) // timedelta(milliseconds=1)


def instant(ms: int) -> str:
    """ISO 8601 text of an epoch millisecond, with milliseconds only when there are any."""
    if not FIRST_MS <= ms <= LAST_MS:
        return f"{ms} ms"
    moment = EPOCH + timedelta(milliseconds=ms)
    text = moment.isoformat(timespec="milliseconds" if ms % 1000 else "seconds")
    return text.replace("+00:00", "Z")


def _parsed(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text.strip())
    except (ValueError, AttributeError):
        raise InvalidInput(
            f"timestamp {text!r} is not ISO 8601; write it like 2026-01-01T00:00:00Z"
        ) from None
