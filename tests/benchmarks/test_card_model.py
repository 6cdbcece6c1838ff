"""The model of cards: bounds that must hold, and the page that shows its numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from compute.cuda.stages import launch_positions
from tests.benchmarks.card_model import (
    CARDS,
    H100,
    RTX_4090,
    base_work,
    cases,
    model_of,
    pair_work,
    ridges,
    rows,
)

PAGE = Path(__file__).parents[2] / "docs" / "architecture" / "compute" / "cuda.md"


def test_the_page_shows_what_the_model_says() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for row in rows():
        assert f"| {' | '.join(row)} |" in text
    for row in ridges():
        assert f"| {' | '.join(row)} |" in text
    for card in CARDS:
        assert card.name in text


def test_launches_are_short_on_the_slowest_card() -> None:
    """Pair by pair over a year of minutes, a thousand pairs a variant: what takes longest."""
    bars, pairs = 525_600, 1_000
    work = pair_work(bars, 2_690 / 35_040 * bars, 2)
    count = launch_positions(0.05 * bars * pairs, pairs, 4) * pairs
    assert 0.02 < RTX_4090.seconds(work, count) < 0.2
    assert RTX_4090.seconds(work, 4_096 * pairs) > 10  # without regard to what a position costs


def test_time_grows_with_work_and_falls_with_the_card() -> None:
    small, large = base_work(35_040, 500, 2), base_work(35_040, 5_000, 2)
    assert H100.seconds(small, 100_000) < H100.seconds(large, 100_000)
    assert H100.seconds(large, 100_000) < replace(H100, ghz=1.0).seconds(large, 100_000)
    # Few threads do not fill a card: a tenth of them takes as long as one thread does.
    assert H100.seconds(large, 100) == H100.seconds(large, 1_000)
    for case in cases():
        assert all(case.rate(card) > case.core for card in CARDS)


def test_a_card_of_an_unknown_generation_is_a_small_one() -> None:
    assert (model_of("new", (99, 0), 10, 1.0, 100).doubles, H100.doubles) == (2, 64)
