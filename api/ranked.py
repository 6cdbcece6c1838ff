"""The ranked rows of a job as a table, as far as filters let them through."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from api.column_parts import METRICS, Wanted
from cluster.jobs.store import TopRow
from compute.grid import Grid, Selection
from compute.report.ranked import RankedTable, ranked_table

Record = dict[str, Any]
RANK_MAX: Final = 2**31 - 1
"""The largest rank that may be asked for."""
_RESULTS: Final = 8
"""Results that are held; one of three hundred rows takes a few MB."""


def result_of(path: Path) -> Record:
    """The content of a result.json; the last ones are kept. Do not change it."""
    status = path.stat()
    return _result(path, status.st_mtime_ns, status.st_size)


@lru_cache(_RESULTS)
def _result(path: Path, changed_ns: int, size: int) -> Record:
    return json.loads(path.read_bytes())


def provisional(rows: Sequence[TopRow]) -> list[Record]:
    """Best rows of a job that has no result, in the form of a result's variants."""
    return [row.record() | {"metrics": {"total_return_pct": row.total_return_pct}} for row in rows]


def chosen_rows(variants: Sequence[Mapping[str, Any]], grid: Grid, wanted: Wanted) -> list[int]:
    """Places of the ranked rows that filters let through; their bounds are held with stops.

    A bound on a metric that a row does not have lets nothing through.
    """
    if wanted.everything or not variants:
        return list(range(len(variants)))
    flat = np.array([base_of(variant, grid) for variant in variants], np.int64)
    metrics = [one.get("metrics") or {} for one in variants]
    rows = {name: np.array([_number(one, name) for one in metrics]) for name in METRICS}
    return np.flatnonzero(wanted.chosen(grid.digits(flat), rows)).tolist()


def base_of(variant: Mapping[str, Any], grid: Grid) -> int:
    """Flat index of the base variant of a row."""
    known = variant.get("base_variant_index")
    return known if known is not None else flat_of(variant["payload"], grid)


def flat_of(payload: Mapping[str, Any], grid: Grid) -> int:
    """Flat index of the indicators and rules of a payload. Raises: InvalidGrid."""
    signals = payload.get("signal_params") or {}
    return grid.flat(
        Selection(
            one["indicator_id"],
            one.get("inputs") or {},
            one.get("params") or {},
            one.get("output"),
            signals.get(one["indicator_id"]) or {},
        )
        for one in payload["indicator_selections"]
    )


def ranked_record(
    variants: Sequence[Mapping[str, Any]], rows: Sequence[int], grid: Grid, final: bool
) -> Record:
    """The table of the rows at some places, JSON-able; ranks are those among all rows.

    Of rows that are not final nothing is known to be equal.
    """
    chosen = [variants[i] for i in rows]
    found: RankedTable = ranked_table(chosen)
    for place, cells in zip(rows, found["rows"], strict=True):
        cells[0] = place + 1
    return {
        "columns": found["columns"],
        "rows": [
            {
                "rank": place + 1,
                "variant_key": one["variant_key"],
                "flat_index": base_of(one, grid),
                "cells": cells,
                "equals": equals,
                "metrics": one.get("metrics") or {},
                "holdout": (one.get("holdout") or {}).get("metrics"),
            }
            for place, one, cells, equals in zip(
                rows, chosen, found["rows"], found["equals"], strict=True
            )
        ],
        "groups": found["groups"] if final else [[i] for i in range(len(rows))],
        "fixed": [list(pair) for pair in found["fixed"]],
        "total": len(variants),
    }


def _number(metrics: Mapping[str, Any], name: str) -> float:
    value = metrics.get(name)
    if value is None:  # JSON has no infinity: a factor without a loss
        return np.inf if name == "profit_factor" and metrics.get("num_trades") else np.nan
    return float(value)
