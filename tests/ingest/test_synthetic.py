from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from compute.errors import InvalidInput
from compute.market.candles import Candles
from compute.market.instrument import Instrument
from compute.market.period import LAST_MS
from compute.market.timeframe import TIMEFRAMES
from ingest.candle_files import read_candles
from ingest.synthetic import synthetic_candles, walk_candles, write_candles

START = 1_704_067_200_000
MINUTE = TIMEFRAMES["1m"]
DEMO = Instrument(1, "DEMOUSDT")

Generated = Callable[..., Candles]


@pytest.fixture(params=[synthetic_candles, walk_candles])
def generated(request: pytest.FixtureRequest) -> Generated:
    return request.param


def content(candles: Candles) -> bytes:
    return b"".join(c.tobytes() for c in (candles.ts_open_ms, *candles.series()))


def returns(candles: Candles) -> np.ndarray:
    return np.diff(np.log(candles.close.astype(np.float64)))


def test_same_seed_same_bytes(generated: Generated) -> None:
    first, again, other = (
        content(generated(seed=seed, bars=5_000, frame=MINUTE, start_ms=START))
        for seed in (11, 11, 12)
    )
    assert first == again
    assert first != other


@pytest.mark.parametrize("code", TIMEFRAMES)
@pytest.mark.parametrize("bars", [1, 2, 7, 3_000])
def test_candles_are_possible_on_the_tick_and_on_the_grid(
    generated: Generated, code: str, bars: int
) -> None:
    frame = TIMEFRAMES[code]
    candles = generated(seed=5, bars=bars, frame=frame, start_ms=START)
    opens, high, low, close, volume = candles.series()
    assert (low <= np.minimum(opens, close)).all()
    assert (high >= np.maximum(opens, close)).all()
    assert (low > 0).all()
    assert (volume > 0).all()
    assert np.isfinite(volume).all()
    for column in (opens, high, low, close):
        ticks = np.round(column.astype(np.float64) * 100)
        assert ((ticks / 100).astype(np.float32) == column).all()
    assert candles.ts_open_ms[0] == START
    assert candles.ts_open_ms[-1] == START + (bars - 1) * frame.ms
    assert (np.diff(candles.ts_open_ms) % frame.ms == 0).all()


def test_gaps_are_missing_rows_and_can_be_left_out() -> None:
    gappy = synthetic_candles(seed=1, bars=20_000, frame=MINUTE, start_ms=START)
    whole = synthetic_candles(seed=1, bars=20_000, frame=MINUTE, start_ms=START, gaps=False)
    assert len(whole) == 20_000
    assert 0.9 * 20_000 < len(gappy) < 20_000
    kept = np.isin(whole.ts_open_ms, gappy.ts_open_ms)
    assert content(whole.take(kept)) == content(gappy)
    assert len(walk_candles(seed=1, bars=20_000, frame=MINUTE, start_ms=START)) == 20_000


def test_a_hundred_bars_already_have_a_gap() -> None:
    for seed in range(5):
        assert len(synthetic_candles(seed=seed, bars=2_000, frame=MINUTE, start_ms=START)) < 2_000


def test_market_has_fat_tails_clustered_volatility_and_a_daily_season() -> None:
    candles = synthetic_candles(seed=2, bars=60_000, frame=MINUTE, start_ms=START, gaps=False)
    moves = returns(candles)
    kurtosis = np.mean((moves - moves.mean()) ** 4) / moves.var() ** 2
    assert kurtosis > 8
    size = np.abs(moves)
    assert np.corrcoef(size[:-60], size[60:])[0, 1] > 0.1
    hour = candles.ts_open_ms[1:] // 3_600_000 % 24
    by_hour = np.array([np.median(size[hour == h]) for h in range(24)])
    assert by_hour[13:18].mean() > 1.4 * by_hour[0:6].mean()
    assert np.corrcoef(candles.volume[1:], size)[0, 1] > 0.4


