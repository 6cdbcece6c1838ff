"""Counts and sizes as texts."""

from __future__ import annotations

import pytest

from compute.quantities import size_text, spaced


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (999, "999"), (1_000, "1 000"), (-12_345_678, "-12 345 678")]
)
def test_digits_come_in_groups_of_three(number: int, text: str) -> None:
    assert spaced(number) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (1_023, "1023 bytes"),
        (1_024, "1.00 KiB"),
        (100_000, "97.66 KiB"),
        (5 << 20, "5.00 MiB"),
        (5_368_709_120, "5.00 GiB"),
    ],
)
def test_sizes_take_the_largest_unit(size: int, text: str) -> None:
    assert size_text(size) == text
