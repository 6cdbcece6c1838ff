"""Risk axes: SL outer, TP inner, and what is refused."""

from __future__ import annotations

import pytest

from compute.axes import axis_spec
from compute.errors import InvalidGrid
from compute.risk import RiskGrid, risk_grid, risk_params

RANGE = axis_spec({"mode": "range", "start": 1.0, "stop_incl": 2.0, "step": 0.5})
LIST = axis_spec({"mode": "explicit", "values": [3, 6]})


def test_pairs_run_tp_first() -> None:
    grid = risk_grid(sl_enabled=True, tp_enabled=True, sl=RANGE, tp=LIST)
    assert [grid.pair(i) for i in range(grid.total)] == [
        (1.0, 3.0), (1.0, 6.0), (1.5, 3.0), (1.5, 6.0), (2.0, 3.0), (2.0, 6.0),
    ]  # fmt: skip
    assert all(type(level) is float for level in (*grid.sl, *grid.tp))
    assert grid.params(3) == {
        "sl_enabled": True,
        "sl_pct": 1.5,
        "tp_enabled": True,
        "tp_pct": 6.0,
    }
    with pytest.raises(IndexError):
        grid.pair(6)


def test_disabled_side_is_one_null_whatever_was_sent() -> None:
    grid = risk_grid(sl_enabled=False, tp_enabled=True, sl=RANGE, sl_pct=9.0, tp=LIST)
    assert (grid.sl, grid.tp, grid.total) == ((None,), (3.0, 6.0), 2)
    off = risk_grid()
    assert off == RiskGrid()
    assert off.params(0) == risk_params()
    assert off.params(0) == {
        "sl_enabled": False,
        "sl_pct": None,
        "tp_enabled": False,
        "tp_pct": None,
    }


def test_scalar_is_a_one_value_axis_and_the_axis_wins() -> None:
    assert risk_grid(sl_enabled=True, sl_pct=3).sl == (3.0,)
    assert risk_grid(tp_enabled=True, tp=LIST, tp_pct=9.0).tp == (3.0, 6.0)
    assert risk_grid(sl_enabled=True, sl_pct=0).sl == (0.0,)  # a stop at the entry price is legal


@pytest.mark.parametrize(
    ("block", "text"),
    [
        ({"sl_enabled": True}, "risk_grid.sl must be provided when sl_enabled is true"),
        ({"tp_enabled": True, "sl": LIST}, "risk_grid.tp must be provided when tp_enabled is true"),
        ({"sl_enabled": True, "sl_pct": -0.5}, "sl_pct must be >= 0 when enabled, got -0.5"),
        (
            {"tp_enabled": True, "tp": axis_spec({"mode": "explicit", "values": [1, -1]})},
            "tp_pct must be >= 0 when enabled, got -1.0",
        ),
        (
            {"sl_enabled": True, "sl": axis_spec({"mode": "explicit", "values": ["3"]})},
            "risk axis 'sl' values must be numeric",
        ),
        (
            {"tp_enabled": True, "tp": axis_spec({"mode": "explicit", "values": [1, "x"]})},
            "risk axis 'tp' values must be numeric",
        ),
        ({"sl_enabled": True, "sl_pct": True}, "risk axis 'sl' values must be numeric"),
        ({"sl_enabled": True, "sl_pct": float("nan")}, "risk axis 'sl' values must be finite"),
    ],
)
def test_wrong_blocks(block: dict[str, object], text: str) -> None:
    with pytest.raises(InvalidGrid) as caught:
        risk_grid(**block)  # type: ignore[arg-type]
    assert text in caught.value.message


def test_levels_are_unique() -> None:
    with pytest.raises(InvalidGrid, match="unique"):
        RiskGrid((1.0, 1.0), (None,))
    with pytest.raises(InvalidGrid, match="unique"):
        RiskGrid((), (None,))
    with pytest.raises(InvalidGrid, match="finite"):
        RiskGrid((1.0, None), (None,))
