"""No kernel runs in the process of the service."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.api.service.market import store_directory
from tests.cluster.cli import ROOT

__all__ = ["store_directory"]


def test_kernels_run_in_workers_only(store_directory: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.api.service.kernel_count", str(store_directory)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert set(found["answers"]) == {200}
    assert found["service"] == []
    assert found["after one call"], "the count sees nothing at all"
