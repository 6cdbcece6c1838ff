"""Alert rules, dashboard and metrics page speak of metrics that there are, and of all of them."""

from __future__ import annotations

import configparser
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry
from typer.testing import CliRunner

from ingest.cli import app as ingest_app
from ingest.live.worker import WorkerSettings
from ingest.metrics import LiveMetrics, RestMetrics, SchedulerMetrics

OPS = Path(__file__).resolve().parents[2] / "docs" / "ops"
RUNBOOK = OPS.parent / "runbooks" / "market-data.md"
FUNCTIONS = {"sum", "by", "rate", "increase", "histogram_quantile", "and", "or", "on"}
LABELS = {"market_id", "status_code", "job", "le", "status"}


@pytest.fixture(scope="module")
def metrics() -> dict[str, tuple[str, str]]:
    """Type and meaning of every metric, by the name it is scraped under."""
    registry = CollectorRegistry()
    LiveMetrics(registry)
    RestMetrics(registry)
    SchedulerMetrics(registry)
    return {
        one.name + ("_total" if one.type == "counter" else ""): (one.type, one.documentation)
        for one in registry.collect()
    }


def named(expression: str) -> set[str]:
    """Names of metrics in a PromQL expression, of histograms without what they add."""
    bare = re.sub(r'"[^"]*"|\[\w+\]', "", expression)
    words = set(re.findall(r"[a-z_][a-z0-9_]*", bare)) - FUNCTIONS - LABELS - {"up"}
    return {re.sub(r"_(bucket|sum|count)$", "", word) for word in words}


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((OPS / "alerts.yaml").read_text())["groups"]
    return group["rules"]


def test_alerts_watch_metrics_that_exist(metrics: dict[str, tuple[str, str]]) -> None:
    found = set().union(*(named(rule["expr"]) for rule in rules()))
    assert found <= metrics.keys()
    assert {
        "ws_connected", "insert_errors_total", "rest_fill_errors_total",
        "redis_publish_errors_total", "ws_closed_to_insert_done_seconds",
        "scheduler_job_errors_total",
    } <= found  # fmt: skip
    assert any(rule["expr"].startswith("up{") for rule in rules())


def test_whatever_counts_a_loss_or_a_failure_is_watched(
    metrics: dict[str, tuple[str, str]],
) -> None:
    bad = re.compile(r"_(errors|dropped|refused|refused_symbols|idle|malformed)_total$")
    watched = set().union(*(named(rule["expr"]) for rule in rules()))
    # Errors of sockets are watched by what they come to: no socket, reconnects, silence.
    assert {name for name in metrics if bad.search(name)} - watched == {"ws_errors_total"}


def test_the_first_answer_of_a_watched_status_is_an_increase() -> None:
    """`increase` is 0 for a series that begins at 1."""
    (expression,) = [rule["expr"] for rule in rules() if rule["alert"] == "MarketDataRestErrors"]
    found = re.search(r'status_code=~"([\d|]+)"', expression)
    assert found is not None
    registry = CollectorRegistry()
    RestMetrics(registry)
    for status in found[1].split("|"):
        labels = {"market_id": "4", "status_code": status}
        assert registry.get_sample_value("rest_errors_total", labels) == 0


def test_every_alert_has_its_paragraph_in_the_runbook() -> None:
    headings = set(re.findall(r"^### (\w+)$", RUNBOOK.read_text(), re.MULTILINE))
    assert {rule["alert"] for rule in rules()} == headings
    for rule in rules():
        assert rule["annotations"]["runbook"] == (
            f"docs/runbooks/market-data.md#{rule['alert'].lower()}"
        )
        assert rule["labels"]["severity"] in ("warning", "critical")


def test_the_dashboard_draws_metrics_that_exist(metrics: dict[str, tuple[str, str]]) -> None:
    board = json.loads((OPS / "grafana-dashboard.json").read_text())
    expressions = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    drawn = set().union(*map(named, expressions))
    assert drawn <= metrics.keys()
    assert {"ws_refused_symbols_total", "rest_fill_dropped_total", "insert_buffer_rows"} <= drawn
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))


def test_the_page_lists_every_metric_as_it_describes_itself(
    metrics: dict[str, tuple[str, str]],
) -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| (gauge|counter|histogram) \| ([^|]+) \| (.+) \|$",
        (OPS / "metrics.md").read_text(),
        re.MULTILINE,
    )
    assert {name: (kind, about) for name, kind, _, about in rows} == metrics
    assert {name for name, _, labels, _ in rows if "`market_id`" not in labels} == {
        "scheduler_job_runs_total", "scheduler_job_errors_total", "scheduler_job_duration_seconds"
    }  # fmt: skip


def test_the_unit_starts_commands_there_are_and_gives_them_time_to_stop() -> None:
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str  # type: ignore[assignment]
    unit.read(OPS / "roehub-ingest@.service")
    service = unit["Service"]
    assert service["EnvironmentFile"] == "/etc/roehub/roehub.env"
    assert int(service["TimeoutStopSec"]) > WorkerSettings().grace_s
    assert service["RestartPreventExitStatus"] == "2"
    command = service["ExecStart"].split()
    assert command[:3] == ["/opt/roehub/.venv/bin/roehub", "ingest", "%i"]
    for instance in ("live", "schedule"):
        done = CliRunner().invoke(ingest_app, [instance, *command[3:], "--help"])
        assert done.exit_code == 0, done.output


def test_the_file_of_variables_names_what_is_read() -> None:
    names = re.findall(r"^(?:# )?([A-Z_]+)=", (OPS / "roehub.env").read_text(), re.MULTILINE)
    assert len(names) == len(set(names)) > 10
    root = OPS.parents[1]
    code = [path for part in ("ingest", "configs") for path in (root / part).rglob("*.py")]
    read = "\n".join(path.read_text() for path in code)
    assert [name for name in names if f'"{name}"' not in read] == []
