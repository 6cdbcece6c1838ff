"""A real Valkey for a module of tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ingest.stores.valkey import RedisSettings, Valkey, open_valkey


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """A running server; its tests share it, so they use symbols of their own."""
    with open_valkey(RedisSettings(path=tmp_path_factory.mktemp("feed") / "valkey")) as opened:
        yield opened
