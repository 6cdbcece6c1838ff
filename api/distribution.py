"""How a metric is distributed over the wanted variants, and how the best one's neighbours do."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from api.column_parts import Wanted, metric, refused
from api.columns import Columns
from compute.report.surface import histogram, neighbours, verdict

Record = dict[str, Any]


def distribution(columns: Columns, wanted: Wanted, of: str) -> Record:
    """Histogram, quartiles and mean of a metric, JSON-able.

    Raises: InvalidRequest for a metric that there is none of, and where no variant has a value.
    """
    block = columns.block(wanted, metric("metric", of)).ravel()
    finite = block[np.isfinite(block)]
    if not len(finite):
        raise refused("metric", "no_value", "no variant is left with a value; widen the filters")
    low, middle, high = np.quantile(finite, (0.25, 0.5, 0.75)).tolist()
    found = histogram(finite)
    return {
        "metric": of,
        "edges": found.edges.tolist(),
        "counts": found.counts.tolist(),
        "open_low": found.open_low,
        "open_high": found.open_high,
        "variants": len(finite),
        "left_out": columns.grid.total - len(finite),
        "least": float(finite.min()),
        "greatest": float(finite.max()),
        "mean": float(finite.mean()),
        "median": middle,
        "quartiles": [low, high],
        "above_zero_pct": 100.0 * int(np.count_nonzero(finite > 0.0)) / len(finite),
    }


def sample(
    columns: Columns, wanted: Wanted, of: str, *, best: int, random: int, seed: int
) -> tuple[list[Record], list[Record], int]:
    """(the `best` variants by a metric, others by chance, how many there are to choose from).

    Equal variants stand in the order of the grid; the same seed draws the same others.
    Raises: InvalidRequest for a metric that there is none of.
    """
    block = columns.block(wanted, metric("metric", of)).ravel()
    there = np.flatnonzero(~np.isnan(block))
    places = _greatest(block[there], best)
    first = there[places]
    left = np.ones(len(there), np.bool_)
    left[places] = False
    rest = there[left]
    drawn = np.random.default_rng(seed).choice(len(rest), min(random, len(rest)), replace=False)
    others = rest[np.sort(drawn)]
    found = [columns.rows(columns.flat(wanted, chosen)) for chosen in (first, others)]
    return found[0], found[1], len(there)


def _greatest(values: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Places of the `count` greatest values, greatest first, of equal ones the first."""
    if count < len(values):
        cut = np.partition(values, len(values) - count)[len(values) - count] if count else np.inf
        above = np.flatnonzero(values > cut) if count else np.empty(0, np.int64)
        equal = np.flatnonzero(values == cut)[: count - len(above)]
        chosen = np.sort(np.concatenate([above, equal]))
    else:
        chosen = np.arange(len(values))
    return chosen[np.argsort(-values[chosen], kind="stable")]


def around(columns: Columns, flat: int, has_stops: bool) -> Record | None:
    """Returns of the variants at most one step away from one on any axis; None where it has none.

    They are without stops, as all columns are.
    """
    several = [i for i, size in enumerate(columns.grid.sizes) if size > 1]
    digits = columns.grid.digits(np.array([flat]))[0]
    returns = columns.all("total_return_pct")
    cube = returns.reshape([columns.grid.sizes[i] for i in several] or [1])
    found = neighbours(cube, tuple(int(digits[i]) for i in several))
    if found is None:
        return None
    own = float(returns[flat])
    return {
        "own": own,
        "count": found.count,
        "median": found.median,
        "least": found.minimum,
        "greatest": found.maximum,
        "words": verdict(own, found, has_stops=has_stops),
    }
