"""`roehub bench --device cuda`, as far as it goes without a card: the proof, and the table."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from compute.ranking import Scores
from compute.selection import Best, Scan
from tests.benchmarks.card import (
    Unequal,
    _equal,  # pyright: ignore[reportPrivateUsage]
    alike,
    section_cuda,
)
from tests.benchmarks.options import Options


def test_it_proves_equality_and_then_measures() -> None:
    said: list[str] = []
    found = section_cuda(Options((1,), True, said.append))
    [(compared, candidates, rows, different)] = found.tables[0].rows
    assert (compared > 1_000, candidates > 50, rows > 20, different) == (True, True, True, 0)
    assert [row[:2] for row in found.tables[1].rows] == [
        ("A", "score"), ("B", "score"), ("A", "fixed_quote"), ("B", "fixed_quote"),
    ]  # fmt: skip
    assert "to the bit" in said[0]


def test_it_names_what_differs() -> None:
    index, nan = np.arange(3), np.full(3, np.nan)
    scores = Scores(index, np.ones(3), np.ones(3, np.int32), np.ones(3, np.int32), nan, nan, nan)
    other = replace(scores, won=np.array([np.nan, 1.0, np.nan]))
    with pytest.raises(Unequal, match=r"^A: won of 1 is nan, not 1\.0$"):
        _equal(scores, other, "A")
    assert _equal(scores, scores, "A") == 3
    scan, best = Scan(1, "total_return_pct", 0, 0), Best(index, np.array([1.0, 2, 3]), eligible=3)
    with pytest.raises(Unequal, match="eligible is 2, not 3"):
        alike(replace(best, eligible=2), best, scan, "A")
    two = Scan(2, "total_return_pct", 0, 0)
    assert alike(best, best, two, "A") == 1
    with pytest.raises(Unequal, match=r"candidates \[0, 2\]"):
        alike(replace(best, merit=best.merit[::-1]), best, two, "A")
