"""The recipe for an indicator keeps its word: its one file, put in place, is an indicator."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from compute.indicators.definition import GROUPS
from compute.indicators.registry import ids
from tests.cluster.cli import ROOT, axis, request, write_json, write_market

RECIPE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CODE = "from tests.tools import test_recipe; test_recipe.use_it()"


@pytest.fixture(scope="module")
def written() -> tuple[str, str]:
    """Id and text of the file in the recipe."""
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (text,) = RECIPE.findall(contributing)
    found = re.search(r'indicator_id="([a-z_.]+)"', text)
    assert found is not None
    assert f"`compute/indicators/{found[1].replace('.', '/')}.py`" in contributing
    return found[1], text


@pytest.fixture(scope="module")
def used(written: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a process says in which the file stands beside the others, and nothing else differs."""
    name, text = written
    root = tmp_path_factory.mktemp("recipe")
    for group in GROUPS:
        (root / "indicators" / group).mkdir(parents=True)
        for path in (ROOT / "compute" / "indicators" / group).glob("*.py"):
            (root / "indicators" / group / path.name).symlink_to(path)
    (root / "indicators" / f"{name.replace('.', '/')}.py").write_text(text, encoding="utf-8")
    write_market(root / "candles.parquet")
    block = {"indicator_id": name, "source": axis("close"), "params": {"window": axis(10, 20, 30)}}
    rsi = request()["template"]["indicator_grids"][1]
    changes = {"template.indicator_grids": [block, rsi], "top_k": 3}
    write_json(root / "request.json", request(changes))
    done = subprocess.run(
        [sys.executable, "-c", CODE, root, name],
        cwd=ROOT, env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((root / "said.json").read_text())


def use_it() -> None:
    """Writes said.json: listing, contract tests and back-test of a process that has one more file.

    For a process of its own, as it changes where the registry looks.
    """
    from importlib import import_module

    import compute.indicators.registry as registry
    from tests.cluster.cli import call

    root, name = Path(sys.argv[1]), sys.argv[2]
    group = name.split(".")[0]
    registry._PACKAGE = root / "indicators"
    import_module(f"compute.indicators.{group}").__path__.append(str(root / "indicators" / group))
    suite = ROOT / "tests" / "compute" / "indicators"
    ran = Ran()
    status = pytest.main(["-q", "-p", "no:cacheprovider", "-k", name, str(suite)], [ran])
    run = call(
        "backtest", root / "request.json", "--candles", root / "candles.parquet",
        "--executor", "local", "--threads", 1, "--json",
    )  # fmt: skip
    assert run.status == 0, run.stderr
    said = {
        "ids": registry.ids(),
        "listing": call("indicators").stdout,
        "shown": call("indicators", "show", name).stdout,
        "suite": int(status),
        "tests": sorted(ran.names),
        "result": json.loads(run.stdout),
    }
    write_json(root / "said.json", said)


class Ran:
    """Names of the tests that passed."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed:
            self.names.add(report.nodeid.split("::")[-1].split("[")[0])


def test_one_file_is_one_more_indicator(written: tuple[str, str], used: dict[str, Any]) -> None:
    name, text = written
    assert text.count("\n") <= 70
    assert name not in ids()
    assert used["ids"] == sorted([*ids(), name])
    assert f"\n{name} " in used["listing"]
    assert "output value (primary)\n    rule compare_price_to_output of source" in used["shown"]


def test_the_contract_suite_finds_the_file_and_it_passes(used: dict[str, Any]) -> None:
    assert used["suite"] == 0
    assert {
        "test_definition_is_sane",
        "test_kernel_equals_oracle_for_every_output",
        "test_kernel_equals_oracle_on_awkward_markets",
        "test_kernel_equals_oracle_at_the_bounds",
        "test_first_finite_bar_of_every_output_and_settling",
        "test_declared_axes_are_the_ones_that_matter",
        "test_no_value_changes_with_later_bars",
        "test_no_vote_changes_with_later_bars",
        "test_a_row_does_not_depend_on_its_neighbours",
        "test_windowed_values_do_not_depend_on_where_the_bars_begin",
        "test_windowed_values_do_not_drift",
    } <= set(used["tests"])


def test_a_back_test_runs_with_it(written: tuple[str, str], used: dict[str, Any]) -> None:
    rows = used["result"]["variants"]
    assert len(rows) == 3
    for row in rows:
        assert written[0] in json.dumps(row)
        assert row["metrics"]["num_trades"] > 0
