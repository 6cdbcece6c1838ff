"""The plateau around a cell of a heat map: how far one may walk from it without losing it.

A lonely peak and a plateau have the same maximum. A setting is worth keeping where the settings
next to it do about as well.
"""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from api.column_parts import refused
from api.heatmap import COUNT, WINNERS, Heatmap
from compute.axes import Scalar
from compute.quantities import spaced

TOLERANCE_PCT: Final = 10.0
_BODY: Final = (0.02, 0.98)
_PERCENTS: Final = ("total_return_pct", "win_rate_pct")
_METRICS: Final = {
    "total_return_pct": "return",
    "num_trades": "number of trades",
    "win_rate_pct": "win rate",
    "profit_factor": "profit factor",
}
_AGGREGATES: Final = {"median": "median", "mean": "mean", "min": "least", "max": "greatest"}


@dataclass(frozen=True, slots=True)
class Plateau:
    """Cells connected with the one at (x, y) whose values are within `reach` of its own.

    `cells` are `[x, y]` places in the map, the chosen one among them; `around` are the values of
    the up to eight cells next to it; `kind` is plateau, ridge or peak, `words` says it all.
    """

    x: Scalar
    y: Scalar
    value: float
    reach: float
    cells: list[list[int]]
    share_pct: float
    median: float
    around_count: int
    around_median: float | None
    kind: str
    words: str

    def record(self) -> dict[str, Any]:
        """The plateau as JSON."""
        return asdict(self)


def plateau(
    found: Heatmap, x: str | None = None, y: str | None = None, tolerance_pct: float = TOLERANCE_PCT
) -> Plateau:
    """The `Plateau` around the cell of the values `x` and `y`, the greatest without them.

    The tolerance is a share of the span that 96 % of the cells lie in.
    Raises: InvalidRequest for a cell that there is none of, or that has no value.
    """
    cells = np.array(found.cells, np.float64)
    there = np.isfinite(cells)
    if not there.any():
        raise refused("metric", "no_value", "no cell of the map has a value; widen the filters")
    row, column = _place(found, cells, x, y)
    value = float(cells[row, column])
    low, high = np.quantile(cells[there], _BODY)
    reach = float(high - low) * tolerance_pct / 100.0
    inside = _connected(there & (np.abs(cells - value) <= reach), row, column)
    near = cells[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2].ravel()
    near = near[np.isfinite(near)]
    around = np.delete(near, np.flatnonzero(near == value)[0])
    rows, columns = np.nonzero(inside)
    median = float(np.median(cells[inside]))
    around_median = float(np.median(around)) if len(around) else None
    kind = _kind(len(rows), inside, row, column, len(around))
    share = 100.0 * len(rows) / int(there.sum())
    made = Plateau(
        found.x_values[column], found.y_values[row], value, reach,
        np.stack([columns, rows], 1).tolist(), share, median, len(around), around_median, kind, "",
    )  # fmt: skip
    return replace(made, words=_words(found, made, tolerance_pct))


def _place(found: Heatmap, cells: NDArray[Any], x: str | None, y: str | None) -> tuple[int, int]:
    if x is None and y is None:
        row, column = np.unravel_index(int(np.nanargmax(cells)), cells.shape)
        return int(row), int(column)
    place = []
    for parameter, text, values in (("at_y", y, found.y_values), ("at_x", x, found.x_values)):
        texts = [str(value) for value in values]
        if text not in texts:
            message = f"the map has no cell at {text!r}; send one of its values, at_x and at_y both"
            raise refused(parameter, "invalid_value", message)
        place.append(texts.index(text))
    row, column = place
    if not np.isfinite(cells[row, column]):
        raise refused("at_x", "no_value", "this cell has no value; choose another one")
    return row, column


def _connected(alike: NDArray[np.bool_], row: int, column: int) -> NDArray[np.bool_]:
    """The cells of `alike` that a walk over shared sides reaches from one of them."""
    reached = np.zeros_like(alike)
    reached[row, column] = True
    waiting = deque([(row, column)])
    height, width = alike.shape
    while waiting:
        j, i = waiting.popleft()
        for b, a in ((j - 1, i), (j + 1, i), (j, i - 1), (j, i + 1)):
            if 0 <= b < height and 0 <= a < width and alike[b, a] and not reached[b, a]:
                reached[b, a] = True
                waiting.append((b, a))
    return reached


def _kind(size: int, inside: NDArray[np.bool_], row: int, column: int, around: int) -> str:
    """Whether most of the cells next to the chosen one belong to it, some, or none."""
    near = inside[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
    beside = int(near.sum()) - 1
    if beside == 0:
        return "peak"
    return "plateau" if 2 * beside >= around and size >= 4 else "ridge"


_MEANINGS: Final = {
    "plateau": "A plateau: settings next to it do about as well.",
    "ridge": "A ridge: it holds in some directions and falls off in others.",
    "peak": "A lonely cell: a step away in any direction it is already something else.",
}


def _words(found: Heatmap, made: Plateau, tolerance_pct: float) -> str:
    is_share = found.aggregate == WINNERS or (
        found.metric in _PERCENTS and found.aggregate != COUNT
    )
    unit, points = (" %", " percentage points") if is_share else ("", "")
    size = len(made.cells)
    cells = "Only this cell" if size == 1 else f"{spaced(size)} connected cells"
    text = (
        f"{_MEANINGS[made.kind]} Where {found.x_name} is {made.x} and {found.y_name} {made.y},"
        f" the {_measure(found)} is {_number(made.value)}{unit}."
        f" {cells}, {made.share_pct:.0f} % of the map, {'lies' if size == 1 else 'lie'} within"
        f" {_number(made.reach)}{points} of that ({tolerance_pct:g} % of the span that 96 % of the"
        " map lies in)"
    )
    text += "." if size == 1 else f"; the median of them is {_number(made.median)}{unit}."
    if made.around_median is not None:
        beside = "cell" if made.around_count == 1 else f"{made.around_count} cells"
        text += f" The median of the {beside} next to it is {_number(made.around_median)}{unit}."
    return text


def _measure(found: Heatmap) -> str:
    """What a cell of the map shows, in words."""
    if found.aggregate == WINNERS:
        return "share of variants that gain"
    if found.aggregate == COUNT:
        return "number of variants"
    quantile = found.aggregate.removeprefix("q")
    name = f"{quantile} % quantile" if quantile.isdigit() else _AGGREGATES[found.aggregate]
    return f"{name} of the {_METRICS[found.metric]} of its variants"


def _number(value: float) -> str:
    return f"{value:.2f}".replace("-", "\N{MINUS SIGN}")
