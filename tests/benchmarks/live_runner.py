"""`roehub live` that says when it did what: `python -m tests.benchmarks.live_runner INSTRUMENTS`.

The command is as anybody starts it; feed, ledger and output note the time after each call. A line
of JSON on standard output tells of every minute whose last instrument was acknowledged.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import live.service
from live.feed import Entry, Feed
from live.leases import Lease
from live.ledger import Active, Ledger
from live.outcomes import Committed, Outcome
from live.output import Output, Told
from tests.benchmarks.observed import peak_rss_bytes

STAGES: Final = ("read", "evaluated", "committed", "published", "acknowledged")


@dataclass
class Course:
    """How far a minute is: when the last instrument was through a stage, seconds of the clock."""

    stages: dict[str, float] = field(default_factory=dict)
    acknowledged: set[str] = field(default_factory=set)
    published: set[str] = field(default_factory=set)
    runs: int = 0
    bars: int = 0
    events: int = 0


class Notes:
    """What the parts of the runner note, by minute."""

    def __init__(self, instruments: int) -> None:
        self._instruments = instruments
        self._minutes: dict[int, Course] = {}
        self.at: dict[str, int] = {}
        """The minute that each instrument is at."""
        self.begun = False

    def note(self, stage: str, minute_ms: int) -> Course:
        """A minute that has just come through a stage."""
        course = self._minutes.setdefault(minute_ms, Course())
        course.stages[stage] = time.time()
        return course

    def acknowledged(self, entries: Sequence[Entry]) -> None:
        """Entries that were dealt with."""
        for one in entries:
            self.note("acknowledged", one.ts_open_ms).acknowledged.add(one.instrument_key)
        self._through({one.ts_open_ms for one in entries})

    def published(self, keys: Collection[str]) -> None:
        """Instruments whose owners were told of the minute that they are at."""
        minutes = {key: self.at[key] for key in keys}
        for key, minute_ms in minutes.items():
            self.note("published", minute_ms).published.add(key)
        self._through(set(minutes.values()))

    def _through(self, minutes: Collection[int]) -> None:
        """Tells of those minutes that are through with all instruments."""
        for minute_ms in minutes:
            course = self._minutes[minute_ms]
            if min(len(course.acknowledged), len(course.published)) == self._instruments:
                del self._minutes[minute_ms]
                tell({"minute_ms": minute_ms, "stages": course.stages, "runs": course.runs,
                      "bars": course.bars, "events": course.events})  # fmt: skip


def tell(record: dict[str, Any]) -> None:
    """Says something with the CPU seconds and peak memory of this process so far."""
    more = {"cpu_s": time.process_time(), "peak_mib": peak_rss_bytes() / 2**20}
    print(json.dumps({**record, **more}), flush=True)


def timed(notes: Notes) -> None:
    """Puts parts that note the time in the place of the runner's own."""

    class TimedFeed(Feed):
        async def entries(self, keys: Collection[str]) -> list[Entry]:
            found = await super().entries(keys)
            for minute_ms in {one.ts_open_ms for one in found}:
                notes.note("read", minute_ms)
            return found

        async def acknowledge(self, entries: Sequence[Entry]) -> None:
            await super().acknowledge(entries)
            notes.acknowledged(entries)

    class TimedLedger(Ledger):
        async def active(self) -> list[Active]:
            if not notes.begun:
                notes.begun = True
                tell({"began": time.time()})
            return await super().active()

        async def commit(self, lease: Lease, outcomes: Sequence[Outcome]) -> dict[UUID, Committed]:
            minute_ms = max(one.checkpoint_ms or 0 for one in outcomes)
            notes.at[lease.instrument_key] = minute_ms
            notes.note("evaluated", minute_ms)
            done = await super().commit(lease, outcomes)
            course = notes.note("committed", minute_ms)
            course.runs += len(done)
            course.bars += sum(len(one.bars) for one in outcomes)
            course.events += sum(len(one.events) for one in done.values())
            return done

    class TimedOutput(Output):
        async def publish(self, records: Iterable[Told]) -> None:
            some = list(records)
            await super().publish(some)
            notes.published({one.source.instrument_key for one in some})

    live.service.Feed = TimedFeed  # type: ignore[misc]
    live.service.Ledger = TimedLedger  # type: ignore[misc]
    live.service.Output = TimedOutput  # type: ignore[misc]


def main(instruments: int) -> None:
    """Runs until it is told to stop."""
    from live.cli import app

    timed(Notes(instruments))
    app(["--metrics-port", "0"])


if __name__ == "__main__":
    main(int(sys.argv[1]))
