"""What people tell the bot, over a stand-in of the Bot API and a real database."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any
from uuid import UUID

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy.ext.asyncio import AsyncEngine

import live.telegram.listener
from cluster.postgres.engine import engine
from live.metrics import TelegramMetrics
from live.telegram.bot import Bot
from live.telegram.chats import Bound, bind, chat_of, make_link
from live.telegram.listener import ANSWERS, ASK, LEFT, NOT_BOUND, Listener
from live.telegram.settings import TelegramSettings
from tests.live.bot_api import TOKEN, BotApi, bot_api, said_to_bot
from tests.postgres import TEMPLATE, execute, of_database, rows

ANN, BOB = UUID(int=11), UUID(int=12)
ANN_TELEGRAM, BOB_TELEGRAM = 411001, 411002
OPERATOR = UUID(int=1)


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[BotApi]:
    monkeypatch.setattr(live.telegram.listener, "_SHORTEST_PAUSE_S", 0.01)
    with bot_api() as opened:
        yield opened


@pytest.fixture(scope="module")
def shared(postgres: str) -> Iterator[str]:
    """The database of the file."""
    execute(postgres, f"CREATE DATABASE telegram_chats TEMPLATE {TEMPLATE}")
    yield of_database(postgres, "telegram_chats")
    execute(postgres, "DROP DATABASE telegram_chats WITH (FORCE)")


@pytest.fixture
def dsn(shared: str) -> str:
    """The file's database with Ann, Bob and the operator, and nothing else."""
    people = ((ANN, ANN_TELEGRAM), (BOB, BOB_TELEGRAM), (OPERATOR, "NULL"))
    values = ", ".join(f"('{user_id}', {telegram}, now())" for user_id, telegram in people)
    execute(
        shared,
        "DELETE FROM identity_users",
        # As a replica, so that the audit log lets itself be emptied.
        "SET session_replication_role = replica; TRUNCATE identity_audit, telegram_bots;"
        "SET session_replication_role = DEFAULT",
        f"INSERT INTO identity_users (user_id, telegram_user_id, created_at) VALUES {values}",
    )
    return shared


class Scene:
    """A database, and the listeners that a test starts over it."""

    def __init__(self, dsn: str, api: BotApi) -> None:
        self.dsn, self.api = dsn, api
        self.engine: AsyncEngine = engine(dsn, application="test")
        self.registry = CollectorRegistry()
        self._listeners: list[Listener] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._bots: list[Bot] = []

    def listen(self, owner: str = "one", wait_s: float = 20.0, lease_s: float = 60.0) -> int:
        """Starts a listener; its number."""
        settings = TelegramSettings(
            enabled=True, mode="telegram", api_base_url=self.api.url, bot_token=TOKEN
        )
        bot = Bot(settings)
        metrics = TelegramMetrics(self.registry if not self._bots else CollectorRegistry())
        listener = Listener(bot, self.engine, owner, metrics, wait_s, lease_s)
        self._listeners.append(listener)
        self._bots.append(bot)
        self._tasks.append(asyncio.create_task(listener.run()))
        return len(self._tasks) - 1

    async def kill(self, number: int) -> None:
        """Ends a listener that gives nothing back."""
        self._listeners[number]._me = None
        await self.end(number)

    async def end(self, number: int) -> None:
        """Ends a listener, which gives its bot back."""
        self._tasks[number].cancel()
        await asyncio.gather(self._tasks[number], return_exceptions=True)

    async def link(self, user_id: UUID) -> str:
        """The token of a new link."""
        async with self.engine.begin() as connection:
            return (await make_link(connection, user_id)).token

    async def answers(self, count: int) -> list[tuple[str, str]]:
        """What the bot said, as soon as it is so much."""
        async with asyncio.timeout(20):
            while len(self.api.said()) < count:
                await asyncio.sleep(0.005)
        return self.api.said()

    async def close(self) -> None:
        for number in range(len(self._tasks)):
            await self.end(number)
        for bot in self._bots:
            await bot.close()
        await self.engine.dispose()


