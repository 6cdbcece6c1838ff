"""Many runs at once: a minute offered to the feed, until the last of them is committed."""

from __future__ import annotations

import json
import queue
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import numpy as np

from ingest.live.feed import MAXLEN, PREFIX, fields
from ingest.rows import MINUTE_MS, Candle, Origin, instrument_key
from tests.benchmarks.findings import Goal, Table
from tests.benchmarks.live_place import Crowd, LivePlace, live_place
from tests.benchmarks.live_probe import Probe
from tests.benchmarks.live_runner import STAGES
from tests.benchmarks.observed import ROOT
from tests.benchmarks.proof import Unequal

GOAL_S: Final = 1.0
DEADLINE_S: Final = 120.0
PROBED_EVERY: Final = 5
CHECKED: Final = 40
_SPARE: Final = 15  # minutes that are stored beyond those to offer: the clock goes on meanwhile


@dataclass(frozen=True, slots=True)
class Minute:
    """One minute; `stages` are seconds from its offer until the last instrument was through."""

    bars: int
    events: int
    cpu_s: float
    stages: dict[str, float]


@dataclass
class Load:
    """What a crowd of runs cost: to be taken up, to be taken up again, and by minute."""

    crowd: Crowd
    taken_up_s: float = 0.0
    again_s: float = 0.0
    history_minutes: int = 0
    peak_mib: float = 0.0
    minutes: list[Minute] = field(default_factory=list)
    bare: dict[bool, list[float]] = field(default_factory=lambda: {False: [], True: []})
    checked: dict[str, int] = field(default_factory=dict)


class Runner:
    """`roehub live` over a place, and what it tells."""

    def __init__(self, place: LivePlace) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.live_runner", str(place.crowd.instruments)],
            cwd=ROOT, env=place.environment, stdout=subprocess.PIPE, text=True,
            stderr=(place.directory / "runner.log").open("a"),
        )  # fmt: skip
        self._told: queue.Queue[dict[str, Any]] = queue.Queue()
        self._log = place.directory / "runner.log"
        threading.Thread(target=self._listen, daemon=True).start()

    def next(self) -> dict[str, Any]:
        """What it tells next. Raises: RuntimeError where it tells nothing, with its log's end."""
        try:
            found = self._told.get(timeout=DEADLINE_S)
        except queue.Empty:
            found = {}
        if not found:
            end = self._log.read_text("utf-8")[-2000:]
            raise RuntimeError(f"the runner told nothing for long, or has ended; its log: {end}")
        return found

    def through(self, minute_ms: int) -> dict[str, Any]:
        """What it tells of a minute; earlier ones are dropped."""
        while True:
            found = self.next()
            if found.get("minute_ms") == minute_ms:
                return found

    def end(self) -> None:
        """Stops it as Ctrl-C does."""
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(20)
        self._process.kill()
        self._process.wait()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._told.put(json.loads(line))
        self._told.put({})


@contextmanager
def running(place: LivePlace) -> Iterator[Runner]:
    """A runner that ends with the block."""
    runner = Runner(place)
    try:
        yield runner
    finally:
        runner.end()


def load(directory: Path, dsn: str, crowd: Crowd) -> Load:
    """Takes a crowd up, offers its minutes one by one, and takes it up again.

    Minutes are ahead of the clock, so that nothing is late and all come from the feed. Raises:
    Unequal where a run is not its back-test.
    """
    found = Load(crowd)
    ahead = crowd.minutes + _SPARE
    with (
        live_place(directory, dsn, crowd, _now_ms(), ahead) as place,
        Probe(dsn, crowd, place.start_ms) as probe,
    ):
        offers = _Offers(place)
        found.history_minutes = crowd.history_minutes
        with running(place) as runner:
            found.taken_up_s = probe.taken_up(_now_ms()) - runner.next()["began"]
            minute_ms = _now_ms() // MINUTE_MS * MINUTE_MS
            _, cpu_s = _offered(offers, runner, minute_ms, 0.0)  # with what was missed meanwhile
            for number in range(crowd.minutes):
                if number % PROBED_EVERY == 0:
                    for bars in (False, True):
                        found.bare[bars].append(probe.seconds(bars=bars))
                minute_ms += MINUTE_MS
                minute, cpu_s = _offered(offers, runner, minute_ms, cpu_s)
                found.minutes.append(minute)
                time.sleep(0.05)
        with running(place) as runner:
            began = runner.next()["began"]
            told = _told(offers, runner, minute_ms + MINUTE_MS)
            found.again_s = told["stages"]["committed"] - began
            found.peak_mib = told["peak_mib"]
        run_ids = probe.whole(minute_ms + MINUTE_MS)
        found.checked = place.check(_sample(run_ids))
    if found.checked["differing"]:
        raise Unequal(f"live runs differ from their back-tests: {found.checked}")
    return found


