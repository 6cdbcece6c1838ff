"""What a process of `roehub backtest` takes: kernels are compiled once, memory is bounded."""

from __future__ import annotations

from pathlib import Path

import pytest

from compute.jit import CACHE_DIR
from tests.benchmarks.cold import cached
from tests.benchmarks.memory import MIB, run
from tests.benchmarks.observed import peak_rss_bytes
from tests.benchmarks.workloads import equals, many, w2

BARS = 512


def test_a_second_process_compiles_nothing(tmp_path: Path) -> None:
    grid = w2(bars=BARS, average=4, rsi=4)
    run(grid, tmp_path, "--out", str(tmp_path / "out"))
    before = cached(CACHE_DIR)
    again = run(grid, tmp_path, "--out", str(tmp_path / "out"))
    assert again["compiled"] == []
    assert before
    # Another process may add kernels meanwhile; none of those that were there is rewritten.
    after = cached(CACHE_DIR)
    assert {name: after[name] for name in before} == before


def test_peak_memory_does_not_follow_the_variants(tmp_path: Path) -> None:
    few = run(many(100_000, bars=BARS), tmp_path, "--no-columns")
    most = run(many(1_000_000, bars=BARS), tmp_path, "--no-columns")
    ties = run(equals(200_000, bars=BARS), tmp_path, "--no-columns")
    assert most["peak_rss_bytes"] - few["peak_rss_bytes"] < 64 * MIB
    assert ties["peak_rss_bytes"] - few["peak_rss_bytes"] < 64 * MIB
    assert most["peak_rss_bytes"] < 512 * MIB


@pytest.mark.soak
def test_ten_million_variants_and_a_million_ties_in_the_same_memory(tmp_path: Path) -> None:
    few = run(many(100_000, bars=BARS), tmp_path, "--no-columns")
    most = run(many(10_000_000, bars=BARS), tmp_path, "--no-columns")
    ties = run(equals(1_000_000, bars=BARS), tmp_path, "--no-columns")
    assert most["peak_rss_bytes"] - few["peak_rss_bytes"] < 64 * MIB
    assert ties["peak_rss_bytes"] - few["peak_rss_bytes"] < 64 * MIB


def test_peak_memory_is_that_of_this_process() -> None:
    assert peak_rss_bytes() > 32 * MIB
