"""What the numbers were measured on, as far as it explains them."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

_SIMD = (("avx512f", "AVX-512"), ("avx2", "AVX2"), ("asimd", "NEON"))


def machine() -> dict[str, Any]:
    """Architecture, cores, vector width, last private cache, memory and versions."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "architecture": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "vectors": _vectors(),
        "L2 KiB": _l2_kib(),
        "memory GiB": round(pages / 2**30, 1),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        **{name: version(name) for name in ("numba", "numpy", "pyarrow", "ray")},
    }


def _vectors() -> str:
    try:
        words = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    except OSError:
        return "unknown"
    return next((name for flag, name in _SIMD if flag in words), "none")


def _l2_kib() -> int | None:
    try:
        size = Path("/sys/devices/system/cpu/cpu0/cache/index2/size").read_text(encoding="ascii")
    except OSError:
        return None
    return int(size.strip().removesuffix("K"))
