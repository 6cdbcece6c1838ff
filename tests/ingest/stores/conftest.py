"""The two kinds of store: the same tests run over the engine in process and over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from ingest.stores.clickhouse import ClickHouse, open_clickhouse
from ingest.stores.migrate import migrate
from ingest.stores.settings import ClickHouseSettings
from tests.ingest.stand_in.process import StandIn


@pytest.fixture(scope="module", params=["embedded", "server"])
def either(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ClickHouse]:
    """A migrated, empty store of one kind, then of the other; tests use symbols of their own."""
    directory = tmp_path_factory.mktemp("either") / "clickhouse"
    with ExitStack() as stack:
        if request.param == "server":
            settings = stack.enter_context(StandIn(directory)).settings
        else:
            settings = ClickHouseSettings(path=directory)
        db = stack.enter_context(open_clickhouse(settings, owner="the tests"))
        migrate(db)
        db.command("SYSTEM STOP TTL MERGES")
        yield db
