"""Body of each candle as a fraction of its range."""

from compute.indicators.structure import candle_stats
from compute.indicators.wrapper import single_output

DEFINITION, rows, oracle, settle, first = single_output(
    candle_stats, "structure.candle_body_pct", "Candle Body Percent of Range", "body_pct"
)
