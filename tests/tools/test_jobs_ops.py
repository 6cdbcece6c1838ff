"""Alert rules and runbook of jobs and API speak of metrics, log lines and settings that there are,
and of all of them."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

import cluster.jobs.run
import cluster.jobs.runner
import cluster.jobs.service
from api.metrics import HttpMetrics
from api.sync_metrics import SyncMetrics
from cluster.jobs.job import STATES
from cluster.jobs.metrics import RunnerMetrics
from cluster.jobs.settings import JobSettings

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "runbooks" / "jobs.md").read_text()


@pytest.fixture(scope="module")
def metrics() -> dict[str, tuple[str, str]]:
    """Type and meaning of every metric, by the name it is scraped under."""
    registry = CollectorRegistry()
    RunnerMetrics(registry)
    HttpMetrics(registry)
    SyncMetrics(registry)
    return {
        one.name + ("_total" if one.type == "counter" else ""): (one.type, one.documentation)
        for one in registry.collect()
    }


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((DOCS / "ops" / "jobs-alerts.yaml").read_text())["groups"]
    return group["rules"]


def test_alerts_watch_metrics_that_exist_and_are_explained(
    metrics: dict[str, tuple[str, str]],
) -> None:
    named = re.compile(r"\b(?:backtest_job_runner|roehub)_\w+")
    found = {name for rule in rules() for name in named.findall(rule["expr"])}
    assert found
    assert found <= metrics.keys()
    section = PAGE.split("\n## Alerts\n")[1].split("\n## ")[0]
    assert re.findall(r"^### (\w+)$", section, re.MULTILINE) == [one["alert"] for one in rules()]
    for rule in rules():
        runbook = f"docs/runbooks/jobs.md#{rule['alert'].lower()}"
        assert rule["annotations"]["runbook"] == runbook
        assert rule["labels"]["severity"] in ("warning", "critical")


def test_the_page_lists_every_metric_as_it_describes_itself(
    metrics: dict[str, tuple[str, str]],
) -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| (gauge|counter|histogram) \| (?:runner|API) \| (.+) \|$",
        PAGE,
        re.MULTILINE,
    )
    assert {name: (kind, about) for name, kind, about in rows} == metrics


def test_the_page_explains_every_line_of_the_log() -> None:
    said: set[str] = set()
    for module in (cluster.jobs.runner, cluster.jobs.run, cluster.jobs.service):
        text = Path(module.__file__ or "").read_text()
        said |= set(re.findall(r'(?:_say\(logging\.\w+, "|_tell\("|event=)(\w+)', text))
    told = set(re.findall(r"^\| `(\w+)` \| (?:info|warning|error) \|", PAGE, re.MULTILINE))
    assert told == said
    assert len(said) > 10


def test_the_page_knows_states_and_settings() -> None:
    states = PAGE.split("\n| state | meaning |\n")[1].split("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \|", states, re.MULTILINE) == [*STATES]
    section = PAGE.split("\n## Settings\n")[1].split("\n## ")[0]
    for setting in fields(JobSettings):
        assert f"`{setting.name}`" in section
