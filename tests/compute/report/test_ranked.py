from __future__ import annotations

from typing import Any

from compute.report.ranked import equal_groups, parameter_values, ranked_table


def variant(gain: float, window: int, stop: float | None = None, **more: Any) -> dict[str, Any]:
    return {
        "variant_key": f"key{window}",
        "metrics": {"total_return_pct": gain, "max_drawdown_pct": 3.0, "num_trades": 4},
        "payload": {
            "indicator_selections": [
                {
                    "indicator_id": "ma.sma",
                    "inputs": {"source": "close"},
                    "params": {"window": window},
                },
                {"indicator_id": "trend.adx", "params": {"window": 9}, "output": "di"},
            ],
            "signal_params": {"ma.sma": {"band_pct": 0.5}},
            "risk_params": {
                "sl_enabled": stop is not None, "sl_pct": stop, "tp_enabled": False, "tp_pct": 7.0,
            },
        },
        **more,
    }  # fmt: skip


def test_parameters_have_full_names_and_switched_off_stops_no_value() -> None:
    assert parameter_values(variant(1.0, 20, 2.5)["payload"]) == {
        "ma.sma.source": "close",
        "ma.sma.window": 20,
        "ma.sma.band_pct": 0.5,
        "trend.adx.output": "di",
        "trend.adx.window": 9,
        "risk.stop_loss_pct": 2.5,
        "risk.take_profit_pct": None,
    }


def test_only_what_varies_is_a_column() -> None:
    table = ranked_table([variant(9.0, 20), variant(8.0, 30)])
    assert [c["name"] for c in table["columns"] if c["kind"] == "parameter"] == ["ma.sma.window"]
    assert ("trend.adx.window", 9) in table["fixed"]
    assert table["rows"] == [
        [1, 9.0, 3.0, None, None, None, 4, 20],
        [2, 8.0, 3.0, None, None, None, 4, 30],
    ]
    assert table["keys"] == ["key20", "key30"]


def test_equal_metrics_are_one_group_wherever_they_rank() -> None:
    variants = [variant(9.0, 1), variant(8.0, 2), variant(9.0, 3), variant(8.0, 4), variant(7.0, 5)]
    assert equal_groups(variants) == [[0, 2], [1, 3], [4]]


def test_unknown_metrics_are_not_equal() -> None:
    unknown = [{}, {"metrics": {}}, {"metrics": {"profit_factor": None}}]
    assert equal_groups(unknown) == [[0], [1], [2]]


def test_holdout_return_is_a_column_of_its_own() -> None:
    table = ranked_table([variant(9.0, 20, holdout={"metrics": {"total_return_pct": -4.0}})])
    at = [c["name"] for c in table["columns"]].index("holdout.total_return_pct")
    assert table["rows"][0][at] == -4.0


def test_equal_rows_of_the_grid_are_told_in_words() -> None:
    equals = {"count": 6, "axes": {"ma.sma.window": [5, 7], "risk.stop_loss_pct": [9.0, 9.0]}}
    table = ranked_table([variant(9.0, 20, equals=equals), variant(8.0, 30)])
    assert table["equals"] == [
        "6 equal in the grid: ma.sma.window 5 to 7",
        "",
    ]


def test_no_variants() -> None:
    table = ranked_table([])
    assert table["rows"] == table["groups"] == table["fixed"] == []
    assert table["columns"][0]["name"] == "rank"
