"""Confirmed pivot lows."""

from compute.indicators.structure import pivots
from compute.indicators.wrapper import single_output

# A pivot event votes only beside the other one.
DEFINITION, rows, oracle, settle, first = single_output(
    pivots,
    "structure.pivot_low",
    "Pivot Low",
    "pivot_low",
    votes=False,
    formula="A low strictly below all of `left` bars before and `right` after it, emitted at its"
    " confirmation.",
)
