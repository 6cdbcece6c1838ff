"""Range of each candle."""

from compute.indicators.structure import candle_stats
from compute.indicators.wrapper import single_output

DEFINITION, rows, oracle, settle, first = single_output(
    candle_stats, "structure.candle_range", "Candle Range", "range"
)
