"""A real store for a module of tests: ClickHouse in this process, over a directory of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ingest.stores.clickhouse import ClickHouse, open_clickhouse
from ingest.stores.migrate import migrate
from ingest.stores.settings import ClickHouseSettings
from tests.ingest.stand_in.process import StandIn


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouse]:
    """A migrated, empty store; its tests share it, so they use symbols of their own.

    A process holds one embedded store at a time: a test that opens another must do so in a child
    process, or in a module without this fixture.
    """
    settings = ClickHouseSettings(path=tmp_path_factory.mktemp("store") / "clickhouse")
    with open_clickhouse(settings, owner="the tests") as opened:
        migrate(opened)
        # Tests have clocks of their own; rows of an old one must not expire under them.
        opened.command("SYSTEM STOP TTL MERGES")
        yield opened


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    """A running stand-in for a ClickHouse server, a process of its own; its store is empty."""
    with StandIn(tmp_path_factory.mktemp("stand-in") / "clickhouse") as started:
        yield started
