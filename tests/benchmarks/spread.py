"""Section ray: what a cluster on one machine costs over threads, and what its store holds."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import psutil

from compute.executor import Executor, LocalExecutor
from compute.pipeline import Outcome, backtest
from tests.benchmarks.findings import Findings, Goal, Table
from tests.benchmarks.options import Options
from tests.benchmarks.proof import Unequal
from tests.benchmarks.rounds import Work, interleaved
from tests.benchmarks.stages import UNGUARDED
from tests.benchmarks.workloads import Workload, w2, w3, w5, w5_times_ten

MIB = 1 << 20


def section_ray(options: Options) -> Findings:
    """W5 × 10 on threads and on Ray, workers warm; bytes shared against the number of tasks."""
    import cluster.batches
    from cluster.ray_executor import RayExecutor
    from cluster.ray_session import ray_session

    class Counting(RayExecutor):
        """Counts the tasks it hands out."""

        tasks = 0

        def _submitted(self, *arguments: Any, **named: Any) -> Any:  # type: ignore[override]
            self.tasks += 1
            return super()._submitted(*arguments, **named)

    workload = w5_times_ten(bars=65_536) if options.quick else w5_times_ten()
    threads = max(options.threads)
    options.say(f"ray: {workload.name}, {workload.job.grid.total} variants, {threads} cores")
    bars = workload.timeline()

    def search(executor: Executor) -> Outcome:
        return backtest(workload.job, bars, executor, limits=UNGUARDED)

    with ray_session(None, threads), Counting(threads) as ray, LocalExecutor(threads) as local:
        counted = cast(Counting, ray)
        tiny, sent_out = w2(bars=2_880, average=10, rsi=10), Counting(threads, smallest_ns=0)
        tiny_bars = tiny.timeline()
        backtest(tiny.job, tiny_bars, sent_out, limits=UNGUARDED)  # workers up, kernels loaded
        memory = _memory([w3(), w5(), workload] if not options.quick else [w3(), workload], ray)
        _same(search(local), search(ray))
        runs: dict[str, Work] = {
            "local": lambda: search(local),
            "ray": lambda: search(ray),
            "tiny local": lambda: backtest(tiny.job, tiny_bars, local, limits=UNGUARDED),
            "tiny ray": lambda: backtest(tiny.job, tiny_bars, sent_out, limits=UNGUARDED),
        }
        times = interleaved(runs, rounds=2 if options.quick else 3)
        shared: list[tuple[float, int, int, float, float]] = []
        usual = cluster.batches.TASK_SECONDS
        for seconds in (usual, usual / 100):
            cluster.batches.TASK_SECONDS = seconds  # type: ignore[misc]
            tasks, puts, put = counted.tasks, ray.shared.puts, ray.shared.bytes
            store = Peak(partial(_pss_bytes, "Pss_Shmem:"))
            with store:
                search(ray)
            shared.append(
                (seconds, counted.tasks - tasks, ray.shared.puts - puts,
                 (ray.shared.bytes - put) / MIB, store.most / MIB)
            )  # fmt: skip
        cluster.batches.TASK_SECONDS = usual  # type: ignore[misc]
        sent_out.close()
    here, there = times.median("local"), times.median("ray")
    rows: list[tuple[object, ...]] = [
        (workload.name, here, there, there - here, there / here),
        ("100 variants, every stage sent out", times.median("tiny local"),
         times.median("tiny ray"), times.median("tiny ray") - times.median("tiny local"),
         times.median("tiny ray") / times.median("tiny local")),
    ]  # fmt: skip
    allowed = max(0.15 * here, 0.3)
    tables = [
        Table(
            f"Ray against threads, {threads} cores, workers warm",
            ("workload", "local s", "ray s", "more s", "ratio"),
            rows,
            "both from candles in memory to top-K; equal results were asserted",
        ),
        Table(
            "What the object store holds",
            ("seconds a task", "tasks", "arrays put", "put MiB", "store's peak MiB"),
            shared,
            "peak: shared memory mapped by the driver and all processes of the cluster",
        ),
        Table(
            "Memory with Ray: sum of PSS over the driver and all its processes",
            ("workload", "idle cluster MiB", "peak MiB", "difference MiB"),
            memory,
        ),
    ]
    goals = [
        Goal(
            f"{workload.name}: Ray over local (15 % of {here:.2f} s, or 0.3 s)", "at most",
            allowed, there - here, "s", judged=not options.quick,
        ),
        Goal(
            f"object-store bytes, {shared[1][1]} tasks over {shared[0][1]} tasks", "at most", 1.0,
            shared[1][3] / shared[0][3], "×",
        ),
    ]  # fmt: skip
    return Findings("ray", tables, goals)


def _memory(workloads: list[Workload], executor: Executor) -> list[tuple[object, ...]]:
    """Rows of what each workload needs above an idle cluster."""
    idle = _pss_bytes() / MIB
    rows: list[tuple[object, ...]] = []
    for workload in workloads:
        peak = Peak(_pss_bytes)
        with peak:
            backtest(workload.job, workload.timeline(), executor, limits=UNGUARDED)
        rows.append((workload.name, idle, peak.most / MIB, peak.most / MIB - idle))
    return rows


def _same(local: Outcome, ray: Outcome) -> None:
    for name in ("index", "equity", "trades", "drawdown"):
        if not np.array_equal(getattr(local.top, name), getattr(ray.top, name)):
            raise Unequal(f"Ray and threads rank other variants: {name}")


class Peak:
    """The largest of a quantity while the block lasts, looked at ten times a second."""

    def __init__(self, quantity: Callable[[], float]) -> None:
        self._quantity = quantity
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.most = quantity()

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.1):
            self.most = max(self.most, self._quantity())


def _pss_bytes(member: str = "Pss:") -> float:
    """Proportional set size of this process and all below it: shared pages count once.

    "Pss_Shmem:" is the part of it in shared memory.
    """
    total = 0
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        try:
            lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii")
        except OSError:
            continue  # it ended meanwhile
        total += sum(
            int(line.split()[1]) * 1024 for line in lines.splitlines() if line.startswith(member)
        )
    return float(total)
