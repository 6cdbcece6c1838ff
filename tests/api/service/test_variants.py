"""Stage A's columns as they leave: every row once, filtered as asked, in bounded memory."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from api.column_parts import column_parts, rows_of, wanted
from api.variants import encoded, rows
from compute.errors import InvalidRequest
from tests.api.service.columns import numbers, small_grid, write_parts

LABELS = {"roehub.engine_version": "1"}
GRID = small_grid(windows=40, periods=5)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    write_parts(tmp_path / "plan", GRID.total, folds=2)
    (tmp_path / "plan" / "0-0-7.parquet").touch()  # candidates of a span are no columns
    return tmp_path / "plan"


def read(form: str, directory: Path, names: list[str] | None = None, **query: Any) -> pa.Table:
    found = rows(column_parts(directory), GRID, wanted(GRID, **query), names, LABELS)
    data = b"".join(encoded(form, found))
    if form == "arrow":
        return pa.ipc.open_stream(data).read_all()
    return pq.read_table(io.BytesIO(data))


def test_parts_are_found_in_the_order_of_the_walk_and_counted(directory: Path) -> None:
    parts = column_parts(directory)
    assert [(part.fold, part.start) for part in parts] == sorted(
        (part.fold, part.start) for part in parts
    )
    assert rows_of(parts) == GRID.total
    parts[0].path.unlink()
    assert rows_of(column_parts(directory)) < GRID.total
    assert column_parts(directory / "none") == []


@pytest.mark.parametrize("form", ["arrow", "parquet"])
def test_every_variant_comes_once_with_its_parameters_and_scores(
    form: str, directory: Path
) -> None:
    table = read(form, directory).sort_by("flat_index")
    assert table.column("flat_index").to_pylist() == list(range(GRID.total))
    assert table.schema.metadata[b"roehub.rows"] == b"all"
    assert table.schema.field("total_return_pct").metadata[b"score"] == b"fast"
    expected = numbers(np.arange(GRID.total))
    for name in ("total_return_pct", "num_trades", "profit_factor"):
        assert table.column(name).to_pylist() == expected[name].tolist()
    rates = table.column("win_rate_pct").to_pylist()
    assert [rate is None for rate in rates] == np.isnan(expected["win_rate_pct"]).tolist()
    digits = GRID.digits(np.arange(GRID.total))
    for i, axis in enumerate(GRID.axes):
        values = table.column(GRID.axis_names[i]).to_pylist()
        assert values == [axis.values[digit] for digit in digits[:, i]]


def test_the_bytes_do_not_depend_on_when_they_are_read(directory: Path) -> None:
    found = rows(column_parts(directory), GRID, wanted(GRID), None, LABELS)
    for form in ("arrow", "parquet"):
        assert b"".join(encoded(form, found)) == b"".join(encoded(form, found))


def test_filters_let_through_what_they_say(directory: Path) -> None:
    table = read(
        "arrow",
        directory,
        axes=["ma.sma.window:8..20", "ma.sma.source:hlc3", "momentum.rsi.long_threshold:50,55"],
        least=["total_return_pct:-10", "win_rate_pct:0"],
        most=["total_return_pct:25"],
    )
    assert table.schema.metadata[b"roehub.rows"] == b"filtered"
    whole = read("arrow", directory)
    window, level = (pc.field(n) for n in ("ma.sma.window", "momentum.rsi.long_threshold"))
    profit = pc.field("total_return_pct")
    expected = whole.filter(
        (window >= 8)
        & (window <= 20)
        & (pc.field("ma.sma.source").cast(pa.string()) == "hlc3")
        & level.isin([50.0, 55.0])
        & (profit >= -10)
        & (profit <= 25)
        & pc.field("win_rate_pct").is_valid()
    )
    assert 0 < expected.num_rows < whole.num_rows
    assert table.sort_by("flat_index").equals(expected.sort_by("flat_index"))


@pytest.mark.parametrize("form", ["arrow", "parquet"])
def test_chosen_columns_come_in_the_order_of_the_schema(form: str, directory: Path) -> None:
    table = read(form, directory, ["num_trades", "ma.sma.source", "flat_index"])
    assert table.column_names == ["flat_index", "ma.sma.source", "num_trades"]
    assert table.num_rows == GRID.total


@pytest.mark.parametrize("form", ["arrow", "parquet"])
def test_no_row_is_an_empty_table_with_all_columns(form: str, directory: Path) -> None:
    table = read(form, directory, least=["num_trades:1000"])
    assert table.num_rows == 0
    assert len(table.column_names) == 1 + len(GRID.axes) + 4


@pytest.mark.parametrize(
    ("query", "place", "part"),
    [
        ({"axes": ["ma.sma"]}, "query.axis", "NAME:VALUE"),
        ({"axes": ["ma.sma.window:"]}, "query.axis", "NAME:VALUE"),
        ({"axes": ["ma.ema.window:5"]}, "query.axis", "axes are ma.sma.source"),
        ({"axes": ["ma.sma.window:4"]}, "query.axis", "40 values from 5 to 44"),
        ({"axes": ["ma.sma.window:x..9"]}, "query.axis", "'x' is no number"),
        ({"axes": ["ma.sma.source:open"]}, "query.axis", "close, hlc3"),
        ({"least": ["sharpe:1"]}, "query.min", "metrics are total_return_pct"),
        ({"most": ["num_trades:nan"]}, "query.max", "no number"),
    ],
)
def test_a_filter_that_cannot_be_meant_is_refused(
    query: dict[str, Any], place: str, part: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        wanted(GRID, **query)
    assert caught.value.errors[0]["path"] == place
    assert part in caught.value.message


def test_an_unknown_column_is_refused(directory: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"columns are flat_index, ma\.sma\.source"):
        rows(column_parts(directory), GRID, wanted(GRID), ["drawdown"], LABELS)


_CHILD = """
import resource, sys
from pathlib import Path
from api.column_parts import column_parts, wanted
from api.variants import encoded, rows
from tests.api.service.columns import small_grid
grid = small_grid(windows={windows}, periods=10)
assert grid.total == {total}, grid.total
found = rows(column_parts(Path({directory!r})), grid, wanted(grid), None, {{}})
first = next(iter(encoded("arrow", found)))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
size = sum(len(piece) for form in ("arrow", "parquet") for piece in encoded(form, found))
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(size >> 20, (after - before) >> 10)
"""


@pytest.mark.slow
def test_millions_of_rows_pass_through_little_memory(tmp_path: Path) -> None:
    grid = small_grid(windows=50_000, periods=10)
    write_parts(tmp_path, grid.total, count=24)
    code = _CHILD.format(windows=50_000, total=grid.total, directory=str(tmp_path))
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300
    )
    passed, grown = map(int, run.stdout.split())
    assert passed > 200
    assert grown < 120
