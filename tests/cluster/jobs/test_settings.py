"""Settings of jobs: the shipped files, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cluster.jobs.settings import JobSettings
from compute.errors import InvalidInput
from compute.settings import Defaults
from configs.load import ENVIRONMENTS, config
from tests.cluster.jobs.stored import SETTINGS


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_shipped_values(environment: str) -> None:
    found = config("backtest", {"ROEHUB_ENV": environment}).settings(JobSettings)
    assert found == replace(SETTINGS, snapshot_seconds=30.0, snapshot_variants_step=1000)
    assert (found.max_attempts, found.retention_days) == (5, 30.0)
    found.check_defaults(Defaults())


@pytest.mark.parametrize(
    "name",
    [
        "top_k_persisted_default",
        "max_active_jobs_per_user",
        "claim_poll_seconds",
        "lease_seconds",
        "heartbeat_seconds",
        "parallel_workers",
        "snapshot_seconds",
        "snapshot_variants_step",
        "max_attempts",
        "retention_days",
    ],
)
def test_numbers_are_positive(name: str) -> None:
    for value in (0, -1, float("inf")):
        with pytest.raises(InvalidInput, match=f"{name} must be > 0"):
            replace(SETTINGS, **{name: value})


def test_a_heartbeat_is_shorter_than_half_a_lease() -> None:
    assert replace(SETTINGS, lease_seconds=2.0, heartbeat_seconds=0.99)
    with pytest.raises(InvalidInput, match="below half of lease_seconds"):
        replace(SETTINGS, lease_seconds=2.0, heartbeat_seconds=1.0)


def test_a_default_that_no_job_could_keep() -> None:
    small = replace(SETTINGS, top_k_persisted_default=200)
    with pytest.raises(InvalidInput, match="300 > 200"):
        small.check_defaults(Defaults())
    replace(small, enabled=False).check_defaults(Defaults())
