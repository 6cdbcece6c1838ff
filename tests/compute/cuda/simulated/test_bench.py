"""`roehub bench --device cuda`, as far as it goes without a card: the proof, and the table."""

from __future__ import annotations

from tests.benchmarks.card import section_cuda
from tests.benchmarks.options import Options


def test_it_proves_equality_and_then_measures() -> None:
    said: list[str] = []
    found = section_cuda(Options((1,), True, said.append))
    assert [row[1] for row in found.tables[0].rows] == [0]
    assert found.tables[0].rows[0][0] > 1_000
    assert [row[:2] for row in found.tables[1].rows] == [
        ("A", "score"), ("B", "score"), ("A", "fixed_quote"), ("B", "fixed_quote"),
    ]  # fmt: skip
    assert "to the bit" in said[0]
