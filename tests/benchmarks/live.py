"""Section live: a thousand runs over a hundred instruments, and what one more bar costs."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cluster.postgres.schema import migrate
from cluster.postgres.server import embedded_postgres
from tests.benchmarks.findings import Findings
from tests.benchmarks.live_bars import bar_findings, bars
from tests.benchmarks.live_load import Load, load, load_findings
from tests.benchmarks.live_place import Crowd
from tests.benchmarks.options import Options


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured: crowds, histories, and the bars that are timed after each."""

    crowds: tuple[Crowd, ...]
    histories: tuple[int, ...]
    timed: int


# An hour and a minute has closes of every frame; bars of a minute close each time.
FULL: Final = Sizes(
    (Crowd(100, 10, ("15m", "1h"), 61), Crowd(100, 10, ("1m",), 20)), (1_000, 10_000, 100_000), 300
)
QUICK: Final = Sizes((Crowd(20, 10, ("15m",), 16), Crowd(20, 10, ("1m",), 5)), (1_000, 10_000), 100)


def section_live(options: Options) -> Findings:
    """Offered to committed for each crowd, taking them up, and a bar by its history."""
    sizes, judged = QUICK if options.quick else FULL, not options.quick
    loads: list[Load] = []
    for crowd in sizes.crowds:
        options.say(
            f"live: {crowd.runs} runs of {' and '.join(crowd.frames)} over {crowd.instruments} "
            f"instruments, {crowd.minutes} minutes"
        )
        loads.append(_loaded(crowd))
    options.say(f"live: a closed bar after {', '.join(map(str, sizes.histories))} bars")
    table, flat = bar_findings(bars(sizes.histories, sizes.timed), judged=judged)
    tables, goals = load_findings(loads, judged=judged)
    return Findings("live", [*tables, table], [*goals, *flat])


def _loaded(crowd: Crowd) -> Load:
    """What a crowd costs on servers of its own, with the settings that users have."""
    with tempfile.TemporaryDirectory(prefix="roehub-bench-") as scratch:
        directory = Path(scratch)
        with embedded_postgres(directory / "postgres") as dsn:
            migrate(dsn)
            return load(directory, dsn, crowd)
