"""Parts of a made-up Stage A whose numbers tell which variant they belong to."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from compute.grid import Axis, Grid, IndicatorGrid
from compute.indicators.registry import definition


def small_grid(windows: int = 7, periods: int = 1) -> Grid:
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
                (Axis("source", ("close",)), Axis("window", tuple(range(14, 14 + periods)))),
                (Axis("long_threshold", (50, 52.5, 55)), Axis("short_threshold", (45,))),
            ),
        )
    )


def numbers(index: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """The metrics of some flat indices: no win rate at each fifth, no loss at each seventh."""
    return {
        "total_return_pct": ((index * 37) % 101) - 50.0,
        "num_trades": (index % 5).astype(np.int32),
        "win_rate_pct": np.where(index % 5 == 0, np.nan, 40.0 + index % 7),
        "profit_factor": np.where(index % 7 == 0, np.inf, index + 0.25),
    }


def write_parts(directory: Path, total: int, *, count: int = 4, folds: int = 1) -> None:
    """Writes all variants over `folds` × `count` parts, in another order than the grid's."""
    directory.mkdir(parents=True, exist_ok=True)
    order = np.random.default_rng(5).permutation(total).astype(np.int64)
    for fold, chosen in enumerate(np.array_split(order, folds)):
        cuts = np.linspace(0, len(chosen), count + 1).astype(int).tolist()
        for start, stop in pairwise(cuts):
            index = chosen[start:stop]
            table = pa.table({"flat_index": index, **numbers(index)})
            pq.write_table(table, directory / f"{fold}-{start}-{stop}-columns.parquet")
