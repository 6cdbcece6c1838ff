"""The requests of the documentation are valid ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.inputs import effective, read_request
from tests.cluster.cli import ROOT

EXAMPLES = sorted((ROOT / "docs" / "examples").glob("*.json"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_a_valid_request(path: Path) -> None:
    assert effective(read_request(path)).grid.total > 0


def test_the_million_is_one() -> None:
    path = ROOT / "docs" / "examples" / "million.json"
    assert effective(read_request(path)).grid.total == 1_000_000
