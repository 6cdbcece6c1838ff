"""Lower wick of each candle as a fraction of its range."""

from compute.indicators.structure import candle_stats
from compute.indicators.wrapper import single_output

DEFINITION, rows, oracle, settle, first = single_output(
    candle_stats,
    "structure.candle_lower_wick_pct",
    "Candle Lower Wick Percent of Range",
    "lower_wick_pct",
)
