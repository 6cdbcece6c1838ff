"""Stored candles as a stream: read a few days at a time, never held whole."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import anyio.to_thread

from api.market import Market
from compute.errors import GuardExceeded
from compute.market.instrument import Instrument
from compute.market.period import Period, instant
from compute.quantities import spaced

if TYPE_CHECKING:
    import pyarrow as pa

ARROW: Final = "application/vnd.apache.arrow.stream"
MINUTE_MS: Final = 60_000
_CHUNK_MS: Final = 7 * 86_400_000
_COLUMNS: Final = (
    "ts_open", "open", "high", "low", "close", "volume_base", "volume_quote", "trades_count",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Wanted:
    """Candles that were asked for."""

    instrument: Instrument
    period: Period

    def check(self, max_candles: int) -> None:
        """Raises GuardExceeded when there can be more than `max_candles`."""
        count = -(-self.period.duration_ms // MINUTE_MS)
        if count > max_candles:
            raise GuardExceeded(
                f"the range has {spaced(count)} minutes, the limit is {spaced(max_candles)}; ask"
                " for parts of it one after the other, or raise backtest.api.max_candles",
                details={
                    "error": "max_candles_exceeded",
                    "candles": count,
                    "max_candles": max_candles,
                },
            )

    def parts(self) -> Iterator[Period]:
        """The range in pieces that are read at once."""
        for start in range(self.period.start_ms, self.period.end_ms, _CHUNK_MS):
            yield Period(start, min(start + _CHUNK_MS, self.period.end_ms))


async def tables(market: Market, wanted: Wanted) -> AsyncIterator[pa.Table]:
    """The candles as tables of some days each, in order."""
    for part in wanted.parts():
        yield await market.read(lambda part=part: _table(market, wanted.instrument, part))


def _table(market: Market, instrument: Instrument, part: Period) -> pa.Table:
    return market.candle_store.arrow(instrument, part).select(_COLUMNS)


async def json_chunks(wanted: Wanted, found: AsyncIterator[pa.Table]) -> AsyncIterator[bytes]:
    """The candles as one JSON object, a part at a time."""
    head = {
        "market_id": wanted.instrument.market_id,
        "symbol": wanted.instrument.symbol,
        "timeframe": "1m",
    }
    yield (json.dumps(head, separators=(",", ":"))[:-1] + ',"items":[').encode()
    empty = True
    async for table in found:
        if table.num_rows:
            text = await anyio.to_thread.run_sync(_json_rows, table)
            yield text if empty else b"," + text
            empty = False
    yield b"]}"


def _json_rows(table: pa.Table) -> bytes:
    """The rows as JSON objects; one after the other, so that other threads get their turn."""
    import pyarrow as pa

    columns = [table.column(name).to_pylist() for name in _COLUMNS[1:]]
    times = table.column("ts_open").cast(pa.int64()).to_pylist()
    encode = json.JSONEncoder(separators=(",", ":")).encode
    return ",".join(
        encode(dict(zip(_COLUMNS, (instant(ms), *values), strict=True)))
        for ms, *values in zip(times, *columns, strict=True)
    ).encode()


async def arrow_chunks(found: AsyncIterator[pa.Table]) -> AsyncIterator[bytes]:
    """The candles as an Arrow stream, a part at a time."""
    import pyarrow as pa

    sink = _Chunks()
    writer = None
    async for table in found:
        if writer is None:
            writer = pa.ipc.new_stream(pa.PythonFile(sink, "w"), table.schema)
        writer.write_table(table)
        yield sink.taken()
    if writer is not None:
        writer.close()
        yield sink.taken()


class _Chunks:
    """A file that gives what was written to it since the last time."""

    closed = False

    def __init__(self) -> None:
        self._held = bytearray()

    def write(self, data: Any) -> int:
        self._held += data
        return len(data)

    def flush(self) -> None:
        """Nothing waits."""

    def taken(self) -> bytes:
        """What was written since."""
        held = bytes(self._held)
        self._held.clear()
        return held


async def begun(found: AsyncIterator[pa.Table]) -> AsyncIterator[pa.Table]:
    """The same tables, the first of them read already: a store that fails is an answer then."""
    first = await anext(found)

    async def rest() -> AsyncIterator[pa.Table]:
        yield first
        async for table in found:
            yield table

    return rest()
