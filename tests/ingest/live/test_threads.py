"""Threads for calls that block."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ingest.live.threads import Threads


def test_results_errors_and_lasting_threads() -> None:
    threads = Threads(2, "test")
    names: set[str] = set()

    def call(number: int) -> int:
        names.add(threading.current_thread().name)
        if number == 7:
            raise ValueError("seven")
        return number * number

    async def story() -> None:
        assert [await threads.run(call, n) for n in range(7)] == [n * n for n in range(7)]
        with pytest.raises(ValueError, match="seven"):
            await threads.run(call, 7)
        many = await asyncio.gather(*(threads.run(call, n) for n in range(8, 40)))
        assert many == [n * n for n in range(8, 40)]
        assert names <= {"test 1", "test 2"}
        threads.close()
        with pytest.raises(RuntimeError, match="closed"):
            await threads.run(call, 1)

    asyncio.run(story())


def test_a_wait_that_is_given_up_does_not_break_the_thread() -> None:
    threads = Threads(1, "test")
    gate = threading.Event()

    async def story() -> int:
        waiting = asyncio.create_task(threads.run(gate.wait, 60))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        gate.set()
        return await threads.run(lambda: 5)

    assert asyncio.run(story()) == 5


def test_a_call_that_hangs_does_not_keep_the_process_from_ending() -> None:
    program = (
        "import asyncio, threading\n"
        "from ingest.live.threads import Threads\n"
        "async def main():\n"
        "    task = asyncio.create_task(Threads(1, 'test').run(threading.Event().wait))\n"
        "    await asyncio.sleep(0)\n"
        "    task.cancel()\n"
        "asyncio.run(main())\n"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, timeout=60, check=False)
    assert done.returncode == 0
