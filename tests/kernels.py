"""Compiles the kernels that most tests need: other processes then find them on disk.

python -m tests.kernels
"""

from __future__ import annotations

from compute.executor import LocalExecutor
from compute.indicators.registry import ids, module
from tests.cluster.problems import Problem, request
from tests.compute.indicators.candles import candles, settings
from tests.compute.indicators.rows import computed, sources


def compile_engine() -> None:
    """Back-tests a small grid in the ways that differ in their kernels."""
    held_out = {
        "validation": {"holdout_fraction": 0.3},
        "ranking": {
            "primary_metric": "return_over_max_drawdown",
            "secondary_metric": "profit_factor",
        },
    }
    with LocalExecutor(1) as executor:
        for more in ({}, held_out):
            Problem(request(windows=6, periods=4) | more).outcome(executor)


def compile_indicators() -> None:
    """Computes every output of every indicator."""
    series = candles(60, 1)
    for name in ids():
        indicator = module(name)
        params = settings(indicator.DEFINITION, 1, 1)
        for output in indicator.DEFINITION.outputs:
            computed(indicator, series, params, sources(indicator)[-1], output.name)


if __name__ == "__main__":
    compile_engine()
    compile_indicators()
