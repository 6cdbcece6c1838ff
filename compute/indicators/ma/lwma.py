"""Linear weighted moving average: the weighted moving average under its other name."""

from __future__ import annotations

from dataclasses import replace

from compute.indicators.ma import wma

DEFINITION = replace(wma.DEFINITION, indicator_id="ma.lwma", title="Linear Weighted Moving Average")
rows, oracle, settle, first = wma.rows, wma.oracle, wma.settle, wma.first
