"""Confirmed pivot highs."""

from compute.indicators.structure import pivots
from compute.indicators.wrapper import single_output

# A pivot event votes only beside the other one.
DEFINITION, rows, oracle, settle, first = single_output(
    pivots,
    "structure.pivot_high",
    "Pivot High",
    "pivot_high",
    votes=False,
    formula="A high strictly above all of `left` bars before and `right` after it, emitted at its"
    " confirmation.",
)
