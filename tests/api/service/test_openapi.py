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
from api.schemas import examples
from cluster.postgres.engine import engine
from compute.market.period import instant
from ingest.stores.clickhouse import ClickHouse
from tests.api.service.market import START_MS, context_of, store, store_directory
from tests.api.service.serving import served

__all__ = ["store", "store_directory"]
EXAMPLES = 25
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
    """What a service with users says of itself."""
    context = context_of(None, engine=engine("postgresql://127.0.0.1/never-reached"))
    assert context.engine is not None
    settings = IdentitySettings.from_environment({}, "test")
    context.use_identity(Identity(context.engine, settings, context.now_ms))
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


QUICK = ("--phases", "examples,fuzzing", "--max-examples", str(EXAMPLES))


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(QUICK, id="examples and fuzzing"),
        pytest.param(("--phases", "coverage", "--include-method", "GET"), id="coverage of reads"),
        pytest.param(("--phases", "coverage"), id="coverage", marks=pytest.mark.soak),
    ],
)
def test_nothing_is_found(store: ClickHouse, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    with served(lambda: create_app(context_of(store))) as url:
        done = subprocess.run(
            [
                sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json",
                "--checks", ",".join(CHECKS),
                "--request-timeout", "120",  # the first run starts a process
                "--generation-deterministic",
                "--continue-on-failure",
                "--no-color",
                *arguments,
            ],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
    assert "Tested: 13" in done.stdout or "coverage" in arguments
