"""Leases of runners of this machine that are gone end at once; those of others stay."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncEngine

from cluster.jobs.orphans import release_orphans, runs
from tests.cluster.jobs.stored import claimed, created, leases, run


def test_only_jobs_of_dead_runners_of_this_machine_are_given_back(database: str) -> None:
    ended = subprocess.Popen([sys.executable, "-c", "pass"])
    ended.wait()
    here = socket.gethostname()
    dead, living, elsewhere = f"{here}-{ended.pid}", f"{here}-{os.getpid()}", f"else-{ended.pid}"

    async def work(found: AsyncEngine) -> None:
        jobs = {}
        for owner in (dead, living, elsewhere):
            await created(found)
            jobs[owner] = await claimed(found, owner)
        released = await release_orphans(found, lambda pid: pid == os.getpid())
        assert released == [jobs[dead].job_id]
        assert await release_orphans(found, lambda pid: pid == os.getpid()) == []
        again = await leases(found, "host-2").claim()
        assert again is not None
        assert (again.job_id, again.attempt) == (jobs[dead].job_id, 2)
        assert await leases(found, "host-3").claim() is None

    run(database, work)


def test_a_number_that_was_given_anew_is_no_runner() -> None:
    assert not runs(2**22 + 1)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert not runs(child.pid)
    finally:
        child.communicate(b"\n")
    child = subprocess.Popen([sys.executable, "-c", "input()", "jobs"], stdin=subprocess.PIPE)
    try:
        while b"input()" not in Path(f"/proc/{child.pid}/cmdline").read_bytes():
            time.sleep(0.001)  # it has not yet become another program
        assert runs(child.pid)
    finally:
        child.communicate(b"\n")
