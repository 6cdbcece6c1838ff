"""Body of each candle in average true ranges."""

from compute.indicators.structure import candle_stats_atr_norm
from compute.indicators.wrapper import single_output

DEFINITION, rows, oracle, settle, first = single_output(
    candle_stats_atr_norm, "structure.candle_body_atr", "Candle Body ATR-Normalized", "body_atr"
)
