"""Which minutes a bar was made of, as a number that no others have."""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from typing import Final

import numpy as np
from numpy.typing import NDArray

from compute.market.candles import SERIES, Candles
from live.rollup import SHARED_MINUTES

_ROW: Final = np.dtype([("ts_open_ms", "<i8"), *((name, "<f4") for name in SERIES)])


class Digests:
    """Digests of minutes as they come, each of all minutes since the one before it."""

    def __init__(self) -> None:
        self._hash = blake2b(digest_size=8)

    def closed(self, minutes: Candles, closes_ms: NDArray[np.int64]) -> NDArray[np.int64]:
        """The digest at each of some closes, ascending; minutes after them are of the next one."""
        packed = _packed if len(minutes) <= SHARED_MINUTES else _packed.__wrapped__
        rows = memoryview(packed(minutes))
        stops = np.searchsorted(minutes.ts_open_ms, closes_ms) * _ROW.itemsize
        found, start = np.empty(len(stops), np.int64), 0
        for number, stop in enumerate(stops.tolist()):
            self._hash.update(rows[start:stop])
            found[number] = int.from_bytes(self._hash.digest(), "little", signed=True)
            self._hash, start = blake2b(digest_size=8), stop
        self._hash.update(rows[start:])
        return found


@lru_cache(maxsize=256)
def _packed(minutes: Candles) -> bytes:
    rows = np.empty(len(minutes), _ROW)
    rows["ts_open_ms"] = minutes.ts_open_ms
    for name, column in zip(SERIES, minutes.series(), strict=True):
        rows[name] = column
    return rows.tobytes()
