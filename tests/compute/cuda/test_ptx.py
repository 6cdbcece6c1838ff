"""Kernels compile for two generations of cards where the toolkit's packages are, without a card."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
LACKING = [n for n in ("numba_cuda", "cuda.bindings.nvjitlink") if not (
    importlib.util.find_spec(n.split(".")[0]) and importlib.util.find_spec(n)
)]  # fmt: skip


@pytest.mark.skipif(bool(LACKING), reason="the cuda extra is not installed: pip install '.[cuda]'")
@pytest.mark.parametrize("capability", ["8.0", "9.0"])
def test_kernels_compile_without_a_card(capability: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.compute.cuda.compilation", capability],
        cwd=ROOT, env={**os.environ, "NUMBA_ENABLE_CUDASIM": "0"}, capture_output=True, text=True,
        check=False, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {row["kernel"] for row in found} == {"product", "columns", "fixed", "pairs", "pair"}
    for row in found:
        assert row["fused"] == 0, "a fused product rounds otherwise than the processor"
        assert row["products"] > 0
        assert row["spilled_bytes"] == row["shared_bytes"] == 0
        assert row["registers"] <= 128
