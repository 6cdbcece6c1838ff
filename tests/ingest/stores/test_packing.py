"""Commands are packed by hiredis as redis-py packs them itself."""

from __future__ import annotations

from typing import Any

import pytest
from redis.asyncio.connection import Connection
from redis.exceptions import DataError

from ingest.stores.valkey import packing


@pytest.mark.parametrize(
    "command",
    [
        ("XADD", "stream", "MAXLEN", "~", 10_000, "17-*", "name", "ü"),
        ("XINFO CONSUMERS", "stream", b"\x00\xff"),
        ("SET", "key", 0.1, -3, 1e300),
        ("SET", "key", bytearray(b"some"), memoryview(b"more")),
        ("SET", "key", "half a pair \ud800"),
        ("SET", "key", ""),
    ],
)
def test_packed_as_without_it(command: tuple[Any, ...]) -> None:
    ours = packing(Connection)(encoding_errors="replace")
    plain = Connection(encoding_errors="replace")
    assert b"".join(ours.pack_command(*command)) == b"".join(plain.pack_command(*command))


@pytest.mark.parametrize("value", [True, None, {"a": 1}])
def test_what_has_no_text_is_refused(value: Any) -> None:
    with pytest.raises(DataError):
        packing(Connection)().pack_command("SET", "key", value)
