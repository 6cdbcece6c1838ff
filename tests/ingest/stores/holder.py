"""A process that opens a store, stores three candles, says so, and waits to be ended.

python -m tests.ingest.stores.holder DIRECTORY
"""

from __future__ import annotations

import sys
from pathlib import Path

from compute.market.instrument import Instrument
from ingest.stores.candles import CandleStore
from ingest.stores.clickhouse import open_clickhouse
from ingest.stores.migrate import migrate
from ingest.stores.settings import ClickHouseSettings
from tests.ingest.stores.made import table

if __name__ == "__main__":
    with open_clickhouse(ClickHouseSettings(path=Path(sys.argv[1])), owner="roehub up") as db:
        migrate(db)
        CandleStore(db).insert(table(Instrument(1, "HELDUSDT"), range(3)))
        print("open", flush=True)
        sys.stdin.read()
