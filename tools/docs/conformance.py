"""How near the indicators come to TA-Lib, as one sentence each and as the series to compare.

TA-Lib is a tool of development: it is imported where a series of its own is asked for.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from itertools import groupby
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from compute.indicators import registry
from compute.indicators.series import FIELDS, BarSeries
from tools.docs.conformance_absent import ABSENT
from tools.docs.conformance_table import MATCHES, Match

TALIB: Final = "0.8.1"
"""The release of TA-Lib that the table was measured against."""
FORGOTTEN: Final = 4
"""Settling times after which a seed weighs 1e-12 and two seeds give one value."""
SMALLEST: Final = 1e-6
"""Fraction of a series' largest value below which a value counts as that fraction."""
LEGEND: Final = (
    "`x` is the chosen source, `tp` the typical price (high + low + close) / 3, `ago(a, n)` the"
    f" values of `a` n bars before, `none` no value. 1e-7 is what rounding to float32 costs; values"
    " below a millionth of a series' largest count as that. After"
    f" {FORGOTTEN} settling times two seeds no longer show."
)
"""What the reader of the sentences has to know, once a page."""
_ITEM: Final = re.compile(r"\[(\d)\]$")


def shifted(values: NDArray[np.float64], bars: int) -> NDArray[np.float64]:
    """The values of `bars` bars ago, NaN before there are any."""
    return np.concatenate((np.full(bars, np.nan), values[: values.size - bars]))


def counterpart(
    match: Match, series: BarSeries, source: str, params: Mapping[str, Any]
) -> NDArray[np.float64]:
    """TA-Lib's series f8[T] for one output, from the same inputs in float64."""
    return evaluated(match, inputs(series, source), params)


def inputs(series: BarSeries, source: str) -> dict[str, Any]:
    """What an expression of the table may name: TA-Lib's functions, columns f8[T] and helpers."""
    talib = importlib.import_module("talib")
    names = {name: getattr(talib, name) for name in talib.get_functions()}
    names |= {name: series.wide(name) for name in FIELDS}
    names |= {"x": series.wide(source or "close"), "tp": _typical(series)}
    names |= {"MA_Type": talib.MA_Type, "abs": np.abs, "sign": np.sign}
    return names | {"ago": shifted, "where": np.where, "none": np.nan}


def evaluated(
    match: Match, names: Mapping[str, Any], params: Mapping[str, Any]
) -> NDArray[np.float64]:
    """The expression of a match over `inputs`, f8[T]."""
    # The expressions are the constants of the table: what the page shows is what is computed.
    found = eval(match.expression, {"__builtins__": {}}, {**names, **params})
    return np.asarray(found, np.float64)


def _typical(series: BarSeries) -> NDArray[np.float64]:
    return (series.wide("high") + series.wide("low") + series.wide("close")) / 3


def difference(
    match: Match, ours: NDArray[np.float32], theirs: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Differences f8[T] relative to what the match names: TA-Lib's value or its largest one."""
    size = np.nanmax(np.abs(theirs))
    scale = size if match.of_largest else np.maximum(np.abs(theirs), SMALLEST * size)
    return np.abs(ours.astype(np.float64) - theirs) / scale


def conformance_line(indicator_id: str) -> str:
    """One Markdown sentence: which outputs equal what of TA-Lib, how nearly, and why not more."""
    if indicator_id in ABSENT:
        return f"TA-Lib {TALIB} has no {ABSENT[indicator_id]}."
    if indicator_id not in MATCHES:
        return f"Not compared with TA-Lib {TALIB}."
    matches = MATCHES[indicator_id]
    known = registry.definition(indicator_id)
    parts = [_part(list(group)) for _, group in groupby(matches, lambda match: match.note)]
    covered = {match.output for match in matches}
    missing = [f"`{o.name}`" for o in known.outputs if o.name not in covered]
    if missing:
        parts.append(f"it has nothing for {_listed(missing)}")
    return f"TA-Lib {TALIB}: {'; '.join(parts)}."


def _part(group: list[Match]) -> str:
    """Outputs that differ for one reason, each with its bound, and the reason."""
    equal = [
        f"{_equation(list(alike))}{_fixed(group[0])} {bound}"
        for bound, alike in groupby(group, _bound)
    ]
    return "; ".join(equal) + (f" ({group[0].note})" if group[0].note else "")


def _equation(group: list[Match]) -> str:
    words: list[str] = []
    for call, outputs in groupby(group, lambda match: _ITEM.sub("", match.expression)):
        members = list(outputs)
        names = _listed([f"`{match.output}`" for match in members])
        places = [item.group(1) for m in members if (item := _ITEM.search(m.expression))]
        if len(places) == len(members) > 1:
            words.append(f"{names} = `{call}`, outputs {_listed(places)},")
        else:
            words += [f"`{match.output}` = `{match.expression}`" for match in members]
    return _listed(words)


def _fixed(match: Match) -> str:
    fixed = [f"`{name} = {value}`" for name, value in match.fixed.items()]
    return f" with {_listed(fixed)}" if fixed else ""


def _bound(match: Match) -> str:
    start = f" after {FORGOTTEN} settling times" if match.seeded else ""
    if match.bound == 0:
        return "exactly" + start
    digits, exponent = f"{match.bound:.0e}".split("e")
    of = "the largest value" if match.of_largest else "the value"
    near = f"to {digits}e{int(exponent)} of {of}"
    if match.agreeing < 1:
        return f"{near} on some {100 * match.agreeing:.0f} % of a random walk's bars, for good"
    return near + start


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