def test_market_has_trends_and_ranges_beyond_a_walk() -> None:
    def spread_of_ratios(candles: Candles) -> float:
        # Net move over the path's length, in windows of 500 bars: both trends and ranges widen it.
        moves = returns(candles)[: 120 * 500].reshape(120, 500)
        ratios = np.abs(moves.sum(axis=1)) / np.sqrt((moves**2).sum(axis=1))
        return float(ratios.std())

    market = synthetic_candles(seed=4, bars=60_100, frame=MINUTE, start_ms=START, gaps=False)
    walk = walk_candles(seed=4, bars=60_100, frame=MINUTE, start_ms=START)
    assert spread_of_ratios(market) > 1.2 * spread_of_ratios(walk)


def test_prices_stay_where_float32_holds_the_tick() -> None:
    # 200 years of days would leave any band without the fold.
    candles = walk_candles(seed=9, bars=70_000, frame=TIMEFRAMES["1d"], start_ms=0)
    assert candles.close.min() >= 4_000
    assert candles.close.max() <= 100_000


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"seed": -1}, "seed must be >= 0, got -1"),
        ({"bars": 0}, "bars must be between 1 and 20000000, got 0"),
        ({"bars": 10**9}, "bars must be between 1 and 20000000"),
        ({"start_ms": START + 1}, "must be a multiple of 1m from the epoch"),
        ({"start_ms": -60_000}, "leave 1970 to 9999"),
        ({"start_ms": (LAST_MS + 1) - 60_000}, "leave 1970 to 9999"),
    ],
)
def test_markets_that_make_no_sense(
    generated: Generated, wrong: dict[str, int], words: str
) -> None:
    with pytest.raises(InvalidInput, match=words):
        generated(**({"seed": 1, "bars": 100, "frame": MINUTE, "start_ms": START} | wrong))


def test_written_candles_read_back_without_flags(tmp_path: Path) -> None:
    path = tmp_path / "demo.parquet"
    candles = synthetic_candles(seed=1, bars=3_000, frame=TIMEFRAMES["1h"], start_ms=START)
    for synthetic in (True, False):
        write_candles(path, candles, frame=TIMEFRAMES["1h"], instrument=DEMO, synthetic=synthetic)
        file = read_candles(path, instrument=DEMO)
        assert content(file.candles) == content(candles)
        assert (file.frame.code, file.instrument) == ("1h", DEMO)
        assert file.synthetic is synthetic
    assert [entry.name for entry in tmp_path.iterdir()] == ["demo.parquet"]
    schema = pq.read_schema(path)
    assert schema.metadata == {b"roehub.timeframe": b"1h", b"roehub.synthetic": b"false"}
    assert str(schema.field("ts_open").type) == "timestamp[ms, tz=UTC]"


@pytest.mark.parametrize("place", ["absent/demo.parquet", "file/demo.parquet", "dir.parquet"])
def test_an_unwritable_place_is_refused_and_left_clean(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dir.parquet").mkdir()
    (tmp_path / "dir.parquet" / "kept").touch()
    candles = walk_candles(seed=1, bars=10, frame=MINUTE, start_ms=START)
    with pytest.raises(InvalidInput, match=r"cannot write candles to .*; choose a file in a"):
        write_candles(tmp_path / place, candles, frame=MINUTE, instrument=DEMO, synthetic=True)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["dir.parquet", "file"]


def test_a_failed_write_keeps_the_file_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "demo.parquet"
    path.write_bytes(b"before")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    candles = walk_candles(seed=1, bars=10, frame=MINUTE, start_ms=START)
    with pytest.raises(InvalidInput, match="No space left on device"):
        write_candles(path, candles, frame=MINUTE, instrument=DEMO, synthetic=True)
    assert path.read_bytes() == b"before"
    assert [entry.name for entry in tmp_path.iterdir()] == ["demo.parquet"]


def test_only_parquet_is_written(tmp_path: Path) -> None:
    candles = walk_candles(seed=1, bars=10, frame=MINUTE, start_ms=START)
    with pytest.raises(InvalidInput, match=r"must end in \.parquet"):
        write_candles(tmp_path / "demo.csv", candles, frame=MINUTE, instrument=DEMO, synthetic=True)
