"""Section cold: what it takes to start `roehub backtest`, and whether a second process compiles."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.benchmarks.findings import Findings, Goal, Table
from tests.benchmarks.memory import written
from tests.benchmarks.observed import ROOT, observed
from tests.benchmarks.options import Options
from tests.benchmarks.workloads import small

SERIES, ROUNDS = 3, 3
IMPORTS = (sys.executable, "-c", "import numba, pyarrow")


def section_cold(options: Options) -> Findings:
    """Start-up against the imports of numba and pyarrow; compilations of a second process."""
    options.say("cold: a small request in processes of its own")
    with tempfile.TemporaryDirectory(prefix="roehub-bench-") as scratch:
        place = Path(scratch)
        files = written(small(), place)
        arguments = files.arguments("--threads", str(max(options.threads)))
        kernels = place / "kernels"
        fresh = {"ROEHUB_NUMBA_CACHE_DIR": str(kernels)}
        report = place / "report.json"
        first = observed(*arguments, report=report, environment=fresh)
        before = cached(kernels)
        second = observed(*arguments, report=report, environment=fresh)
        after = cached(kernels)
        command = (sys.executable, "-m", "api.cli", *arguments)
        commands = {
            "imports of numba and pyarrow": IMPORTS,
            "roehub backtest": command,
            "roehub backtest --out": (*command, "--out", str(place / "out")),
        }
        environment = _warm_environment(place / "bytecode")
        for line in commands.values():
            _seconds(line, environment)  # files in memory, bytecode written, kernels compiled
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for _ in range(SERIES * ROUNDS):
            for name, line in commands.items():
                found[name].append(_seconds(line, environment))
    median = {name: statistics.median(wall for wall, _ in found[name]) for name in commands}
    cpu = {name: statistics.median(busy for _, busy in found[name]) for name in commands}
    imports = median["imports of numba and pyarrow"]
    rows: list[tuple[object, ...]] = [
        (name, seconds, seconds - imports, cpu[name]) for name, seconds in median.items()
    ]
    rows.append(("first run of all, kernels compiled", first["seconds"], None, None))
    new = len(after.keys() - before.keys()) + sum(
        after[name] != time_ns for name, time_ns in before.items() if name in after
    )
    table = Table(
        "Cold start: 100 base variants × 100 pairs over a month of 15m",
        ("command", "seconds", "over the imports", "CPU seconds"),
        rows,
        f"{len(before)} files of compiled kernels; the first run compiled "
        f"{len(first['compiled'])} kernels, the second {len(second['compiled'])}",
    )
    over = {name: _least_over(found, name) for name in commands}
    goals = [
        Goal("cold start over the imports", "at most", 1.0, over["roehub backtest"], "s"),
        Goal(
            "cold start with --out over the imports", "at most", 1.0,
            over["roehub backtest --out"], "s",
        ),
        Goal(
            "kernels compiled by a second process", "at most", 0,
            float(len(second["compiled"])), "kernels",
        ),
        Goal("cache files written by a second process", "at most", 0, float(new), "files"),
    ]  # fmt: skip
    return Findings("cold", [table], goals)


def _least_over(found: Mapping[str, list[tuple[float, float]]], name: str) -> float:
    """Seconds over the imports in the calmest series of rounds."""
    differences = []
    for first in range(0, SERIES * ROUNDS, ROUNDS):
        median, imports = (
            statistics.median(wall for wall, _ in found[one][first : first + ROUNDS])
            for one in (name, "imports of numba and pyarrow")
        )
        differences.append(median - imports)
    return min(differences)


def cached(directory: Path) -> Mapping[str, int]:
    """Time of last change, in ns, of every file of compiled kernels under `directory`."""
    return {
        str(path.relative_to(directory)): path.stat().st_mtime_ns
        for path in directory.rglob("*.nbc")
    }


def _warm_environment(bytecode: Path) -> dict[str, str]:
    """An environment in which Python keeps its bytecode, wherever it may write."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(bytecode)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return environment


def _seconds(command: Sequence[str], environment: dict[str, str]) -> tuple[float, float]:
    """(wall, CPU) seconds of one process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
    wall = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
