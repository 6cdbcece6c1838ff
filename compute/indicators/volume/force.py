"""Force index."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.carry import Carry
from compute.indicators.definition import Definition, Output, Rule, window
from compute.indicators.kernels.smoothing import ema_weights, smooth_rows
from compute.indicators.series import BarSeries, valid_spans

DEFINITION = Definition(
    indicator_id="volume.force",
    title="Force Index",
    group="volume",
    inputs=("close", "volume"),
    sources=(),
    params=(window(default=13),),
    axes=("window",),
    outputs=(Output("force", Rule("sign"), ("window",)),),
    primary="force",
    formula="ema((c - previous c) · v, w).",
    reference="Alexander Elder, Trading for a Living, 1993.",
    recursive=True,
)


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
    carry: Carry | None = None,
) -> None:
    close, volume = series.wide("close"), series.wide("volume")
    pushes = series.derived("pushes", lambda: np.diff(close, prepend=np.nan) * volume)
    spans = series.derived("push_spans", lambda: valid_spans(np.isnan(pushes)))
    smooth_rows(pushes, spans, ema_weights(params["window"]), out, carry)


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    close, volume = series["close"], series["volume"]
    alpha = 2 / (params["window"] + 1)
    force = np.full(close.size, np.nan)
    for t in range(1, close.size):
        push = (close[t] - close[t - 1]) * volume[t]
        last = force[t - 1]
        force[t] = push if math.isnan(last) else alpha * push + (1 - alpha) * last
    return {"force": force}


def settle(params: Mapping[str, Any]) -> int:
    return 1 + math.ceil(3.5 * (params["window"] + 1))


def first(params: Mapping[str, Any], output: str) -> int:
    return 1
