"""Lower wick of each candle in average true ranges."""

from compute.indicators.structure import candle_stats_atr_norm
from compute.indicators.wrapper import single_output

DEFINITION, rows, oracle, settle, first = single_output(
    candle_stats_atr_norm,
    "structure.candle_lower_wick_atr",
    "Candle Lower Wick ATR-Normalized",
    "lower_wick_atr",
)
