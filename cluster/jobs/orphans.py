"""Jobs of runners of this machine that were killed: given back at once, not when a lease ends."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

_OWNERS = text("select distinct locked_by from backtest_jobs where state = 'running'")
_EXPIRE = text("""
    update backtest_jobs set lease_expires_at = clock_timestamp()
    where state = 'running' and locked_by = :owner and lease_expires_at > clock_timestamp()
    returning job_id
""")


def runs(pid: int) -> bool:
    """Whether a process of this machine looks like a runner; a number may have been given anew."""
    try:
        return b"jobs" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


async def release_orphans(engine: AsyncEngine, alive: Callable[[int], bool] = runs) -> list[UUID]:
    """Ends the leases whose owner is a process of this machine that is not there any more.

    Returns the jobs, which any runner may go on with now. Only for a database that the runners of
    this machine alone can reach: elsewhere another machine may have this one's name.
    """
    found: list[UUID] = []
    async with engine.begin() as connection:
        for owner in (await connection.execute(_OWNERS)).scalars().all():
            host, _, pid = owner.rpartition("-")
            if host == socket.gethostname() and pid.isdigit() and not alive(int(pid)):
                found += (await connection.execute(_EXPIRE, {"owner": owner})).scalars().all()
    return found
