"""Prometheus metrics of the live runner."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_ITERATION_SECONDS: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 15, 60)
_NAME: Final = "strategy_live_runner"


class LiveMetrics:
    """What a runner counts; `lag_seconds` is by instrument, from the close of its last minute."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str) -> Counter:
            return Counter(f"{_NAME}_{name}", text, registry=registry)

        self.iterations = counter("iterations", "Passes over the active runs that succeeded.")
        self.iteration_errors = counter("iteration_errors", "Passes that failed.")
        self.instrument_errors = counter(
            "instrument_errors", "Steps of an instrument that failed and are tried again."
        )
        self.messages_read = counter("messages_read", "Entries of the live feed that were read.")
        self.messages_acked = counter("messages_acked", "Entries that were acknowledged.")
        self.messages_malformed = counter(
            "messages_malformed", "Entries of the live feed that are no candle, and are dropped."
        )
        self.failed_runs = counter("failed_runs", "Runs that failed.")
        self.minutes = counter("minutes", "Minutes that runs went through.")
        self.bars = counter("bars", "Bars that runs traded on.")
        self.leases_lost = counter("leases_lost", "Instruments that another runner took over.")
        self.differences = counter(
            "reconcile_differences", "Bars and trades that were others than in the back-test."
        )
        self.reconciled = Counter(
            f"{_NAME}_reconciled", "Runs held against their back-test.", ("result",),
            registry=registry,
        )  # fmt: skip
        self.iteration_seconds = Histogram(
            f"{_NAME}_iteration_duration_seconds",
            "Length of a pass over the active runs.",
            registry=registry,
            buckets=_ITERATION_SECONDS,
        )
        self.evaluation_seconds = Histogram(
            f"{_NAME}_evaluation_seconds",
            "Evaluating all runs of an instrument on the minutes at hand.",
            registry=registry,
            buckets=_ITERATION_SECONDS,
        )
        self.commit_delay_seconds = Histogram(
            f"{_NAME}_commit_delay_seconds",
            "From the close of a minute to the commit of the runs that went through it.",
            registry=registry,
            buckets=_ITERATION_SECONDS,
        )
        self.lag_seconds = Gauge(
            f"{_NAME}_lag_seconds",
            "From the close of the last minute of an instrument's runs to now.",
            ("instrument_key",),
            registry=registry,
        )
        self.instruments = Gauge(
            f"{_NAME}_instruments", "Instruments that this runner holds.", registry=registry
        )
        self.runs = Gauge(f"{_NAME}_runs", "Runs that have not ended.", registry=registry)


class OutputMetrics:
    """What the streams for users count; it is there where they are off, too."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.published, self.errors, self.late = (
            Counter(f"strategy_realtime_output_publish{name}", text, registry=registry)
            for name, text in (
                ("", "Records that Redis took."),
                ("_errors", "Records that Redis did not take, or that waited too long."),
                ("_duplicates", "Records older than the newest of their stream."),
            )
        )


class TelegramMetrics:
    """What messages and the bot count; it is there where Telegram is off, too."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str) -> Counter:
            return Counter(f"strategy_telegram_{name}", text, registry=registry)

        self.notified = counter("notify", "Messages that were delivered.")
        self.notify_errors = counter("notify_errors", "Messages that were not.")
        self.notify_skipped = counter("notify_skipped", "Messages without a chat, or too late.")
        self.updates = counter("updates", "Messages to the bot that were read.")
        self.poll_errors = counter("poll_errors", "Reads of messages to the bot that failed.")
        self.polling = Gauge(
            "strategy_telegram_polling",
            "1 while this process is the one that reads the bot's messages.",
            registry=registry,
        )
