"""Simple moving average."""

from __future__ import annotations

from compute.indicators.definition import (
    SOURCES_7,
    Definition,
    Output,
    Rule,
    window,
)

DEFINITION = Definition(
    indicator_id="ma.sma",
    title="Simple Moving Average",
    group="ma",
    inputs=(),
    sources=SOURCES_7,
    params=(window(),),
    axes=("source", "window"),
    outputs=(
        Output("value", Rule("compare_price_to_output", price="source"), ("source", "window")),
    ),
    primary="value",
    reference="Arithmetic mean of the last `window` values.",
)
