"""Real market data, read only where `ROEHUB_CANDLES_DIR` says there is some."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from compute.market.instrument import Instrument
from compute.market.period import Period
from compute.market.timeframe import TIMEFRAMES
from compute.market.timeline import timeline
from ingest.candle_files import read_candles

DIRECTORY = os.environ.get("ROEHUB_CANDLES_DIR")
FILES = sorted(Path(DIRECTORY).glob("*.parquet")) if DIRECTORY else []

pytestmark = pytest.mark.skipif(
    not FILES, reason="ROEHUB_CANDLES_DIR names no directory with Parquet candles"
)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_real_file_makes_a_clean_timeline_of_every_timeframe(path: Path) -> None:
    file = read_candles(path)
    assert f"-{file.frame.code}-" in path.name
    times = file.candles.ts_open_ms
    assert len(file.candles) == file.rows
    whole = Period(int(times[0]), int(times[-1]) + file.frame.ms)
    for timeframe in TIMEFRAMES.values():
        if timeframe.ms < file.frame.ms:
            continue
        line = timeline(file.candles, file.frame, Instrument(1, "X"), timeframe, whole, 1)
        opens = line.candles.ts_open_ms
        assert (np.diff(opens) == timeframe.ms).all()
        assert all(np.isfinite(column).all() for column in line.candles.series())
        assert line.rows == file.rows
        warmup_slots = (whole.start_ms - line.load.start_ms) // file.frame.ms
        assert line.missing - warmup_slots == whole.duration_ms // file.frame.ms - file.rows
        assert (line.candles.volume[line.candles.high != line.candles.low] > 0).all()
        inside = times < int(opens[-1]) + timeframe.ms
        total = file.candles.volume[inside].sum(dtype=np.float64)
        assert line.candles.volume.sum(dtype=np.float64) == pytest.approx(total, rel=1e-6)
