"""An indicator that is one output of another one under its own id."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from compute.indicators.definition import Definition, Indicator
from compute.indicators.series import BarSeries


class Rows(Protocol):
    """See `Indicator.rows`."""

    def __call__(
        self,
        series: BarSeries,
        params: Mapping[str, NDArray[Any]],
        source: str,
        output: str,
        out: NDArray[np.float32],
    ) -> None: ...


class Oracle(Protocol):
    """See `Indicator.oracle`."""

    def __call__(
        self, series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
    ) -> dict[str, NDArray[np.float64]]: ...


class Settle(Protocol):
    """See `Indicator.settle`."""

    def __call__(self, params: Mapping[str, Any]) -> int: ...


class First(Protocol):
    """See `Indicator.first`."""

    def __call__(self, params: Mapping[str, Any], output: str) -> int: ...


class SingleOutput(NamedTuple):
    """What an indicator module offers, in the order a wrapper takes it over."""

    definition: Definition
    rows: Rows
    oracle: Oracle
    settle: Settle
    first: First


def single_output(
    inner: Indicator,
    indicator_id: str,
    title: str,
    output: str,
    *,
    votes: bool = True,
    formula: str | None = None,
) -> SingleOutput:
    """The parts of a module that offers `output` of `inner` as `indicator_id`.

    The rule is the one of that output; `votes=False` is for an event that means something only
    beside another one. Without a `formula` of its own it has the one of `inner`.
    """
    whole = inner.DEFINITION
    kept = whole.output(output)
    definition = replace(
        whole,
        indicator_id=indicator_id,
        title=title,
        outputs=(kept if votes else replace(kept, rule=None),),
        primary=output,
        formula=f"Output {output} of {whole.indicator_id}. {formula or whole.formula}",
        voter=None if votes else whole.indicator_id,
    )

    def oracle(
        series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
    ) -> dict[str, NDArray[np.float64]]:
        return {output: inner.oracle(series, params)[output]}

    return SingleOutput(definition, inner.rows, oracle, inner.settle, inner.first)
