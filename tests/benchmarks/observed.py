"""Runs one `roehub` command in this process and reports what it took, as JSON.

    python -m tests.benchmarks.observed REPORT.json backtest REQUEST.json --candles FILE …

The report has the command's exit status, this process's peak resident memory and the kernels that
Numba compiled (not those it read from its cache).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def peak_rss_bytes() -> int:
    """Most resident memory of this process; rusage would count what its parent held, too."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no VmHWM")


def observed(
    *arguments: str, report: Path, environment: dict[str, str] | None = None
) -> dict[str, Any]:
    """What `roehub` with these arguments took, in a process of its own.

    Raises: RuntimeError with the command's own words when it fails.
    """
    command = [sys.executable, "-m", "tests.benchmarks.observed", str(report), *arguments]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, **(environment or {})},
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"roehub {' '.join(arguments)}\n{done.stderr[-2000:]}")
    return json.loads(report.read_text(encoding="utf-8"))


def main(report: str, *arguments: str) -> int:
    """Exit status of `roehub` with these arguments."""
    import compute.jit  # noqa: F401  # first: it tells Numba where to cache

    # isort: split
    from numba.core import event

    import api.cli

    compiled: list[str] = []

    class Listener(event.Listener):
        def on_start(self, event: Any) -> None:
            compiled.append(str(event.data["dispatcher"].py_func.__name__))

        def on_end(self, event: Any) -> None:
            pass

    began = time.perf_counter()
    status = 0
    with event.install_listener("numba:compile", Listener()):
        try:
            api.cli.app(list(arguments))
        except SystemExit as ended:
            status = int(ended.code or 0)
    taken = {
        "status": status,
        "peak_rss_bytes": peak_rss_bytes(),
        "compiled": compiled,
        "seconds": time.perf_counter() - began,
    }
    Path(report).write_text(json.dumps(taken), encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
