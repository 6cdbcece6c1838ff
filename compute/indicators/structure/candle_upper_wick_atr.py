"""Upper wick of each candle in average true ranges."""

from compute.indicators.structure import candle_stats_atr_norm
from compute.indicators.wrapper import single_output

DEFINITION, rows, oracle, settle, first = single_output(
    candle_stats_atr_norm,
    "structure.candle_upper_wick_atr",
    "Candle Upper Wick ATR-Normalized",
    "upper_wick_atr",
)
