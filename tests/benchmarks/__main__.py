"""The benchmark: proves that results are right, then measures what they cost.

    python -m tests.benchmarks
        [w1 votes w2 w3 w4 w5 scaling corners memory cold store backfill feed ray live
         service peers cuda]
        [--device cuda] [--threads 1,2] [--json FILE] [--page FILE] [--quick] [--check]

Without a section all of them run but `cuda`, which needs a card: `--device cuda` is short for it.
`--check` ends with status 1 when a goal is missed, `--quick`
cuts sizes and rounds; goals that hang on full sizes are then shown without a verdict. `--json`
keeps the sections that the file has from earlier runs; `--page` rewrites the measured part of a
page.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table as Printed

from compute.device import DeviceUnavailable
from tests.benchmarks.findings import Findings, Goal, Table, figure, missed
from tests.benchmarks.machine import machine
from tests.benchmarks.options import Options
from tests.benchmarks.page import rewrite

SECTIONS: Final = {
    "w1": "library",
    "votes": "library",
    "w2": "stages",
    "w3": "stages",
    "w4": "stages",
    "w5": "stages",
    "scaling": "scaling",
    "corners": "scaling",
    "memory": "memory",
    "cold": "cold",
    "store": "candle_store",
    "backfill": "backfill",
    "feed": "market_feed",
    "ray": "spread",
    "live": "live",
    "service": "service",
    "peers": "peers",
    "cuda": "card",
}


def section(name: str, options: Options) -> Findings:
    """What one section finds; its module is imported here."""
    module = importlib.import_module(f"tests.benchmarks.{SECTIONS[name]}")
    return getattr(module, f"section_{name}")(options)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, or 1 when `--check` finds a goal missed."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--device", choices=("cuda",), help="the section of a card alone")
    parser.add_argument("--threads", default=None, help="comma-separated; default 1,2")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also keep everything here")
    parser.add_argument("--page", type=Path, metavar="FILE", help="also rewrite this page")
    parser.add_argument("--quick", action="store_true", help="smaller sizes, fewer rounds")
    parser.add_argument("--check", action="store_true", help="status 1 when a goal is missed")
    given = parser.parse_args(arguments)
    unknown = [name for name in given.sections if name not in SECTIONS]
    if unknown:
        parser.error(f"unknown section {unknown[0]!r}; there are {', '.join(SECTIONS)}")
    try:
        threads = _threads(given.threads)
    except ValueError:
        parser.error(f"--threads takes numbers from 1 up like 1,2; got {given.threads!r}")
    console = Console(width=None if sys.stdout.isatty() else 160)
    options = Options(threads, given.quick, lambda line: console.print(f"[dim]{escape(line)}[/]"))
    keep = Keep(options, given.json, given.page)
    names = given.sections or [name for name in SECTIONS if name != "cuda"]
    if given.device:
        names = [given.device]
    try:
        return run(names, options, console, keep, given.check)
    except DeviceUnavailable as lacking:
        parser.error(lacking.message)


def run(names: Sequence[str], options: Options, console: Console, keep: Keep, check: bool) -> int:
    """Runs the sections in turn, prints each as it ends and the goals of all at last."""
    console.print(
        ", ".join(f"{name} {value}" for name, value in machine().items()), highlight=False
    )
    found: list[Findings] = []
    seconds: dict[str, float] = {}
    for name in names:
        began = time.perf_counter()
        found.append(section(name, options))
        seconds[name] = time.perf_counter() - began
        for table in found[-1].tables:
            show(table, console)
        keep.add(found[-1], seconds[name])  # what is measured is kept, whatever comes later
    goals = [goal for one in found for goal in one.goals]
    if goals:
        show(verdicts(goals), console)
    short = missed(goals)
    if goals:
        console.print(
            f"{len(short)} of {len(goals)} goals missed; the whole took "
            f"{sum(seconds.values()):.0f} s; load now {os.getloadavg()[0]:.1f}",
            highlight=False,
        )
    return 1 if check and short else 0


class Keep:
    """Files that hold what was measured: JSON, and the page made from it."""

    def __init__(self, options: Options, file: Path | None, page: Path | None) -> None:
        self._file, self._page = file, page
        self.record: dict[str, Any] = {
            "machine": machine(),
            "threads": list(options.threads),
            "quick": options.quick,
            "seconds": {},
            "sections": {},
        }
        if file is not None and file.is_file():
            before = json.loads(file.read_text(encoding="utf-8"))
            self.record["seconds"] = before["seconds"]
            self.record["sections"] = before["sections"]

    def add(self, found: Findings, seconds: float) -> None:
        """Takes the findings of a section, in the order of `SECTIONS`, and writes."""
        self.record["seconds"][found.section] = seconds
        sections = {**self.record["sections"], found.section: found.record()}
        self.record["sections"] = {name: sections[name] for name in SECTIONS if name in sections}
        if self._file is not None:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.write_text(json.dumps(self.record, indent=1) + "\n", encoding="utf-8")
        if self._page is not None:
            rewrite(self._page, self.record)


def verdicts(goals: Sequence[Goal]) -> Table:
    """Goals, what was measured, and the verdict, a line each."""
    rows = [
        (goal.name, f"{goal.kind} {figure(goal.limit)} {goal.unit}",
         f"{figure(goal.measured)} {goal.unit}" if goal.measured is not None else "–",
         goal.verdict)
        for goal in goals
    ]  # fmt: skip
    return Table("Goals", ("goal", "needed", "measured", "verdict"), rows)


def show(table: Table, console: Console) -> None:
    """Prints a table: numbers to the right, text to the left, its note below."""
    console.print(table.title, style="bold", markup=False, highlight=False)
    made = Printed()
    for at, name in enumerate(table.columns):
        text = all(isinstance(row[at], str) for row in table.rows)
        made.add_column(name, justify="left" if text else "right", overflow="fold")
    for row in table.rows:
        cells = [escape(figure(value)) for value in row]
        style = {"MISSED": "red", "met": "green"}.get(str(row[-1]))
        made.add_row(*cells, style=style)
    console.print(made)
    if table.note:
        console.print(table.note, style="dim", markup=False, highlight=False)
    console.print()


def _threads(text: str | None) -> tuple[int, ...]:
    if text is None:
        return tuple(range(1, min(2, len(os.sched_getaffinity(0))) + 1))
    counts = tuple(sorted({int(part) for part in text.split(",")}))
    if counts[0] < 1:
        raise ValueError(text)
    return counts


if __name__ == "__main__":
    sys.exit(main())
