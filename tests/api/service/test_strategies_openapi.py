"""Paths of strategies: their description is complete, and schemathesis finds nothing in them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.app import add_strategies, create_app
from api.schemas.strategies import CLONES, SPECS
from cluster.postgres.engine import engine
from ingest.stores.clickhouse import ClickHouse
from live.strategies.settings import StrategySettings
from tests.api.service.market import context_of, store, store_directory
from tests.api.service.strategy_service import PATH, own_database, strategy_service, user
from tests.api.service.test_openapi import CHECKS, parts, said

__all__ = ["store", "store_directory"]
QUICK = ("--phases", "examples,fuzzing", "--max-examples", "4")


@pytest.fixture(scope="module")
def client(postgres: str, store: ClickHouse) -> Iterator[httpx.Client]:
    with (
        own_database(postgres, "test_strategies_openapi") as dsn,
        strategy_service(dsn, store=store, max_strategies_per_user=10_000) as found,
    ):
        yield found


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The part of the document that is of strategies."""
    dsn = "postgresql://nobody@127.0.0.1:1/none"
    context = context_of(None, engine=engine(dsn))
    add_strategies(context, StrategySettings(), dsn)
    found = create_app(context).openapi()
    paths = {path: one for path, one in found["paths"].items() if path.startswith(PATH)}
    return found | {"paths": paths}


def test_everything_is_described(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    bare = [
        f"{path}/{name}"
        for path, node in parts(schemas)
        if path.count("/properties") == path.count("/properties/")
        for name, field in node.get("properties", {}).items()
        if not (field.get("description") or said(field, schemas))
    ]
    assert not bare, bare
    assert all(one.get("description") for one in schemas.values())
    operations = [one for methods in document["paths"].values() for one in methods.values()]
    assert len(operations) == 17
    for operation in operations:
        assert operation["tags"] == ["strategies"]
        assert operation["summary"]
        assert operation["description"]
        assert all(one.get("description") for one in operation.get("parameters", []))
        assert {"401", "422", "500"} <= {*operation["responses"]}
        if "requestBody" in operation:
            assert {"409", "413", "415"} <= {*operation["responses"]}
            assert operation["requestBody"]["content"]["application/json"]["examples"]


def test_every_example_works(client: httpx.Client) -> None:
    for path, examples in ((PATH, SPECS), (f"{PATH}/clone", CLONES)):
        for name, body in examples.items():
            assert client.post(path, json=body, headers=user()).status_code == 201, name


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(QUICK, id="examples and fuzzing"),
        pytest.param(("--phases", "coverage"), id="coverage", marks=pytest.mark.soak),
    ],
)
def test_nothing_is_found(client: httpx.Client, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = subprocess.run(
        [
            sys.executable, "-m", "schemathesis.cli", "run", f"{client.base_url}/openapi.json",
            "--include-path-regex", f"^{PATH}",
            "--checks", ",".join(CHECKS),
            "--generation-deterministic",
            "--continue-on-failure",
            "--no-color",
            *arguments,
        ],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
