"""Real stores for a module of tests: a Valkey, and ClickHouse in this process."""

from __future__ import annotations

from tests.ingest.conftest import db
from tests.ingest.live.conftest import valkey

__all__ = ["db", "valkey"]
