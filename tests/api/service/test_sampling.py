"""The load of the sample belongs to the service, not to whoever asked for it."""

from __future__ import annotations

import asyncio
from typing import Any

from api.sampling import SampleLoad
from ingest.sample import Sample


def test_a_service_that_ends_waits_for_the_load() -> None:
    async def ends() -> list[str]:
        seen: list[str] = []
        goes_on = asyncio.Event()

        async def threaded(call: Any) -> Sample:
            await goes_on.wait()
            seen.append("stored")
            return Sample(1, 1)

        load = SampleLoad(None, threaded)  # type: ignore[arg-type]
        assert load.begin(0) is load.begin(0)
        ending = asyncio.create_task(load.end())
        await asyncio.sleep(0)
        seen.append("asked to end")
        goes_on.set()
        await ending
        assert not load.is_on
        return seen

    assert asyncio.run(ends()) == ["asked to end", "stored"]


def test_a_load_that_failed_does_not_fail_the_end() -> None:
    async def ends() -> bool:
        async def threaded(call: Any) -> Sample:
            await asyncio.sleep(0)
            raise RuntimeError("no room")

        load = SampleLoad(None, threaded)  # type: ignore[arg-type]
        load.begin(0)
        await load.end()
        await load.end()
        return load.has_failed

    assert asyncio.run(ends())
