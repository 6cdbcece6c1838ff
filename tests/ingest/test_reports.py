"""Reports and progress: real JSON, readable text, honest rates."""

from __future__ import annotations

import json
from dataclasses import dataclass

from compute.market.instrument import Instrument
from compute.market.period import Period
from ingest.progress import Progress, duration
from ingest.reports import json_text, record, text


@dataclass(frozen=True)
class Part:
    at_ms: int
    ratio: float


@dataclass(frozen=True)
class Whole:
    instrument_id: Instrument
    time_range: Period
    started_at_ms: int
    finished_at_ms: int | None
    rows_read: int
    complete: bool
    parts: list[Part]


WHOLE = Whole(
    Instrument(1, "BTCUSDT"), Period(0, 60_000), 1_500, None, 7, True, [Part(60_000, 0.5)]
)


def test_a_record_is_json_and_times_are_text() -> None:
    assert json.loads(json_text(WHOLE)) == record(WHOLE)
    assert record(WHOLE) == {
        "instrument_id": {"market_id": 1, "symbol": "BTCUSDT"},
        "time_range": {"start": "1970-01-01T00:00:00.000Z", "end": "1970-01-01T00:01:00.000Z"},
        "started_at": "1970-01-01T00:00:01.500Z",
        "finished_at": None,
        "rows_read": 7,
        "complete": True,
        "parts": [{"at": "1970-01-01T00:01:00.000Z", "ratio": 0.5}],
    }


def test_text_has_a_line_a_field() -> None:
    assert text(WHOLE).splitlines() == [
        "instrument_id: 1:BTCUSDT",
        "time_range: [1970-01-01T00:00:00.000Z, 1970-01-01T00:01:00.000Z)",
        "started_at: 1970-01-01T00:00:01.500Z",
        "rows_read: 7",
        "complete: yes",
        "parts:",
        "  - at: 1970-01-01T00:01:00.000Z",
        "    ratio: 0.5",
    ]


def test_long_minutes_are_said_in_hours() -> None:
    @dataclass(frozen=True)
    class Gap:
        longest_gap_minutes: int
        missing_minutes: int

    assert text(Gap(1_505, 7)) == "longest_gap_minutes: 1505 (25 h 05 min)\nmissing_minutes: 7"


def test_progress_tells_rate_and_end_and_does_not_chatter() -> None:
    now, said = [0.0], []
    progress = Progress("minutes", 1_000, said.append, every_s=2, seconds=lambda: now[0])
    assert progress.eta_s is None  # nothing is known yet
    now[0] = 1.5
    progress.done = 49
    assert progress.eta_s is None  # too little of it, too early
    progress.done = 0
    for second in range(1, 6):
        now[0] = float(second)
        progress.add(100)
    assert said == [
        "minutes: 200 of 1000 (20 %), 100/s, 8 s left",
        "minutes: 400 of 1000 (40 %), 100/s, 6 s left",
    ]
    progress.expect(500)
    assert (progress.total, progress.rate, progress.eta_s) == (1_500, 100, 10)
    progress.finish()
    assert said[-1] == "minutes: 500 of 500 (100 %), 100/s"
    unknown = Progress("rows", None, said.append, seconds=lambda: now[0])
    assert unknown.line() == "rows: 0, 0/s"
    assert unknown.eta_s is None


def test_durations_are_readable() -> None:
    assert [duration(s) for s in (4.6, 125, 12_000)] == ["5 s", "2 min 05 s", "3 h 20 min"]
