"""Records of runs in the streams of a real Valkey."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import UUID, uuid4

import pytest
from prometheus_client import CollectorRegistry

from compute.errors import InvalidInput
from ingest.stores.valkey import Valkey
from live.metrics import OutputMetrics
from live.output import Output, OutputSettings, Source, Told, event, metric, moment_text

NOW_MS = 1_700_000_000_123


def source(user: UUID) -> Source:
    return Source(UUID(int=1), UUID(int=2), "binance:spot:BTCUSDT", "15m", user)


def entries(valkey: Valkey, stream: str) -> list[tuple[str, dict[str, str]]]:
    found: Any = valkey.blocking_client().xrange(stream)
    return found


def publish(valkey: Valkey, *batches: list[Told], **settings: int) -> CollectorRegistry:
    registry = CollectorRegistry()

    async def sent() -> None:
        async with valkey.client() as client:
            output = Output(client, OutputMetrics(registry), OutputSettings(**settings))  # type: ignore[arg-type]
            for batch in batches:
                await output.publish(batch)

    asyncio.run(sent())
    return registry


def test_records_are_entries_in_the_contracts_form_and_order(valkey: Valkey) -> None:
    user = uuid4()
    about = source(user)
    registry = publish(
        valkey,
        [
            metric(NOW_MS, about, "warmup_satisfied", True),
            metric(NOW_MS, about, "checkpoint_ts_open", None),
            event(NOW_MS, about, "run_state_changed", {"to": "running", "from": "warming_up"}),
        ],
    )
    metrics = entries(valkey, f"strategy.metrics.v1.user.{user}")
    assert metrics == [
        (
            f"{NOW_MS}-{number}",
            {
                "schema_version": "1",
                "ts": "2023-11-14T22:13:20.123Z",
                "strategy_id": str(about.strategy_id),
                "run_id": str(about.run_id),
                "metric_type": kind,
                "value": value,
                "instrument_key": "binance:spot:BTCUSDT",
                "timeframe": "15m",
            },
        )
        for number, (kind, value) in enumerate(
            [("checkpoint_ts_open", ""), ("warmup_satisfied", "1")]
        )
    ]
    ((_, told),) = entries(valkey, f"strategy.events.v1.user.{user}")
    assert told["event_type"] == "run_state_changed"
    assert told["payload_json"] == '{"from":"warming_up","to":"running"}'
    assert registry.get_sample_value("strategy_realtime_output_publish_total") == 3


def test_values_of_a_payload_are_texts(valkey: Valkey) -> None:
    user = uuid4()
    publish(valkey, [event(NOW_MS, source(user), "signal", {"signal": 1, "price": None, "a": "é"})])
    ((_, told),) = entries(valkey, f"strategy.events.v1.user.{user}")
    assert told["payload_json"] == '{"a":"\\u00e9","price":"","signal":"1"}'
    assert json.loads(told["payload_json"])["a"] == "é"


def test_a_record_older_than_the_newest_is_kept_and_counted(valkey: Valkey) -> None:
    about = source(uuid4())
    registry = publish(
        valkey,
        [metric(NOW_MS + 5, about, "lag_seconds", 1)],
        [metric(NOW_MS, about, "lag_seconds", 2)],
    )
    found = entries(valkey, f"strategy.metrics.v1.user.{about.user_id}")
    assert [fields["value"] for _, fields in found] == ["1", "2"]
    assert found[1][1]["ts"] == moment_text(NOW_MS)
    assert registry.get_sample_value("strategy_realtime_output_publish_duplicates_total") == 1
    assert registry.get_sample_value("strategy_realtime_output_publish_errors_total") == 0


def test_streams_are_bounded(valkey: Valkey) -> None:
    about = source(uuid4())
    publish(
        valkey,
        [metric(NOW_MS + i, about, "lag_seconds", i) for i in range(1_000)],
        metrics_maxlen=100,
    )
    assert valkey.blocking_client().xlen(f"strategy.metrics.v1.user.{about.user_id}") < 300


def test_a_server_that_is_gone_is_counted_and_raises_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    import redis.asyncio
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    registry = CollectorRegistry()

    async def sent() -> None:
        client = redis.asyncio.Redis(
            unix_socket_path="/nowhere/valkey.sock", retry=Retry(NoBackoff(), 0)
        )
        output = Output(client, OutputMetrics(registry))
        for _ in range(2):
            await output.publish([metric(NOW_MS, source(uuid4()), "lag_seconds", 1)])

    asyncio.run(sent())
    assert registry.get_sample_value("strategy_realtime_output_publish_errors_total") == 2
    assert caplog.text.count("were not published") == 1


@pytest.mark.parametrize(
    "wrong", [{"metrics_stream_prefix": " "}, {"events_stream_prefix": ""}, {"events_maxlen": 0}]
)
def test_settings_that_cannot_be_meant_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidInput):
        OutputSettings(**wrong)  # type: ignore[arg-type]
