"""Identity of the market data a result was computed from."""

from __future__ import annotations

import hashlib
import struct

from compute.market.candles import Candles
from compute.market.instrument import Instrument
from compute.market.period import Period
from compute.market.timeframe import Timeframe


def fingerprint(instrument: Instrument, frame: Timeframe, load: Period, present: Candles) -> str:
    """Lower-case hex sha256 of the candles present in a load window, before carry-forward.

    Hashed in this order: the text `<market_id>:<SYMBOL>:<frame>` in UTF-8, load start and load end
    as int64, then the columns `ts_open` int64 and open, high, low, close, volume float32, each
    whole, all little-endian. `present` is sorted, unique and has no holes, so a file and a store
    that hold the same candles agree whatever their row groups, codecs or duplicates.
    """
    digest = hashlib.sha256(f"{instrument}:{frame.code}".encode())
    digest.update(struct.pack("<qq", load.start_ms, load.end_ms))
    digest.update(present.ts_open_ms.astype("<i8", copy=False).data)
    for column in present.series():
        digest.update(column.astype("<f4", copy=False).data)
    return digest.hexdigest()
