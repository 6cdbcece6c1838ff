"""Kernels compile for two generations of cards where the toolkit's packages are, without a card."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.compute.cuda.compilation import signatures

ROOT = Path(__file__).parents[3]
LACKING = [n for n in ("numba_cuda", "cuda.bindings.nvjitlink") if not (
    importlib.util.find_spec(n.split(".")[0]) and importlib.util.find_spec(n)
)]  # fmt: skip


def test_every_kernel_is_among_those_that_are_compiled() -> None:
    from compute.cuda import kernels

    there = {name.removesuffix("_kernel") for name in vars(kernels) if name.endswith("_kernel")}
    assert set(signatures()) == there


@pytest.mark.skipif(
    bool(LACKING), reason="the cuda extra is not installed: python3 -m tools.run ptx"
)
@pytest.mark.parametrize("capability", ["8.0", "9.0"])
def test_kernels_compile_without_a_card(capability: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.compute.cuda.compilation", capability],
        cwd=ROOT, env={**os.environ, "NUMBA_ENABLE_CUDASIM": "0"}, capture_output=True, text=True,
        check=False, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [row["kernel"] for row in found] == [*signatures()]
    for row in found:
        assert row["fused"] == 0, "a fused product rounds otherwise than the processor"
        assert (row["products"] > 0) == (row["kernel"] != "votes"), "votes only compare"
        assert row["spilled_bytes"] == row["shared_bytes"] == 0
        assert row["registers"] <= 128