class _Offers:
    """The minutes of all instruments on their way to the feed, as ingestion publishes them."""

    def __init__(self, place: LivePlace) -> None:
        self._place = place
        crowd = place.crowd
        self._markets = [
            (crowd.instrument(number), place.market(number)) for number in range(crowd.instruments)
        ]

    def offer(self, minute_ms: int) -> float:
        """When the first was sent, seconds of the clock; all are there on return."""
        number = (minute_ms - self._place.start_ms) // MINUTE_MS
        origin = Origin("ws", _now_ms(), None)
        pipeline = self._place.feed.pipeline(transaction=False)
        for instrument, market in self._markets:
            open_, high, low, close, volume = (float(column[number]) for column in market.series())
            candle = Candle(instrument, minute_ms, open_, high, low, close, volume)
            name = f"{PREFIX}.{instrument_key(instrument)}"
            pipeline.xadd(
                name, fields(candle, origin), id=f"{minute_ms}-0", maxlen=MAXLEN, approximate=True
            )
        began = time.time()
        pipeline.execute()
        return began


def _offered(offers: _Offers, runner: Runner, minute_ms: int, cpu_s: float) -> tuple[Minute, float]:
    """(a minute, CPU seconds of the runner after it)."""
    told = _told(offers, runner, minute_ms)
    stages = {name: told["stages"][name] - told["offered"] for name in STAGES}
    return Minute(told["bars"], told["events"], told["cpu_s"] - cpu_s, stages), told["cpu_s"]


def _told(offers: _Offers, runner: Runner, minute_ms: int) -> dict[str, Any]:
    offered = offers.offer(minute_ms)
    return {**runner.through(minute_ms), "offered": offered}


def _sample(run_ids: Sequence[UUID]) -> list[UUID]:
    rng = np.random.default_rng(5)
    picked = rng.permutation(len(run_ids))[:CHECKED]
    return [run_ids[at] for at in sorted(picked)]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def load_findings(loads: Sequence[Load], *, judged: bool) -> tuple[list[Table], list[Goal]]:
    """Tables of the minutes, of their parts and of taking runs up; a goal for each kind."""
    minutes: list[tuple[Any, ...]] = []
    parts: list[tuple[Any, ...]] = []
    goals: list[Goal] = []
    for one in loads:
        for kind, some in _kinds(one).items():
            last = [minute.stages["committed"] for minute in some]
            bare = statistics.median(one.bare[some[0].bars > 0])
            p95 = float(np.quantile(last, 0.95))
            middle = statistics.median(last)
            minutes.append(
                (kind, len(some), middle, p95, max(last), bare, middle / bare)
            )  # fmt: skip
            parts.append(
                (kind, *_steps(some), statistics.mean(minute.events for minute in some),
                 statistics.median(minute.cpu_s for minute in some))
            )  # fmt: skip
            goals.append(
                Goal(f"{kind}: minute offered to last commit, p95", "at most", GOAL_S, p95, "s",
                     judged=judged)
            )  # fmt: skip
    tables = [
        Table(
            f"{_crowd(loads[0])}: a minute offered to the feed until the last commit",
            ("minute", "minutes", "p50 s", "p95 s", "longest s", "bare p50 s", "of bare"),
            minutes,
            "the runner is roehub live with its leases, feed, output and the settings of users; "
            "PostgreSQL, Valkey, the embedded candle store and the offers share the cores; all "
            "candles of a minute are offered at once; bare: a transaction an instrument of the "
            "driver alone that updates and inserts as many rows over as many connections, in the "
            "same run; " + "; ".join(_checked(one) for one in loads),
        ),
        Table(
            "Where such a minute goes: seconds until the last instrument is through, medians",
            ("minute", *STAGES, "events", "runner's CPU s"),
            parts,
            "each from the offer; instruments overlap, so that the last one is evaluated while "
            "others are committed",
        ),
        Table(
            "Taking runs up",
            ("runs", "minutes of history", "new, s", "ms a run", "after a restart, s", "ms a run ",
             "peak MiB"),
            [
                (f"{one.crowd.runs} of {' and '.join(one.crowd.frames)}", one.history_minutes,
                 one.taken_up_s, one.taken_up_s / one.crowd.runs * 1e3, one.again_s,
                 one.again_s / one.crowd.runs * 1e3, one.peak_mib)
                for one in loads
            ],
            "from the runner's first look at the database: new until all have gone through their "
            "stored history, after a restart until all have committed the next minute",
        ),
    ]  # fmt: skip
    return tables, goals


def _kinds(found: Load) -> dict[str, list[Minute]]:
    """Minutes by what closes with them."""
    kinds: dict[str, list[Minute]] = {}
    for minute in found.minutes:
        closed = f"{minute.bars} bars close" if minute.bars else "no bar closes"
        kinds.setdefault(f"{' and '.join(found.crowd.frames)}, {closed}", []).append(minute)
    return kinds


def _steps(minutes: Sequence[Minute]) -> list[float]:
    return [statistics.median(one.stages[name] for one in minutes) for name in STAGES]


def _crowd(found: Load) -> str:
    crowd = found.crowd
    return f"{crowd.runs} runs over {crowd.instruments} instruments"


def _checked(found: Load) -> str:
    done = found.checked
    return (
        f"{done['bars']} bars and {done['trades']} trades of {done['runs']} runs on "
        f"{' and '.join(found.crowd.frames)} were exactly their back-tests'"
    )
