"""The requests and strategies of the documentation are valid ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cluster.inputs import effective, read_request
from compute.settings import Defaults
from live.strategies.settings import StrategySettings
from live.strategies.spec import SpecRules, backtest_of_spec, spec_of
from tests.cluster.cli import ROOT

RULES = SpecRules(StrategySettings(), Defaults())

EXAMPLES = sorted((ROOT / "docs" / "examples").glob("*.json"))
STRATEGIES = [path for path in EXAMPLES if "schema_version" in json.loads(path.read_text())]
REQUESTS = [path for path in EXAMPLES if path not in STRATEGIES]


@pytest.mark.parametrize("path", REQUESTS, ids=lambda path: path.stem)
def test_an_example_is_a_valid_request(path: Path) -> None:
    assert effective(read_request(path)).grid.total > 100


@pytest.mark.parametrize("path", STRATEGIES, ids=lambda path: path.stem)
def test_an_example_is_a_valid_strategy(path: Path) -> None:
    spec = spec_of(json.loads(path.read_text()), RULES)
    assert backtest_of_spec(spec, RULES.defaults).grid.total == 1


def test_the_million_is_one() -> None:
    path = ROOT / "docs" / "examples" / "million.json"
    assert effective(read_request(path)).grid.total == 1_000_000