def on_scene(dsn: str, api: BotApi, work: Callable[[Scene], Awaitable[None]]) -> None:
    async def run() -> None:
        scene = Scene(dsn, api)
        try:
            await work(scene)
        finally:
            await scene.close()

    asyncio.run(run())


async def stored(dsn: str, query: str) -> list[tuple[object, ...]]:
    return await asyncio.to_thread(rows, dsn, query)


async def changed(dsn: str, *statements: str) -> None:
    await asyncio.to_thread(execute, dsn, *statements)


async def bound(dsn: str) -> list[tuple[object, ...]]:
    return await stored(dsn, "SELECT user_id, chat_id FROM identity_telegram_channels ORDER BY 2")


AUDIT = "SELECT event FROM identity_audit ORDER BY event_id"
BOUND_AND_LEFT = [(f"telegram_chat.{event}",) for event in ("asked", "bound", "unbound")]


def test_start_with_a_token_binds_the_chat_once_and_stop_ends_it(
    dsn: str, api: BotApi, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    tokens: list[str] = []

    async def work(scene: Scene) -> None:
        scene.listen()
        tokens.append(await scene.link(ANN))
        api.put(said_to_bot(1, f"/start {tokens[0]}", ANN_TELEGRAM))
        assert await scene.answers(1) == [(str(ANN_TELEGRAM), ANSWERS[Bound.BOUND])]
        assert await chat_of(scene.engine, ANN) == ANN_TELEGRAM
        api.put(said_to_bot(2, f"/start {tokens[0]}", ANN_TELEGRAM))  # pressed again
        assert (await scene.answers(2))[-1][1] == ANSWERS[Bound.UNKNOWN]
        assert await bound(dsn) == [(ANN, ANN_TELEGRAM)]
        api.put(said_to_bot(3, "/stop", ANN_TELEGRAM))
        assert (await scene.answers(3))[-1][1] == LEFT
        assert await bound(dsn) == []
        api.put(said_to_bot(4, "/stop", ANN_TELEGRAM), said_to_bot(5, "/start", BOB_TELEGRAM))
        assert (await scene.answers(5))[-2:] == [
            (str(ANN_TELEGRAM), NOT_BOUND), (str(BOB_TELEGRAM), ASK),
        ]  # fmt: skip

    on_scene(dsn, api, work)
    assert rows(dsn, AUDIT) == BOUND_AND_LEFT
    details = rows(dsn, "SELECT details::text FROM identity_audit")
    assert set(details) == {("{}",)}  # the number of a chat is that of a person
    for secret in (TOKEN, TOKEN.partition(":")[2], *tokens):
        assert secret not in caplog.text


async def _prepare(scene: Scene, case: str) -> str:
    if case == "other account":
        return await scene.link(BOB)
    token = await scene.link(ANN)
    if case == "expired":
        await changed(
            scene.dsn,
            "UPDATE identity_telegram_links SET created_at = now() - interval '1 h',"
            " expires_at = clock_timestamp()",
        )
    elif case == "replaced":
        await scene.link(ANN)
    elif case == "deleted":
        await changed(scene.dsn, "UPDATE identity_users SET is_deleted = TRUE")
    elif case == "erased":
        await changed(scene.dsn, f"DELETE FROM identity_users WHERE user_id = '{ANN}'")
    elif case == "taken":
        values = f"('{OPERATOR}', {ANN_TELEGRAM}, TRUE, now())"
        await changed(scene.dsn, f"INSERT INTO identity_telegram_channels VALUES {values}")
    return token


@pytest.mark.parametrize(
    ("case", "answer"),
    [
        ("expired", Bound.UNKNOWN),
        ("replaced", Bound.UNKNOWN),
        ("deleted", Bound.UNKNOWN),
        ("erased", Bound.UNKNOWN),
        ("other account", Bound.OTHER_ACCOUNT),
        ("taken", Bound.TAKEN),
    ],
)
def test_a_token_that_does_not_bind(dsn: str, api: BotApi, case: str, answer: Bound) -> None:
    async def work(scene: Scene) -> None:
        token = await _prepare(scene, case)
        before = await bound(dsn)
        scene.listen()
        api.put(said_to_bot(1, f"/start {token}", ANN_TELEGRAM))
        assert await scene.answers(1) == [(str(ANN_TELEGRAM), ANSWERS[answer])]
        assert await bound(dsn) == before
        if case == "other account":  # which does not use it up
            api.put(said_to_bot(2, f"/start {token}", BOB_TELEGRAM))
            await scene.answers(2)
            assert await bound(dsn) == [(BOB, BOB_TELEGRAM)]
        if case == "taken":
            api.put(said_to_bot(2, "/stop", ANN_TELEGRAM))
            await scene.answers(2)
            api.put(said_to_bot(3, f"/start {token}", ANN_TELEGRAM))
            await scene.answers(3)
            assert await bound(dsn) == [(ANN, ANN_TELEGRAM)]

    on_scene(dsn, api, work)


def test_what_is_no_command_in_a_chat_of_ones_own_is_left_alone(dsn: str, api: BotApi) -> None:
    async def work(scene: Scene) -> None:
        scene.listen()
        token = await scene.link(ANN)
        start, ann = f"/start {token}", ANN_TELEGRAM
        group = {"id": -100, "type": "group"}
        hostile: list[Any] = [
            said_to_bot(1, start, ann, chat=group),
            said_to_bot(2, start, ann, chat={"id": ann, "type": "channel"}),
            said_to_bot(3, start, ann, chat={"id": BOB_TELEGRAM, "type": "private"}),
            said_to_bot(4, start, ann, forward_origin={"type": "user"}),
            said_to_bot(5, start, ann, via_bot={"id": 9}),
            said_to_bot(6, f"{start} {'x' * 1_000_000}", ann),
            said_to_bot(7, None, ann, photo=[{"file_id": "x"}]),
            said_to_bot(8, {"a": 1}, ann),
            said_to_bot(9, start, True),
            said_to_bot(10, start, 10**30),
            said_to_bot(11, start, str(ann)),
            said_to_bot(12, f"/start@another_bot {token}", ann),
            said_to_bot(13, f"/start {token} more", ann),
            said_to_bot(14, "/start ' OR 1=1 --", ann),
            said_to_bot(15, "/start \x00\udcff", ann),
            said_to_bot(16, "hello", ann),
            {"update_id": 17, "edited_message": said_to_bot(17, start, ann)["message"]},
            {"update_id": 18, "message": [start]},
            {"update_id": 19, "message": {"chat": ann, "from": "x", "text": start}},
            {"update_id": "20"}, {"update_id": True}, {"update_id": -5}, {}, [], None, 7, "x",
        ]  # fmt: skip
        api.put(*hostile, said_to_bot(21, f"/start@Roehub_Test_Bot {token}", ann))
        assert await scene.answers(1) == [(str(ann), ANSWERS[Bound.BOUND])]
        assert await bound(dsn) == [(ANN, ann)]
        assert scene.registry.get_sample_value("strategy_telegram_updates_total") == 20

    on_scene(dsn, api, work)


def test_a_flood_of_commands_is_answered_once(dsn: str, api: BotApi) -> None:
    async def work(scene: Scene) -> None:
        api.put(*(said_to_bot(number, "/stop", BOB_TELEGRAM) for number in range(1, 81)))
        api.put(said_to_bot(81, "/stop", ANN_TELEGRAM))
        scene.listen()
        chats = [chat for chat, _ in await scene.answers(2)]
        assert chats == [str(BOB_TELEGRAM), str(ANN_TELEGRAM)]

    on_scene(dsn, api, work)


def test_nothing_is_done_twice_and_nothing_lost_over_a_restart(dsn: str, api: BotApi) -> None:
    async def work(scene: Scene) -> None:
        batch = [
            said_to_bot(1, f"/start {await scene.link(ANN)}", ANN_TELEGRAM),
            said_to_bot(2, "/stop", BOB_TELEGRAM),
        ]
        repeated = json.dumps({"ok": True, "result": batch})
        api.answers["getUpdates"] = [(200, repeated)]
        first = scene.listen("one")
        await scene.answers(2)
        await scene.end(first)
        # Telegram had not heard that they were dealt with, and gives them again.
        api.answers["getUpdates"] = [(200, repeated)]
        api.put(said_to_bot(3, "/stop", ANN_TELEGRAM))
        scene.listen("two")
        assert (await scene.answers(3))[2:] == [(str(ANN_TELEGRAM), LEFT)]
        assert await stored(dsn, AUDIT) == BOUND_AND_LEFT
        began, *later = (body.get("offset") for body in api.asked_of("getUpdates"))
        assert began is None
        assert {*later} <= {3, 4}

    on_scene(dsn, api, work)


def test_after_a_week_of_silence_the_numbers_begin_anew(dsn: str, api: BotApi) -> None:
    async def work(scene: Scene) -> None:
        await changed(
            dsn,
            "INSERT INTO telegram_bots VALUES (123456, 'b', 900, now() - interval '8 d', 'old', 3,"
            " now() - interval '8 d')",
        )
        scene.listen()
        api.put(said_to_bot(5, "/stop", ANN_TELEGRAM))
        await scene.answers(1)
        assert "offset" not in api.asked_of("getUpdates")[0]
        assert await stored(dsn, "SELECT next_update_id, token FROM telegram_bots") == [(6, 4)]

    on_scene(dsn, api, work)


def test_one_of_two_listens_and_the_other_takes_over(dsn: str, api: BotApi) -> None:
    async def work(scene: Scene) -> None:
        scene.listen("one", wait_s=1, lease_s=1.5)
        api.put(said_to_bot(1, "/stop", ANN_TELEGRAM))
        await scene.answers(1)
        scene.listen("two", wait_s=1, lease_s=1.5)
        for number in range(2, 6):
            api.put(said_to_bot(number, "/stop", ANN_TELEGRAM))
            await scene.answers(number)
        assert api.conflicts == 0
        assert await stored(dsn, "SELECT owner, token FROM telegram_bots") == [("one", 1)]
        # Killed without a word: nobody gives the bot back.
        await scene.kill(0)
        api.put(said_to_bot(6, "/stop", BOB_TELEGRAM))
        await scene.answers(6)
        assert await stored(dsn, "SELECT owner, token FROM telegram_bots") == [("two", 2)]

    on_scene(dsn, api, work)


def test_a_listener_that_was_replaced_changes_nothing(dsn: str, api: BotApi) -> None:
    async def work(scene: Scene) -> None:
        token = await scene.link(ANN)
        scene.listen("one")
        async with asyncio.timeout(20):
            while not api.asked_of("getUpdates"):
                await asyncio.sleep(0.005)
        await changed(
            dsn,
            "UPDATE telegram_bots SET owner = 'two', token = 2,"
            " lease_until = clock_timestamp() + interval '1 h'",
        )
        api.put(said_to_bot(1, f"/start {token}", ANN_TELEGRAM))
        async with asyncio.timeout(20):
            while scene.registry.get_sample_value("strategy_telegram_polling") != 0:
                await asyncio.sleep(0.005)
        assert await bound(dsn) == []
        assert api.said() == []
        assert await stored(dsn, "SELECT next_update_id FROM telegram_bots") == [(0,)]

    on_scene(dsn, api, work)


REFUSED = '{"ok": false, "description": "no"}'


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("getMe", (401, REFUSED)),
        ("getMe", (200, '{"ok": true, "result": {"id": "1", "username": "x"}}')),
        ("getMe", (200, '{"ok": true, "result": {"id": 1, "username": "a/../b"}}')),
        ("getUpdates", (401, REFUSED)),
        ("getUpdates", (404, f"<h1>/bot{TOKEN}/getUpdates is not found</h1>")),
        ("getUpdates", (409, '{"ok": false, "description": "a webhook is active"}')),
        ("getUpdates", (502, "<html>")),
        ("getUpdates", (200, "no json")),
        ("getUpdates", (200, "[" * 100_000)),
        ("getUpdates", (200, '{"ok": true, "result": {"a": 1}}')),
        ("getUpdates", (200, '{"ok": true, "result": [1, {"update_id": null}]}')),
        ("getUpdates", (429, '{"ok": false, "parameters": {"retry_after": "soon"}}')),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value[0]}-{value[1][:30]}",
)
def test_a_bot_api_that_fails_is_asked_again(
    dsn: str, api: BotApi, method: str, answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    async def work(scene: Scene) -> None:
        api.answers[method] = [answer] * 3
        api.put(said_to_bot(1, "/stop", ANN_TELEGRAM))
        scene.listen()
        async with asyncio.timeout(20):
            while "messages to the bot are read again" not in caplog.text:
                await asyncio.sleep(0.005)
        assert api.said() == [(str(ANN_TELEGRAM), NOT_BOUND)]
        assert scene.registry.get_sample_value("strategy_telegram_poll_errors_total") == 3

    on_scene(dsn, api, work)
    assert caplog.text.count("messages to the bot cannot be read") == 1
    assert TOKEN.partition(":")[2] not in caplog.text


@pytest.mark.parametrize(
    "answer",
    [
        (429, '{"ok": false, "parameters": {"retry_after": 0.3}}'),
        (429, "slow down", {"Retry-After": "0.3"}),
        (503, REFUSED, {"Retry-After": "0.3"}),
    ],
    ids=["body", "header", "503"],
)
def test_it_waits_as_long_as_it_is_told(dsn: str, api: BotApi, answer: Any) -> None:
    async def work(scene: Scene) -> None:
        api.answers["getUpdates"] = [answer]
        scene.listen()
        api.put(said_to_bot(1, "/stop", ANN_TELEGRAM))
        async with asyncio.timeout(20):
            while not api.asked_of("getUpdates"):
                await asyncio.sleep(0.005)
        began = time.monotonic()
        await scene.answers(1)
        assert time.monotonic() - began > 0.25

    on_scene(dsn, api, work)


def test_an_answer_that_does_not_arrive_undoes_nothing(
    dsn: str, api: BotApi, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(scene: Scene) -> None:
        api.answers["sendMessage"] = [(403, '{"ok": false, "description": "blocked by the user"}')]
        api.put(said_to_bot(1, f"/start {await scene.link(ANN)}", ANN_TELEGRAM))
        api.put(said_to_bot(2, "/stop", BOB_TELEGRAM))
        scene.listen()
        await scene.answers(2)
        assert await bound(dsn) == [(ANN, ANN_TELEGRAM)]

    on_scene(dsn, api, work)
    assert "blocked by the user" in caplog.text


def test_a_database_that_was_away_is_asked_again(dsn: str, api: BotApi) -> None:
    async def work(scene: Scene) -> None:
        scene.listen()
        token = await scene.link(ANN)
        await changed(
            dsn, "ALTER TABLE telegram_bots RENAME TO away"
        )  # before what is read is dealt with
        api.put(said_to_bot(1, f"/start {token}", ANN_TELEGRAM))
        async with asyncio.timeout(20):
            while not scene.registry.get_sample_value("strategy_telegram_poll_errors_total"):
                await asyncio.sleep(0.005)
        await changed(
            dsn,
            "ALTER TABLE away RENAME TO telegram_bots",
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'test'"
            " AND datname = current_database()",
        )
        assert await scene.answers(1) == [(str(ANN_TELEGRAM), ANSWERS[Bound.BOUND])]
        assert await bound(dsn) == [(ANN, ANN_TELEGRAM)]

    on_scene(dsn, api, work)


def test_a_chat_is_bound_by_hand_where_no_bot_is(dsn: str) -> None:
    async def run() -> tuple[Bound, Bound, int | None, str | None]:
        opened = engine(dsn)
        try:
            async with opened.begin() as connection:
                link = await make_link(connection, ANN)
                found = await bind(connection, link.token, -77)
                again = await bind(connection, link.token, -78)
            return found, again, await chat_of(opened, ANN), link.url
        finally:
            await opened.dispose()

    assert asyncio.run(run()) == (Bound.BOUND, Bound.UNKNOWN, -77, None)
