"""Alert rules, dashboard, scrape example and runbook of the live runner speak of what there is, and
of all of it."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from cluster.jobs.cli import METRICS_PORT
from configs.load import VARIABLES
from live.instrument import RepairSettings
from live.metrics import LiveMetrics, OutputMetrics, TelegramMetrics
from live.settings import (
    MessageSettings,
    MetricsSettings,
    RealtimeSettings,
    StreamSettings,
    WorkerSettings,
)
from tests.tools.test_ops import named as words

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "runbooks" / "live.md").read_text()
SETTINGS = (
    WorkerSettings, StreamSettings, RepairSettings, RealtimeSettings, MessageSettings,
    MetricsSettings,
)  # fmt: skip


@pytest.fixture(scope="module")
def metrics() -> dict[str, tuple[str, str]]:
    """Type and meaning of every metric, by the name it is scraped under."""
    registry = CollectorRegistry()
    LiveMetrics(registry)
    OutputMetrics(registry)
    TelegramMetrics(registry)
    return {
        one.name + ("_total" if one.type == "counter" else ""): (one.type, one.documentation)
        for one in registry.collect()
    }


def named(expression: str) -> set[str]:
    """Names of metrics in a PromQL expression."""
    return words(expression) - {"max", "instance", "instrument_key", "result"}


def rules(name: str = "live-alerts.yaml") -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((DOCS / "ops" / name).read_text())["groups"]
    return group["rules"]


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_alerts_watch_metrics_that_exist_and_are_explained(
    metrics: dict[str, tuple[str, str]],
) -> None:
    found = set().union(*(named(rule["expr"]) for rule in rules()))
    assert found <= metrics.keys()
    explained = re.findall(r"^### (\w+)$", section("Alerts"), re.MULTILINE)
    assert explained == [one["alert"] for one in rules()]
    for rule in rules():
        runbook = f"docs/runbooks/live.md#{rule['alert'].lower()}"
        assert rule["annotations"]["runbook"] == runbook
        assert rule["labels"]["severity"] in ("warning", "critical")


def test_whatever_counts_a_loss_or_a_failure_is_watched(
    metrics: dict[str, tuple[str, str]],
) -> None:
    bad = re.compile(r"_(errors|failed_runs|leases_lost|differences)_total$|_lag_seconds$")
    watched = set().union(*(named(rule["expr"]) for rule in rules()))
    assert {name for name in metrics if bad.search(name)} <= watched


def test_the_dashboard_draws_every_metric(metrics: dict[str, tuple[str, str]]) -> None:
    board = json.loads((DOCS / "ops" / "live-dashboard.json").read_text())
    expressions = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    assert set().union(*map(named, expressions)) == metrics.keys()
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    others = json.loads((DOCS / "ops" / "grafana-dashboard.json").read_text())
    assert board["uid"] != others["uid"]


def test_the_page_lists_every_metric_as_it_describes_itself(
    metrics: dict[str, tuple[str, str]],
) -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| (gauge|counter|histogram) \| (.+) \|$", section("Metrics"), re.MULTILINE
    )
    assert {name: (kind, about) for name, kind, about in rows} == metrics


def test_the_page_names_every_setting_and_variable() -> None:
    for settings in SETTINGS:
        for setting in fields(settings):
            assert re.search(rf"\b{setting.name}`", section("Settings")), setting.name
    for variable in VARIABLES["strategy"]:
        assert f"`{variable}`" in section("Settings")


def test_prometheus_scrapes_the_ports_there_are_under_the_names_of_the_rules() -> None:
    example = yaml.safe_load((DOCS / "ops" / "prometheus.yaml").read_text())
    ports = {
        job["job_name"]: int(job["static_configs"][0]["targets"][0].rpartition(":")[2])
        for job in example["scrape_configs"]
    }
    assert ports == {
        "roehub-api": 8000,
        "market-data-ws-worker": 9201,
        "market-data-scheduler": 9202,
        "strategy-live-runner": MetricsSettings().port,
        "roehub-jobs": METRICS_PORT,
    }
    assert MetricsSettings().port == 9203
    assert METRICS_PORT == 9204
    files = example["rule_files"]
    assert sorted(files) == sorted(path.name for path in (DOCS / "ops").glob("*alerts.yaml"))
    for rule in (one for name in files for one in rules(name)):
        for pattern in re.findall(r'job=~?"([^"]+)"', rule["expr"]):
            assert any(re.fullmatch(pattern, job) for job in ports), pattern
