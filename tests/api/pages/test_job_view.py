"""What a job's page makes of a job: filters, the ranked table, what two requests differ in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from api.column_parts import wanted
from api.pages import job_view
from api.pages.words import PERCENT
from compute.errors import InvalidRequest
from tests.api.service.columns import small_grid

GRID = small_grid(windows=6, periods=4)
WINDOW = "ma.sma.window"


def test_a_form_is_a_query() -> None:
    sent = {
        f"from.{WINDOW}": "6", f"to.{WINDOW}": "", "is.ma.sma.source": "hlc3",
        "min.num_trades": "3", "max.num_trades": "5", "from.nothing": "1", "sort": "rank",
    }  # fmt: skip
    found = job_view.filters(sent, GRID)
    assert found.query == (
        "axis=ma.sma.source%3Ahlc3&axis=ma.sma.window%3A6..&min=num_trades%3A3&max=num_trades%3A5"
    )
    kept = wanted(GRID, found.axis, found.least, found.most)
    digits = GRID.digits(np.arange(GRID.total))
    rows = {"num_trades": np.full(GRID.total, 3)}
    assert kept.chosen(digits, rows).sum() == GRID.total * 5 // 12
    assert kept.chosen(digits, {"num_trades": np.full(GRID.total, 6)}).sum() == 0
    assert job_view.filters({f"from.{WINDOW}": "  "}, GRID).query == ""
    with pytest.raises(InvalidRequest):
        wanted(GRID, job_view.filters({f"to.{WINDOW}": "<b>"}, GRID).axis)


def test_only_axes_with_a_choice_are_filtered_by() -> None:
    fields = {field["name"]: field for field in job_view.filter_fields(small_grid(windows=500))}
    assert [*fields] == ["ma.sma.source", WINDOW, "momentum.rsi.long_threshold"]
    assert fields["ma.sma.source"]["is_text"]
    assert fields["momentum.rsi.long_threshold"]["values"] == ["50", "52.5", "55"]
    values = fields[WINDOW]["values"]
    assert (values[0], values[-1]) == ("5", "504")
    assert len(values) <= 61


def variant(rank: int, window: int, **metrics: Any) -> dict[str, Any]:
    return {
        "variant_key": f"key {rank}",
        "base_variant_index": rank,
        "payload": {
            "indicator_selections": [{"indicator_id": "ma.sma", "params": {"window": window}}],
            "risk_params": {"sl_enabled": True, "sl_pct": 2.0},
        },
        "metrics": {"total_return_pct": 5.0, "num_trades": 4, **metrics},
    }


def test_rows_are_sorted_by_any_column_and_equal_ones_fold() -> None:
    rows = [variant(1, 9), variant(2, 5), variant(3, 7), variant(4, 6, total_return_pct=1.0),
            variant(5, 8, num_trades=None)]  # fmt: skip
    found = job_view.table(rows, range(5), GRID, True, "metric.total_return_pct", False)
    assert [group["head"]["rank"] for group in found["groups"]] == [4, 1, 5]
    assert found["folded"] == 2
    assert [row["rank"] for row in found["groups"][1]["others"]] == [2, 3]
    at = [column["name"] for column in found["columns"]].index(WINDOW)
    assert found["groups"][1]["spans"][at] == "5 to 9"
    assert found["groups"][0]["spans"][at] is None
    for down in (False, True):  # what is unknown stays last
        by_trades = job_view.table(rows, range(5), GRID, True, "metric.num_trades", down)
        assert by_trades["groups"][-1]["head"]["rank"] == 5
    some = job_view.table(rows, [1, 3], GRID, True, "no such column", False)
    assert [group["head"]["cells"][0] for group in some["groups"]] == [2, 4]
    assert (some["sort"], some["total"]) == ("rank", 5)


def test_of_provisional_rows_only_the_return_is_told() -> None:
    found = job_view.table([variant(1, 9), variant(2, 5)], range(2), GRID, False, "rank", False)
    assert [column["name"] for column in found["columns"]] == [
        "rank", "metric.total_return_pct", WINDOW,
    ]  # fmt: skip
    assert len(found["groups"]) == 2


def test_two_requests_differ_in_what_is_said() -> None:
    one = {
        "top_k": 5,
        "template": {
            "timeframe": "1h",
            "indicator_grids": [
                {"indicator_id": "ma.sma",
                 "params": {"window": {"mode": "explicit", "values": list(range(5, 25))}}}
            ],
            "risk_grid": {"sl_enabled": True},
        },
    }  # fmt: skip
    other = {
        "top_k": 5,
        "template": {"timeframe": "15m", "indicator_grids": [], "risk_grid": {"sl_enabled": False}},
    }
    assert job_view.compared(one, other) == [
        ("timeframe", "1h", "15m"),
        ("ma.sma.window", "5 to 24, step 1 (20 values)", "–"),
        ("risk_grid.sl_enabled", "yes", "no"),
    ]
    assert job_view.compared(one, one) == []


def test_a_parameter_has_one_name_and_one_text() -> None:
    rows = [variant(1, 5), variant(2, 5)]
    fixed = [("sma window", "5"), ("stop loss", f"2{PERCENT}")]
    assert job_view.table(rows, range(2), GRID, True, "rank", False)["fixed"] == fixed
    assert job_view.best_rows(rows)[0]["parameters"] == [*fixed, ("take profit", "off")]
    labels = [field["label"] for field in job_view.filter_fields(GRID)]
    assert labels == ["sma source", "sma window", "rsi window", "rsi long threshold"]
