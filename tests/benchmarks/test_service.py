"""The service's workloads at a tiny size: they run, answers are equal, everybody is heard."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.benchmarks.service_commits import commit_findings, commits
from tests.benchmarks.service_health import health, health_findings
from tests.benchmarks.service_load import LIST, STATUS, load, load_findings
from tests.benchmarks.service_place import USERS, Place, Served, fill_candles, fill_jobs
from tests.benchmarks.service_streams import stream_findings, streams
from tests.benchmarks.workloads import small
from tests.postgres import TEMPLATE, execute, of_database, postgres, postgres_directory

__all__ = ["postgres", "postgres_directory"]

NAME = "service_benchmark"
MINUTES = 4_000


@pytest.fixture(scope="module")
def on(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A place with candles, over a database of this module."""
    execute(postgres, f"CREATE DATABASE {NAME} TEMPLATE {TEMPLATE}")
    found = Place(tmp_path_factory.mktemp("service"), of_database(postgres, NAME))
    found.results.mkdir()
    fill_candles(found, MINUTES)
    yield found
    execute(postgres, f"DROP DATABASE {NAME} WITH (FORCE)")


@pytest.fixture(scope="module")
def api(on: Place) -> Iterator[Served]:
    """The service itself."""
    with on.api() as found:
        yield found


def test_status_and_list_answer_what_the_bare_endpoints_do(on: Place, api: Served) -> None:
    owned = fill_jobs(on, 3 * USERS)
    assert len(owned) == USERS
    assert sum(map(len, owned.values())) == 3 * USERS + 1
    with on.bare() as bare:
        found = load(api, bare, owned, rounds=1, seconds=0.2)
    assert found[0][STATUS].rate > 0
    assert found[0][LIST].p50 <= found[0][LIST].p99
    table, goals = load_findings(found, judged=False)
    assert [len(row) for row in table.rows] == [len(table.columns)] * 6
    assert [goal.met for goal in goals] == [None, None]


@pytest.mark.soak
def test_health_answers_while_runs_and_a_job_are_computed(on: Place, api: Served) -> None:
    with on.runner(1):
        found = health(api, seconds=0.5, minutes=MINUTES, large=False)
    assert found.runs > 0
    assert found.idle["answers"] >= 45
    assert found.busy["answers"] >= 45
    assert len(health_findings(found, judged=False)[0].rows) == 2


def test_all_streams_hear_every_event(on: Place, api: Served) -> None:
    found = streams(on, api, readers=20, events=3)
    assert len(found.seconds) == 3
    assert all(0 < first <= middle <= last for first, middle, last in found.seconds)
    assert len(stream_findings(found, judged=False)[1]) == 2


def test_committed_spans_change_nothing(on: Place) -> None:
    found = commits(on, small(), threads=2, rounds=1)
    assert found.spans[False] == found.spans[True] > 0
    assert found.stored_bytes[True] > found.stored_bytes[False] > 0
    assert len(commit_findings(found, judged=False)[0].rows) == 4
