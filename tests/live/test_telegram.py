"""Messages to chats, over HTTP to a stand-in of the Bot API."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest
from prometheus_client import CollectorRegistry

from compute.errors import InvalidInput
from live.metrics import TelegramMetrics
from live.output import Source, Told, event, metric
from live.telegram.bot import Bot
from live.telegram.notifier import LogSender, Notifier, Sender, message
from live.telegram.settings import TelegramSettings
from tests.live.bot_api import TOKEN, BotApi, Scripted, bot_api

ABOUT = Source(UUID(int=1), UUID(int=2), "binance:spot:BTCUSDT", "15m", UUID(int=3))
IDS = f"strategy_id={ABOUT.strategy_id} | run_id={ABOUT.run_id}"
WHERE = "instrument=binance:spot:BTCUSDT | timeframe=15m"


@pytest.fixture
def api() -> Iterator[BotApi]:
    with bot_api() as opened:
        yield opened


def delivered(
    records: list[Told],
    sender: Sender,
    chats: dict[UUID, int],
    clock: Callable[[], float] = time.monotonic,
) -> CollectorRegistry:
    registry = CollectorRegistry()

    async def chat(user_id: UUID) -> int | None:
        return chats.get(user_id)

    async def run() -> None:
        notifier = Notifier(sender, chat, TelegramMetrics(registry), 600.0, clock)
        sending = asyncio.create_task(notifier.run())
        for record in records:
            notifier.tell(record)
        await notifier.drained()
        sending.cancel()
        if isinstance(sender, Bot):
            await sender.close()

    asyncio.run(run())
    return registry


def bot(api: BotApi) -> Bot:
    return Bot(
        TelegramSettings(enabled=True, mode="telegram", api_base_url=api.url, bot_token=TOKEN)
    )


def failed(error: str = "no candles") -> Told:
    return event(0, ABOUT, "run_failed", {"error": error})


@pytest.mark.parametrize(
    ("record", "text"),
    [
        (failed(), f"FAILED | {IDS} | error=no candles"),
        (failed(""), f"FAILED | {IDS} | error=unknown_error"),
        (event(0, ABOUT, "signal", {"signal": "long"}), f"SIGNAL | {IDS} | {WHERE} | signal=long"),
        (
            event(0, ABOUT, "trade_open", {"side": "long", "price": 1.5}),
            f"TRADE OPEN | {IDS} | {WHERE} | side=long | price=1.5",
        ),
        (
            event(0, ABOUT, "trade_close", {"side": None}),
            f"TRADE CLOSE | {IDS} | {WHERE} | side=n/a | price=n/a",
        ),
    ],
    ids=["failed", "failed-unknown", "signal", "open", "close"],
)
def test_a_message_has_the_contracts_words(record: Told, text: str) -> None:
    assert message(record) == text


def test_a_message_is_sent_to_the_users_chat(api: BotApi) -> None:
    registry = delivered([failed()], bot(api), {ABOUT.user_id: -77})
    assert api.asked == [
        (f"/bot{TOKEN}/sendMessage", {"chat_id": "-77", "text": message(failed())})
    ]
    assert registry.get_sample_value("strategy_telegram_notify_total") == 1


def test_what_is_no_routed_event_is_left_out(api: BotApi) -> None:
    others = [
        event(0, ABOUT, "run_state_changed", {"from": "a", "to": "b"}),
        metric(0, ABOUT, "run_state", "failed"),
    ]
    delivered(others, bot(api), {ABOUT.user_id: 1})
    assert api.asked == []


def test_the_same_failure_is_told_once_in_its_window(api: BotApi) -> None:
    clock = iter([0.0, 599.0, 599.5, 600.0])
    records = [failed("a  b"), failed(" a b "), failed("other"), failed("a b")]
    delivered(records, bot(api), {ABOUT.user_id: 1}, clock.__next__)
    assert [body["text"].partition("error=")[2] for _, body in api.asked] == [
        "a  b", "other", "a b",
    ]  # fmt: skip


def test_a_user_without_a_chat_is_skipped(api: BotApi) -> None:
    registry = delivered([failed()], bot(api), {uuid4(): 1})
    assert api.asked == []
    assert registry.get_sample_value("strategy_telegram_notify_skipped_total") == 1


class Sent:
    """A sender to nobody."""

    def __init__(self) -> None:
        self.chats: list[int] = []
        self.texts: list[str] = []

    async def send(self, chat_id: int, text: str) -> None:
        self.chats.append(chat_id)
        self.texts.append(text)


def of(user: int, kind: str, **payload: Any) -> Told:
    about = replace(ABOUT, user_id=UUID(int=user), strategy_id=UUID(int=user))
    return event(1_700_000_000_000, about, kind, payload)


def test_a_user_with_many_messages_holds_up_nobody_and_no_failure() -> None:
    crowd = [of(3, "signal", signal=str(number)) for number in range(1_100)]
    records = [of(3, "run_failed", error="first"), *crowd, of(4, "run_failed", error="boom")]
    sent = Sent()
    registry = delivered(records, sent, {UUID(int=3): 3, UUID(int=4): 4})
    assert sent.chats[:3] == [3, 4, 3]
    assert "first" in sent.texts[0]
    assert sent.texts[-1].endswith("signal=1099")
    assert sent.chats.count(3) == 100
    assert registry.get_sample_value("strategy_telegram_notify_errors_total") == 1_001


def test_a_message_says_when_and_is_left_out_when_it_is_too_late() -> None:
    soon, late = "2023-11-14T22:13:00.000Z", "2023-11-14T22:03:00.000Z"
    records = [
        of(3, "signal", signal="long", close_ts=soon),
        of(3, "trade_open", side="long", price=1, close_ts=late),
        of(3, "run_failed", error="boom", close_ts=late),
    ]
    sent = Sent()
    registry = delivered(records, sent, {UUID(int=3): 3})
    assert [text.rpartition(" | ")[2] for text in sent.texts] == [f"at={soon}", "error=boom"]
    assert registry.get_sample_value("strategy_telegram_notify_skipped_total") == 1


def test_chats_are_looked_up_once_for_many_messages(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    asked: list[int] = []

    class Asked(dict[UUID, int]):
        def get(self, key: UUID, default: Any = None) -> Any:
            asked.append(key.int)
            return super().get(key, default)

    records = [of(user, "signal", signal="long") for user in (3, 4) * 40]
    sent = Sent()
    registry = delivered(records, sent, Asked({UUID(int=3): 3}))
    assert asked == [3, 4]
    assert sent.chats == [3] * 40
    assert registry.get_sample_value("strategy_telegram_notify_skipped_total") == 40
    assert caplog.text.count("has no confirmed chat") == 1


@pytest.mark.parametrize(
    "answer", [(500, "broken"), (200, '{"ok": false}'), (200, "[1]"), (200, "no json")], ids=str
)
def test_a_refused_message_is_counted_and_the_next_one_sent(
    api: BotApi, answer: tuple[int, str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    api.answers["sendMessage"] = [answer]
    signal = event(0, ABOUT, "signal", {"signal": "long"})
    registry = delivered([failed(), signal], bot(api), {ABOUT.user_id: 1})
    assert registry.get_sample_value("strategy_telegram_notify_errors_total") == 1
    assert registry.get_sample_value("strategy_telegram_notify_total") == 1
    assert answer[1] in caplog.text
    assert TOKEN not in caplog.text


def test_a_server_that_is_gone_is_counted_without_its_address(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    settings = TelegramSettings(
        enabled=True, mode="telegram", api_base_url="http://127.0.0.1:1", bot_token=TOKEN
    )
    registry = delivered([failed()], Bot(settings), {ABOUT.user_id: 1})
    assert registry.get_sample_value("strategy_telegram_notify_errors_total") == 1
    assert "ConnectError" in caplog.text
    assert TOKEN not in caplog.text


@pytest.mark.parametrize(
    "answer",
    [
        (429, '{"ok": false, "parameters": {"retry_after": 0.3}}'),
        (429, "", {"Retry-After": "0.3"}),
    ],
    ids=["body", "header"],
)
def test_after_too_many_messages_it_rests_as_long_as_it_is_told(
    api: BotApi, answer: Scripted
) -> None:
    api.answers["sendMessage"] = [answer]
    began = time.monotonic()
    registry = delivered([failed("a"), failed("b")], bot(api), {ABOUT.user_id: 1})
    assert time.monotonic() - began >= 0.3
    assert registry.get_sample_value("strategy_telegram_notify_errors_total") == 1
    assert [text.rpartition("=")[2] for _, text in api.said()] == ["a", "b"]


def test_a_text_that_no_chat_takes_is_cut() -> None:
    text = message(failed("x" * 1_000_000))
    assert text.startswith(f"FAILED | {IDS} | error=xxx")
    assert text.endswith("x…")
    assert len(text) < 4_096


def test_an_answer_that_repeats_the_token_is_told_without_it(
    api: BotApi, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    api.answers["sendMessage"] = [(404, f"no /bot{TOKEN}/sendMessage, nor bot{TOKEN} at all")]
    delivered([failed()], bot(api), {ABOUT.user_id: 1})
    assert "HTTP 404: no /bot123456:…/sendMessage" in caplog.text
    assert TOKEN.partition(":")[2] not in caplog.text


def test_log_only_writes_the_message_down(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    delivered([failed()], LogSender(), {ABOUT.user_id: 5})
    assert f"to chat 5: {message(failed())}" in caplog.text


@pytest.mark.parametrize(
    "wrong",
    [
        {"mode": "mail"},
        {"api_base_url": "api.telegram.org"},
        {"send_timeout_s": 0},
        {"debounce_failed_seconds": -1},
        {"enabled": True, "mode": "telegram", "bot_token": " "},
        {"enabled": True, "mode": "telegram", "bot_token": "1:a/../b"},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_settings_that_cannot_be_meant_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        TelegramSettings(**wrong)


def test_the_token_is_in_no_repr() -> None:
    assert TOKEN not in repr(TelegramSettings(bot_token=TOKEN))
