"""Records wait for others of their minute, and for no longer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from uuid import UUID

import pytest
from prometheus_client import CollectorRegistry

from live.metrics import OutputMetrics
from live.outbox import MOST, outbox
from live.output import Source, Told, metric

ABOUT = Source(UUID(int=1), UUID(int=2), "binance:spot:BTCUSDT", "15m", UUID(int=3))


class Sent:
    """A publisher that remembers, and that waits for a gate."""

    def __init__(self) -> None:
        self.batches: list[list[Told]] = []
        self.gate, self.begun = asyncio.Event(), asyncio.Event()
        self.gate.set()

    async def publish(self, records: Sequence[Told]) -> None:
        self.begun.set()
        await self.gate.wait()
        self.batches.append(list(records))


def records(first: int, count: int) -> list[Told]:
    return [metric(number, ABOUT, "lag_seconds", 0) for number in range(first, first + count)]


def lost(registry: CollectorRegistry) -> float | None:
    return registry.get_sample_value("strategy_realtime_output_publish_errors_total")


def test_what_comes_together_is_sent_together_and_all_of_it_at_the_end() -> None:
    async def work() -> None:
        sent = Sent()
        async with asyncio.timeout(20):
            async with outbox(sent, OutputMetrics(CollectorRegistry())) as box:
                await box.publish(records(0, 2))
                await box.publish([])
                await box.publish(records(2, 3))
                await sent.begun.wait()
                assert sent.batches == [records(0, 5)]
                await box.publish(records(5, 1))
        assert sent.batches == [records(0, 5), records(5, 1)]

    asyncio.run(work())


def test_nobody_waits_for_a_server_that_hangs_and_the_oldest_make_room() -> None:
    async def work() -> None:
        sent, registry = Sent(), CollectorRegistry()
        async with outbox(sent, OutputMetrics(registry)) as box:
            sent.gate.clear()
            await box.publish(records(0, 1))
            await sent.begun.wait()
            await box.publish(records(1, MOST))
            await box.publish(records(1 + MOST, 2))
            sent.gate.set()
        assert sent.batches == [records(0, 1), records(3, MOST)]
        assert lost(registry) == 2

    asyncio.run(work())


def test_a_batch_that_fails_is_told_and_the_next_one_is_sent(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(Sent):
        async def publish(self, records: Sequence[Told]) -> None:
            if not self.begun.is_set():
                self.begun.set()
                raise RuntimeError("the transport is closed")
            await super().publish(records)

    async def work() -> None:
        sent, registry = Broken(), CollectorRegistry()
        async with outbox(sent, OutputMetrics(registry)) as box:
            await box.publish(records(0, 3))
            await sent.begun.wait()
            await box.publish(records(3, 1))
        assert sent.batches == [records(3, 1)]
        assert lost(registry) == 3
        assert "3 records of runs were not published" in caplog.text

    asyncio.run(work())


def test_what_is_not_sent_before_the_end_is_counted(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("live.outbox.ENDING_SECONDS", 0.05)

    async def work() -> None:
        sent, registry = Sent(), CollectorRegistry()
        sent.gate.clear()
        async with outbox(sent, OutputMetrics(registry)) as box:
            await box.publish(records(0, 2))
            await sent.begun.wait()
            await box.publish(records(2, 3))
        assert sent.batches == []
        assert lost(registry) == 5
        assert "5 records of runs were not published" in caplog.text

    asyncio.run(work())
