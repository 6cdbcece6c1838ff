"""Commits of many instruments at once, over one pool of connections."""

from __future__ import annotations

import asyncio
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from cluster.postgres.engine import engine
from live.leases import LeaseLost
from live.ledger import COMMITS, Ledger


def test_commits_of_many_instruments_leave_connections_to_others(database: str) -> None:
    class Gated:
        """A lease whose commits wait where they hold their connection."""

        def __init__(self, gate: asyncio.Event) -> None:
            self.gate, self.holding = gate, 0

        async def fence(self, connection: AsyncConnection) -> None:
            self.holding += 1
            await self.gate.wait()
            raise LeaseLost("nobody's")

    async def work() -> None:
        opened = engine(database, connections=COMMITS + 1)
        ledger, lease = Ledger(opened), Gated(asyncio.Event())
        held: Any = lease
        commits = [asyncio.create_task(ledger.commit(held, [])) for _ in range(40)]
        async with asyncio.timeout(20):
            while lease.holding < COMMITS:
                await asyncio.sleep(0.01)
            async with opened.connect() as connection:  # whoever renews leases
                assert (await connection.execute(text("select 1"))).scalar_one() == 1
            assert lease.holding == COMMITS
            lease.gate.set()
            done = await asyncio.gather(*commits, return_exceptions=True)
        assert [type(one) for one in done] == [LeaseLost] * 40
        await opened.dispose()

    asyncio.run(work())
