from __future__ import annotations

import itertools
import json
import math
import statistics
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute.errors import InvalidInput
from compute.report.document import surface_record
from compute.report.surface import surface

NUMBERS = st.one_of(st.floats(-200, 500, width=32), st.just(math.nan), st.just(-math.inf))


def by_hand(
    values: list[float], sizes: list[int], i: int, j: int, cell: tuple[range, range]
) -> tuple[float, ...] | None:
    """Aggregates of the variants whose digits i and j lie in `cell`, one by one."""
    places = itertools.product(*(range(n) for n in sizes))
    found = [
        v
        for v, place in zip(values, places, strict=True)
        if place[i] in cell[0] and place[j] in cell[1] and math.isfinite(v)
    ]
    if not found:
        return None
    share = 100 * sum(v > 0 for v in found) / len(found)
    return statistics.median(found), statistics.fmean(found), min(found), max(found), share


@given(st.data(), st.lists(st.integers(1, 6), min_size=2, max_size=4), st.sampled_from([2, 3, 9]))
def test_cells_against_a_count_one_by_one(data: Any, sizes: list[int], bins: int) -> None:
    total = math.prod(sizes)
    values = data.draw(st.lists(NUMBERS, min_size=total, max_size=total))
    if not any(map(math.isfinite, values)):
        values[0] = 1.0
    names = [f"axis{i}" for i in range(len(sizes))]
    made = surface(np.array(values, np.float32), names, [range(n) for n in sizes], max_bins=bins)
    varied = [i for i, n in enumerate(sizes) if n > 1]
    assert [axis.name for axis in made.axes] == [names[i] for i in varied]
    assert made.non_finite == sum(not math.isfinite(v) for v in values)
    assert len(made.pairs) == (
        1 if len(varied) == 1 else len(list(itertools.combinations(varied, 2)))
    )
    for cells in made.pairs:
        x_axis = made.axes[cells.x]
        y = cells.y
        j = varied[cells.x] if y is None else varied[y]
        y_edges = (0, sizes[j]) if y is None else made.axes[y].edges
        for b, a in itertools.product(range(len(y_edges) - 1), range(x_axis.bins)):
            span = (
                range(x_axis.edges[a], x_axis.edges[a + 1]),
                range(y_edges[b], y_edges[b + 1]),
            )
            expected = by_hand(values, sizes, varied[cells.x], j, span)
            parts = (cells.median, cells.mean, cells.minimum, cells.maximum, cells.profitable_pct)
            got = [float(part[b, a]) for part in parts]
            if expected is None:
                assert all(map(math.isnan, got))
            else:
                assert got == pytest.approx(expected, rel=1e-6, abs=1e-4)


def test_one_axis_and_none() -> None:
    line = surface(np.array([1.0, -2.0, 3.0]), ["a", "b"], [[7], [1, 2, 3]])
    assert line.pairs[0].y is None
    assert line.pairs[0].median.tolist() == [[1.0, -2.0, 3.0]]
    assert line.best_bins == (2,)
    point = surface(np.array([4.0]), ["a"], [[7]])
    assert point.axes == point.pairs == point.best_bins == ()
    assert point.neighbours is None
    assert point.histogram.counts.sum() == 1


def test_axis_length_is_binned_with_spans_as_labels() -> None:
    values = np.arange(450 * 2, dtype=np.float32)
    made = surface(values, ["window", "mode"], [range(10, 460), ["a", "b"]])
    long = made.axes[0]
    assert long.bins == 150
    assert long.labels()[0] == "10–12"
    assert made.axes[1].labels() == ["a", "b"]
    assert made.best_bins == (149, 1)
    assert made.pairs[0].maximum.shape == (2, 150)


def test_all_pairs_together_stay_within_the_cells() -> None:
    sizes = [40, 40, 40, 4]
    values = np.zeros(math.prod(sizes), np.float32)
    made = surface(values, list("abcd"), [range(n) for n in sizes], max_cells=900)
    assert sum(cells.median.size for cells in made.pairs) <= 900


def test_lonely_peak_and_plateau_differ_in_their_neighbours() -> None:
    i, j = np.indices((30, 30))
    plateau = (50 * np.exp(-((i - 12) ** 2 + (j - 20) ** 2) / 60.0)).astype(np.float32)
    peak = np.full((30, 30), -5.0, np.float32)
    peak[12, 20] = 50.0
    axes = [range(30), range(30)]
    broad, lonely = (surface(v.ravel(), ["a", "b"], axes) for v in (plateau, peak))
    assert broad.best == lonely.best == 12 * 30 + 20
    assert broad.neighbours is not None
    assert lonely.neighbours is not None
    assert broad.neighbours.count == lonely.neighbours.count == 8
    assert broad.neighbours.minimum > 45
    assert lonely.neighbours.maximum == -5


def test_neighbours_stop_at_the_edge_of_the_grid() -> None:
    values = np.zeros((4, 5))
    values[0, 4] = 9.0
    values[1, 3] = 2.0
    made = surface(values.ravel(), ["a", "b"], [range(4), range(5)])
    assert made.neighbours is not None
    assert (made.neighbours.count, made.neighbours.maximum) == (3, 2.0)


def test_marked_variant_may_be_another_than_the_greatest() -> None:
    made = surface(np.array([1.0, 5.0, 3.0, 2.0]), ["a", "b"], [[1, 2], [1, 2]], best=2)
    assert (made.best, made.best_value, made.best_bins) == (2, 3.0, (1, 0))


@given(st.lists(st.floats(-1e4, 1e5, width=32), min_size=1, max_size=300))
def test_histogram_counts_every_variant(values: list[float]) -> None:
    made = surface(np.array(values, np.float32), ["a"], [range(len(values))]).histogram
    assert made.counts.sum() == len(values)
    assert (np.diff(made.edges) > 0).all()


def test_far_tail_does_not_flatten_the_histogram() -> None:
    values = np.random.default_rng(3).normal(0, 10, 20_000)
    values[7] = 1e5
    made = surface(values, ["a"], [range(20_000)]).histogram
    assert made.open_high
    assert not made.open_low
    assert made.edges[-1] < 200
    assert made.counts[-1] == 1
    assert np.count_nonzero(made.counts > 100) > 10


def test_record_is_json() -> None:
    values = np.array([1.0, math.nan, math.inf, -2.0])
    record = surface_record(surface(values, ["a", "b"], [[1, 2], ["x", "y"]]))
    text = json.loads(json.dumps(record, allow_nan=False))
    assert text["pairs"][0]["median"] == [1.0, None, None, -2.0]
    assert text["axes"][1] == {"name": "b", "labels": ["x", "y"]}


def test_refuses_what_does_not_fit() -> None:
    with pytest.raises(InvalidInput, match="axes span 6, there are 5"):
        surface(np.zeros(5), ["a", "b"], [range(2), range(3)])
    with pytest.raises(InvalidInput, match="not finite"):
        surface(np.array([math.nan]), ["a"], [[1]])


def test_millions_of_variants_need_little_extra_memory() -> None:
    sizes = [100, 50, 20, 10]
    values = np.random.default_rng(1).normal(0, 10, math.prod(sizes)).astype(np.float32)
    tracemalloc.start()
    made = surface(values, list("abcd"), [range(n) for n in sizes])
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert made.variants == 1_000_000
    assert peak_bytes < 48 << 20
