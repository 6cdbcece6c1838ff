"""The service's description of itself is complete, and schemathesis finds nothing in it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api.app import create_app
from api.identity.service import Identity
from api.identity.settings import IdentitySettings
from api.jobs import Jobs
from api.schemas import examples
from cluster.postgres.engine import engine
from compute.market.period import instant
from ingest.stores.clickhouse import ClickHouse
from tests.api.service.job_service import ANN, QUICK, job_service, request, running, until_ended
from tests.api.service.market import START_MS, context_of, store, store_directory

__all__ = ["store", "store_directory"]
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
)
"""Not among them: that whatever has the right shape is accepted. An unknown indicator has it."""


def document() -> dict[str, Any]:
    """The document of a service with users and jobs, which connects to nothing until it runs."""
    dsn = "postgresql://nobody@127.0.0.1:1/none"
    opened = engine(dsn)
    context = context_of(None, engine=opened, results_dir=Path("/nowhere"))
    context.parts["jobs"] = Jobs(context, dsn, QUICK)
    settings = IdentitySettings.from_environment({}, "test")
    context.use_identity(Identity(opened, settings, context.now_ms))
    return create_app(context).openapi()


def parts(node: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(node, dict):
        yield path, node
        for name, value in node.items():
            yield from parts(value, f"{path}/{name}")
    elif isinstance(node, list):
        for i, value in enumerate(node):
            yield from parts(value, f"{path}/{i}")


def said(field: dict[str, Any], schemas: dict[str, Any]) -> str | None:
    """What the schema that a field refers to says of itself."""
    name = field.get("$ref", "").rpartition("/")[2]
    return schemas.get(name, {}).get("description")


def test_every_field_and_parameter_is_described() -> None:
    found = document()
    schemas = found["components"]["schemas"]
    bare = [
        f"{path}/{name}"
        for path, node in parts(schemas)
        if path.count("/properties") == path.count("/properties/")
        for name, field in node.get("properties", {}).items()
        if not (field.get("description") or said(field, schemas))
    ]
    assert not bare, bare
    assert all(one.get("description") for one in schemas.values())
    for path, methods in found["paths"].items():
        for method, operation in methods.items():
            where = f"{method} {path}"
            assert operation.get("summary"), where
            assert operation.get("description"), where
            assert operation.get("tags"), where
            assert all(one.get("description") for one in operation.get("parameters", [])), where


def test_every_error_is_listed_with_the_envelope() -> None:
    for path, methods in document()["paths"].items():
        for operation in methods.values():
            statuses = operation["responses"]
            assert "500" in statuses, path
            for status, response in statuses.items():
                if status.startswith(("4", "5")) and path != "/ready":
                    schema = response["content"]["application/json"]["schema"]
                    assert schema == {"$ref": "#/components/schemas/ErrorEnvelope"}, path
            if "requestBody" in operation:
                assert {"413", "415", "422"} <= {*statuses}, path
                assert operation["requestBody"]["content"]["application/json"]["examples"], path


def test_the_examples_are_of_the_stored_range() -> None:
    for body in (*examples.BACKTESTS.values(), *examples.REPORTS.values()):
        assert instant(START_MS) < body["time_range"]["start"] < body["time_range"]["end"]


RULES = """
[dictionaries]
jobs = {{ values = ["{done}", "{queued}", "{cancelled}"] }}
ended = {{ values = ["{done}", "{cancelled}"] }}
spare = {{ values = ["{spare}", "{queued}"] }}
axes = {{ values = ["ma.sma.window", "momentum.rsi.window", "momentum.rsi.long_threshold"] }}

[parameters]
"path.job_id" = {{ dictionary = "jobs", probability = 0.8 }}
"query.x" = {{ dictionary = "axes", probability = 0.8 }}
"query.y" = {{ dictionary = "axes", probability = 0.8 }}

[phases.fuzzing]
extra-data-sources = {{ responses = false }}
[phases.coverage]
extra-data-sources = {{ responses = false }}

[[operations]]  # a stream of a job that has not ended would last
include-path = "/backtests/jobs/{{job_id}}/events"
parameters = {{ "path.job_id" = {{ dictionary = "ended", probability = 0.8 }} }}

[[operations]]  # of no other job there is anything to see
include-path = [
    "/backtests/jobs/{{job_id}}/heatmap", "/backtests/jobs/{{job_id}}/histogram",
    "/backtests/jobs/{{job_id}}/plateau", "/backtests/jobs/{{job_id}}/sample",
    "/backtests/jobs/{{job_id}}/variants",
]
parameters = {{ "path.job_id" = "{done}" }}

[[operations]]  # the others are to stay
include-method = "DELETE"
parameters = {{ "path.job_id" = {{ dictionary = "spare", probability = 0.8 }} }}

[[operations]]  # each answer is a run of its own
include-path-regex = "/variant(/|$)"
phases = {{ coverage = {{ enabled = {all} }} }}

[[operations]]
include-method = "POST"
phases = {{ coverage = {{ enabled = {all} }} }}
"""


@pytest.fixture
def url(store: ClickHouse, database: str, tmp_path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """(URL, ids by name) of a service with jobs of Ann's: one was computed."""
    results = tmp_path / "results"
    with job_service(store, database, results, max_active_jobs_per_user=1000) as (client, _):

        def created() -> str:
            return client.post("/backtests/jobs", json=request(windows=3)).json()["job_id"]

        with running(database, results):
            ids = {"done": created()}
            until_ended(client, ids["done"])
        ids |= {name: created() for name in ("queued", "cancelled", "spare")}
        for name in ("cancelled", "spare"):
            client.post(f"/backtests/jobs/{ids[name]}/cancel")
        yield str(client.base_url).rstrip("/"), ids


@pytest.mark.parametrize(
    ("examples", "all_"),
    [
        pytest.param(8, "false", id="coverage of reads"),
        pytest.param(100, "true", id="coverage", marks=pytest.mark.soak),
    ],
)
def test_nothing_is_found(
    url: tuple[str, dict[str, str]], tmp_path: Path, examples: int, all_: str
) -> None:
    base, ids = url
    rules = tmp_path / "schemathesis.toml"
    rules.write_text(RULES.format(all=all_, **ids))
    done = subprocess.run(
        [
            sys.executable, "-m", "schemathesis.cli", "--config-file", str(rules),
            "run", f"{base}/openapi.json",
            "--header", f"X-Roehub-User: {ANN}",
            "--exclude-path", "/market-data/sample",  # it would stay for the tests that follow
            "--checks", ",".join(CHECKS),
            "--phases", "examples,coverage,fuzzing",
            "--max-examples", str(examples),
            "--request-timeout", "120",  # the first run starts a process
            "--generation-deterministic",
            "--continue-on-failure",
            "--no-color",
        ],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
    assert "Tested: 34" in done.stdout
