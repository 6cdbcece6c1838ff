"""A load that fills the disk fails with the cure, and is whole when it is run again.

The disk is a small file system in a mount namespace of its own: for root on Linux only.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.cli import ROOT
from tests.ingest.candle_tables import candle_table, parquet

ROWS = 250_000
SCRIPT = """
set -u
mount -t tmpfs -o size=16m tmpfs "$ROEHUB_DATA_DIR"
load() { "$PYTHON" -m api.cli ingest backfill-1m --market-id 1 --symbol FULLUSDT --file "$1"; }
load "$1" >/dev/null; echo "status $?"
mount -o remount,size=400m "$ROEHUB_DATA_DIR"
load "$1" >/dev/null; echo "status $?"
"$PYTHON" -m api.cli ingest coverage --report-format json
"""


def namespaces() -> bool:
    """Whether a file system can be mounted here that nobody else sees."""
    probe = "mount -t tmpfs tmpfs /mnt"
    try:
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", probe], capture_output=True, check=False
        )
    except OSError:
        return False
    return done.returncode == 0


@pytest.mark.soak
@pytest.mark.skipif(not namespaces(), reason="no mount namespaces here (unshare -m as root)")
def test_a_full_disk_is_told_and_nothing_is_lost_or_twice(tmp_path: Path) -> None:
    file = parquet(tmp_path / "a.parquet", candle_table(ROWS, start_ms=1_600_000_020_000))
    (tmp_path / "data").mkdir()
    environ = {**os.environ, "PYTHON": sys.executable, "ROEHUB_DATA_DIR": str(tmp_path / "data")}
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", SCRIPT, "sh", str(file)],
        cwd=ROOT, env=environ, capture_output=True, text=True, check=False,
    )  # fmt: skip
    full, again, covered = done.stdout.splitlines()
    assert (full, again) == ("status 1", "status 0"), done.stderr
    assert "is full: free some space or move it (ROEHUB_DATA_DIR)" in done.stderr
    (row,) = json.loads(covered)["instruments"]
    assert (row["minutes"], row["missing"]) == (ROWS, 0)
