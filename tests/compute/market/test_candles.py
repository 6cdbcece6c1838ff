from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest

from compute.errors import InvalidCandles
from compute.market.candles import SERIES, Candles, frozen


def candles(count: int) -> Candles:
    ramp = np.arange(1, count + 1, dtype=np.float32)
    return Candles(np.arange(count, dtype=np.int64) * 60_000, ramp, ramp, ramp, ramp, ramp)


def test_frozen_is_a_read_only_view_that_leaves_the_callers_array_alone() -> None:
    array = np.arange(6, dtype=np.float32)
    view = frozen(array)
    assert np.shares_memory(view, array)
    assert not view.flags.writeable
    assert array.flags.writeable
    strided = frozen(array[::2])
    assert strided.flags.c_contiguous
    assert not strided.flags.writeable
    assert strided.tolist() == [0, 2, 4]


def test_columns_are_cast_frozen_and_contiguous() -> None:
    wide = np.arange(8, dtype=np.float64)[::2]
    made = Candles(np.arange(4, dtype=np.int32), wide, wide, wide, wide, wide)  # type: ignore[arg-type]
    assert made.ts_open_ms.dtype == np.int64
    for column in made.series():
        assert column.dtype == np.float32
        assert column.flags.c_contiguous
        assert not column.flags.writeable
    assert len(made) == 4


def test_slice_shares_memory_and_take_selects() -> None:
    whole = candles(6)
    part = whole.slice(2, 5)
    assert np.shares_memory(part.close, whole.close)
    assert part.ts_open_ms.tolist() == [120_000, 180_000, 240_000]
    assert whole.take(np.array([5, 0])).close.tolist() == [6, 1]


def test_pickled_candles_come_back_read_only() -> None:
    again = pickle.loads(pickle.dumps(candles(3)))
    assert again.close.tolist() == [1, 2, 3]
    assert not any(column.flags.writeable for column in (again.ts_open_ms, *again.series()))


@pytest.mark.parametrize("name", SERIES)
def test_a_column_of_another_length_is_named(name: str) -> None:
    good = np.ones(3, np.float32)
    columns = dict.fromkeys(SERIES, good) | {name: good[:2]}
    with pytest.raises(InvalidCandles, match=f"{name} must be a numeric array of 3 values"):
        Candles(np.arange(3), **columns)


def test_times_that_are_no_integers_are_refused() -> None:
    good = np.ones(2, np.float32)
    with pytest.raises(InvalidCandles, match="one-dimensional integer array, got 1-d float64"):
        Candles(np.array([0.0, 60_000.0]), good, good, good, good, good)  # type: ignore[arg-type]
    with pytest.raises(InvalidCandles, match="close must be a numeric array"):
        Candles(np.arange(2), good, good, good, np.array(["1", "2"]), good)  # type: ignore[arg-type]


def test_the_vocabulary_imports_nothing_heavy() -> None:
    modules = ["candles", "fingerprint", "instrument", "period", "timeframe", "timeline"]
    code = (
        "import sys\n"
        + "".join(f"import compute.market.{module}\n" for module in modules)
        + "import ingest.candle_files, ingest.synthetic\n"
        + "print([m for m in ('numba', 'pyarrow', 'ray', 'pydantic') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
