"""Section memory: peak resident memory of `roehub backtest --executor local`, a process a run."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ingest.synthetic import write_candles
from tests.benchmarks.findings import Findings, Goal, Table
from tests.benchmarks.observed import observed
from tests.benchmarks.options import Options
from tests.benchmarks.workloads import INSTRUMENT, Workload, equals, many, w2, w3, w5

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Files:
    """A workload as the command takes it."""

    request: Path
    candles: Path

    def arguments(self, *options: str) -> tuple[str, ...]:
        """Arguments of `roehub` that run it locally."""
        return (
            "backtest", str(self.request), "--candles", str(self.candles),
            "--executor", "local", *options,
        )  # fmt: skip


def written(workload: Workload, directory: Path) -> Files:
    """Request and candles of a workload, as files."""
    directory.mkdir(parents=True, exist_ok=True)
    files = Files(directory / "request.json", directory / "candles.parquet")
    files.request.write_text(json.dumps(workload.body), encoding="utf-8")
    write_candles(
        files.candles, workload.candles, frame=workload.frame, instrument=INSTRUMENT, synthetic=True
    )
    return files


def run(workload: Workload, directory: Path, *options: str, threads: int = 2) -> dict[str, Any]:
    """What one run took; guards are lifted."""
    files = written(workload, directory)
    return observed(
        *files.arguments("--max-variants", str(1 << 40), "--threads", str(threads), *options),
        report=directory / "report.json",
    )


def section_memory(options: Options) -> Findings:
    """Peak memory of the driver: W3, W5, a hundred times the variants, a million equals."""
    cut = options.quick
    bars = 4_096 if cut else 35_040
    most = 1_000_000 if cut else 10_000_000
    runs: list[tuple[str, Workload, bool]] = [
        ("idle", w2(bars=512, average=2, rsi=2), False),
        ("W3", w3(), True),
        ("W5", w5(bars=65_536) if cut else w5(), True),
        ("100 000", many(100_000, bars=bars), False),
        (f"{most}", many(most, bars=bars), False),
        ("equals", equals(100_000 if cut else 1_000_000, bars=bars), False),
    ]
    peak: dict[str, float] = {}
    rows: list[tuple[object, ...]] = []
    with tempfile.TemporaryDirectory(prefix="roehub-bench-") as scratch:
        for name, workload, columns in runs:
            options.say(f"memory: {workload.name}, {workload.job.grid.total} variants")
            directory = Path(scratch, name)
            out = str(directory / "out")
            keep = ("--out", out) if columns else ("--out", out, "--no-columns")
            taken = run(workload, directory, *keep, threads=max(options.threads))
            peak[name] = taken["peak_rss_bytes"] / MIB
            rows.append(
                (workload.name, workload.job.grid.total, "yes" if columns else "no",
                 taken["seconds"], peak[name], peak[name] - peak["idle"])
            )  # fmt: skip
    table = Table(
        "Peak resident memory of the driver, local executor",
        ("workload", "base variants", "columns", "seconds", "peak MiB", "over the first"),
        rows,
        "the first row is the price of Python, Numba, Arrow and a page of output",
    )
    goals = [
        Goal("W3: peak memory", "at most", 1024, peak["W3"], "MiB"),
        Goal("W5: peak memory", "at most", 2048, peak["W5"], "MiB", judged=not cut),
        Goal(
            f"10⁵ to {'10⁶' if cut else '10⁷'} variants, columns off: more memory",
            "at most", 64, peak[f"{most}"] - peak["100 000"], "MiB", judged=not cut,
        ),
        Goal(
            "a million equal variants: more memory than 10⁵ different ones", "at most", 64,
            peak["equals"] - peak["100 000"], "MiB", judged=not cut,
        ),
    ]  # fmt: skip
    return Findings("memory", [table], goals)
