"""The bars of a job are those it was created with, or an error says what happened to them."""

from __future__ import annotations

import os
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from cluster.jobs.market_file import (
    MarketFileLost,
    made_up,
    market_path,
    read_market,
    write_market,
)
from compute.market.candles import Candles
from compute.market.timeframe import TIMEFRAMES
from compute.market.timeline import Timeline, timeline
from ingest.synthetic import synthetic_candles
from tests.cluster.problems import START_MS, WARMUP_BARS, Problem, request

MINUTE = TIMEFRAMES["1m"]


@pytest.fixture(scope="module")
def problem() -> Problem:
    """Bars of 15m made of minutes with gaps."""
    problem = Problem(request(windows=2, periods=2))
    job = problem.job
    first_ms = START_MS - WARMUP_BARS * job.timeframe.ms
    candles = synthetic_candles(
        seed=5, bars=(job.period.end_ms - first_ms) // MINUTE.ms, frame=MINUTE, start_ms=first_ms
    )
    kept = np.arange(len(candles)) % 1000 > 40
    problem.timeline = timeline(
        candles.take(kept), MINUTE, job.instrument, job.timeframe, job.period, job.warmup_bars
    )
    return problem


def same(one: Timeline, other: Timeline) -> bool:
    def plain(bars: Timeline) -> list[object]:
        values = [getattr(bars, item.name) for item in fields(bars)]
        return [
            [c.tobytes() for c in (v.ts_open_ms, *v.series())] if isinstance(v, Candles) else v
            for v in values
        ]

    return plain(one) == plain(other)


def test_a_timeline_comes_back(problem: Problem, tmp_path: Path) -> None:
    bars = problem.timeline
    assert bars.synthetic > 0
    path = write_market(tmp_path, bars)
    assert path == market_path(tmp_path, bars.fingerprint, "15m")
    found = read_market(tmp_path, problem.job, bars.fingerprint)
    assert same(found, bars)
    assert not found.candles.close.flags.writeable


def test_what_is_there_is_kept_and_young_again(problem: Problem, tmp_path: Path) -> None:
    path = write_market(tmp_path, problem.timeline)
    os.utime(path, (1, 1))
    before = path.stat().st_ino
    assert write_market(tmp_path, problem.timeline) == path
    assert path.stat().st_ino == before
    assert path.stat().st_mtime > 1
    path.write_bytes(b"torn")
    write_market(tmp_path, problem.timeline)
    assert same(read_market(tmp_path, problem.job, problem.timeline.fingerprint), problem.timeline)


def test_the_label_of_made_up_candles_is_the_newest(problem: Problem, tmp_path: Path) -> None:
    told = (problem.timeline.fingerprint, "15m")
    for generated in (False, True, False):
        bars = replace(problem.timeline, generated=generated)
        write_market(tmp_path, bars)
        assert same(read_market(tmp_path, problem.job, bars.fingerprint), bars)
        assert made_up(tmp_path, *told) is generated
    with pytest.raises(MarketFileLost):
        made_up(tmp_path, "0" * 64, "15m")


def test_files_that_are_not_the_jobs(problem: Problem, tmp_path: Path) -> None:
    bars = problem.timeline
    with pytest.raises(MarketFileLost, match=r"No such file .* submit the request again"):
        read_market(tmp_path, problem.job, bars.fingerprint)
    path = write_market(tmp_path, bars)
    content = path.read_bytes()
    other = market_path(tmp_path, "0" * 64, "15m")
    other.write_bytes(content)
    with pytest.raises(MarketFileLost, match=f"of candles {bars.fingerprint}"):
        read_market(tmp_path, problem.job, "0" * 64)
    at = content.index(np.float32(bars.candles.close[7]).tobytes())
    for torn in (content[: len(content) // 2], b"", content[:at] + b"\1" + content[at + 1 :]):
        path.write_bytes(torn)
        with pytest.raises(MarketFileLost):
            read_market(tmp_path, problem.job, bars.fingerprint)


def test_one_fingerprint_serves_several_timeframes(problem: Problem, tmp_path: Path) -> None:
    bars = problem.timeline
    hourly = replace(bars, timeframe=TIMEFRAMES["1h"])
    assert write_market(tmp_path, bars) != write_market(tmp_path, hourly)
    assert same(read_market(tmp_path, problem.job, bars.fingerprint), bars)
