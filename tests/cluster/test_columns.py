"""variants.parquet: every row in its place, whole or not at all, in bounded memory."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cluster.columns
from cluster.columns import ColumnFile, write_shortlist
from compute.errors import InvalidInput
from compute.grid import Axis, Grid, IndicatorGrid
from compute.indicators.registry import definition
from compute.ranking import Scores

LABELS = {"roehub.engine_version": "1"}


def grid(windows: int = 7) -> Grid:
    sma, rsi = definition("ma.sma"), definition("momentum.rsi")
    return Grid(
        (
            IndicatorGrid(
                sma,
                "sma",
                (Axis("source", ("close", "hlc3")), Axis("window", tuple(range(5, 5 + windows)))),
                (),
            ),
            IndicatorGrid(
                rsi,
                "rsi",
                (Axis("source", ("close",)), Axis("window", (14,))),
                (Axis("long_threshold", (50, 52.5, 55)), Axis("short_threshold", (45,))),
            ),
        )
    )


def block(index: np.ndarray) -> dict[str, np.ndarray]:
    """Columns that tell which variant they belong to."""
    return {
        "index": index,
        "total_return_pct": index * 0.5,
        "num_trades": (index % 5).astype(np.int32),
        "win_rate_pct": np.where(index % 5 == 0, np.nan, 40.0 + index),
        "profit_factor": np.where(index % 7 == 0, np.inf, index + 0.25),
    }


def fed(path: Path, variants: Grid, order: np.ndarray, size: int) -> ColumnFile:
    columns = ColumnFile(path, variants, LABELS)
    for at in range(0, len(order), size):
        columns(block(order[at : at + size]))
    return columns


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), size=st.integers(1, 50), group=st.integers(1, 60))
def test_any_order_of_blocks_gives_the_same_file(
    tmp_path_factory: pytest.TempPathFactory, seed: int, size: int, group: int
) -> None:
    directory = tmp_path_factory.mktemp("columns")
    variants = grid()
    order = np.random.default_rng(seed).permutation(variants.total)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster.columns, "_GROUP_ROWS", group)
        patch.setattr(cluster.columns, "_DIRTY_ROWS", 9)
        fed(directory / "a.parquet", variants, order, size).finish()
        fed(directory / "b.parquet", variants, np.arange(variants.total), 1000).finish()
    assert (directory / "a.parquet").read_bytes() == (directory / "b.parquet").read_bytes()


def test_every_row_has_its_parameters_and_scores(tmp_path: Path) -> None:
    variants = grid()
    order = np.random.default_rng(1).permutation(variants.total)
    written = fed(tmp_path / "variants.parquet", variants, order, 11).finish()
    table = pq.read_table(written.path)
    rows = table.to_pylist()
    assert (written.rows, written.variants) == (42, 42)
    for flat, row in enumerate(rows):
        sma, rsi = variants.selection(flat)
        assert row["flat_index"] == flat
        assert row["ma.sma.source"] == sma.inputs["source"]
        assert row["ma.sma.window"] == sma.params["window"]
        assert row["momentum.rsi.long_threshold"] == rsi.signals["long_threshold"]
        assert row["total_return_pct"] == flat * 0.5
        assert row["num_trades"] == flat % 5
        assert row["win_rate_pct"] == (None if flat % 5 == 0 else 40.0 + flat)
        assert row["profit_factor"] == (np.inf if flat % 7 == 0 else flat + 0.25)
    schema = table.schema
    assert schema.field("ma.sma.window").type == pa.int64()
    assert schema.field("momentum.rsi.long_threshold").type == pa.float64()
    assert pa.types.is_dictionary(schema.field("ma.sma.source").type)
    assert schema.field("total_return_pct").metadata[b"score"] == b"fast"
    assert schema.metadata[b"roehub.rows"] == b"all"
    assert schema.metadata[b"roehub.engine_version"] == b"1"
    assert [p.name for p in tmp_path.iterdir()] == ["variants.parquet"]


def test_a_stopped_run_keeps_what_came(tmp_path: Path) -> None:
    variants = grid()
    came = np.array([40, 3, 17])
    columns = fed(tmp_path / "variants.parquet", variants, came, 2)
    written = columns.keep_partial(tmp_path / "variants.partial.parquet")
    table = pq.read_table(written.path)
    assert table["flat_index"].to_pylist() == [3, 17, 40]
    assert table["total_return_pct"].to_pylist() == [1.5, 8.5, 20.0]
    assert table.schema.metadata[b"roehub.rows"] == b"partial"
    assert columns.best(2) == [(40, 20.0, 0), (17, 8.5, 2)]
    found = columns.returns()
    assert found[17] == 8.5
    assert np.isnan(found).sum() == variants.total - 3


def test_the_shortlist_alone(tmp_path: Path) -> None:
    index = np.array([9, 2])
    scores = Scores(
        index, np.array([1.5, 1.25]), np.array([4, 0], np.int32), np.array([1, 0], np.int32),
        np.array([3.0, 0.0]), np.array([2.0, 0.0]), np.array([np.nan, np.nan]),
    )  # fmt: skip
    written = write_shortlist(tmp_path / "v.parquet", grid(), scores, LABELS)
    table = pq.read_table(written.path)
    assert table["flat_index"].to_pylist() == [2, 9]
    assert table["total_return_pct"].to_pylist() == [25.0, 50.0]
    assert table["win_rate_pct"].to_pylist() == [None, 25.0]
    assert table["profit_factor"].to_pylist() == [0.0, 1.5]
    assert table.schema.metadata[b"roehub.rows"] == b"best"
    assert table.schema.field("num_trades").metadata[b"score"] == b"exact"


def test_no_room_is_found_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(InvalidInput, match=r"No space left.*free some space"):
        ColumnFile(tmp_path / "variants.parquet", grid(), LABELS)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_earlier_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "variants.parquet"
    path.write_bytes(b"earlier")
    columns = fed(path, grid(), np.arange(42), 42)

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InvalidInput, match="No space left"):
        columns.finish()
    assert path.read_bytes() == b"earlier"
    assert [p.name for p in tmp_path.iterdir()] == ["variants.parquet"]


def test_a_place_that_is_no_directory(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot write"):
        ColumnFile(tmp_path / "none" / "variants.parquet", grid(), LABELS)
