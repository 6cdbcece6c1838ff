"""What people tell the bot: `/start` with the token of a link binds their chat, `/stop` ends it.

The Bot API lets one process read a bot's messages. A lease in the database says which, and its row
has the place up to where they were dealt with: it moves in the transaction that deals with one.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, TypeGuard

from sqlalchemy import case, func, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from cluster.postgres.engine import transient, typed
from live.metrics import TelegramMetrics
from live.telegram.bot import Bot, BotFailed, Me
from live.telegram.chats import Bound, bind, leave
from live.telegram.tables import BOTS

WAIT_S: Final = 20.0
_LEASE_OVER_S: Final = 15.0
"""By how much a lease is longer than a read: for dealing with what was read."""
_SHORTEST_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 60.0
_FORGOTTEN: Final = timedelta(days=6)
"""After a week without messages Telegram counts from another number on."""
_MOST_ANSWERS: Final = 20
_CHARACTERS: Final = 200
_OTHERS: Final = ("forward_origin", "forward_date", "via_bot")
"""What a message has that somebody else wrote."""
_COMMAND: Final = re.compile(r"/(start|stop)(?:@(\w+))?(?:[ \n]+([\w-]{1,64}))?\s*", re.ASCII)
_NOW: Final = func.clock_timestamp()

ANSWERS: Final = {
    Bound.BOUND: "This chat is bound: it gets the messages of your strategies. /stop ends that.",
    Bound.UNKNOWN: "This link is not known, was used, or has expired. Ask for a new one.",
    Bound.OTHER_ACCOUNT: "This link was made for another Telegram account.",
    Bound.TAKEN: "This chat is bound to another user. Send /stop, then use your link again.",
}
ASK: Final = "Ask Roehub for a link, and open it to bind this chat."
LEFT: Final = "This chat gets no messages any more."
NOT_BOUND: Final = "This chat was not bound."

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Command:
    """What a person told the bot in a chat with it alone, which has the number of his account."""

    name: str
    argument: str | None
    chat_id: int


@dataclass(frozen=True, slots=True)
class Place:
    """Up to where this process, and no other, reads a bot's messages; see `live.leases.Lease`."""

    next_update_id: int
    token: int


class PlaceLost(Exception):
    """Another process reads the bot's messages now."""


class Listener:
    """Reads the messages of one bot while no other process does; `owner` names this one."""

    def __init__(
        self,
        bot: Bot,
        engine: AsyncEngine,
        owner: str,
        metrics: TelegramMetrics,
        wait_s: float = WAIT_S,
        lease_s: float | None = None,
    ) -> None:
        self._bot, self._engine, self._owner, self._metrics = bot, engine, owner, metrics
        self._wait_s = wait_s
        self._lease_s = wait_s + _LEASE_OVER_S if lease_s is None else lease_s
        self._me: Me | None = None
        self._failures = 0
        self._said: str | None = None

    async def run(self) -> None:
        """Listens until it is cancelled; raises nothing else."""
        try:
            while True:
                await asyncio.sleep(await self._turn())
        finally:
            self._metrics.polling.set(0)
            await self._release()

    async def _turn(self) -> float:
        """Reads once; the seconds until the next time."""
        try:
            if self._me is None:
                self._me = await self._bot.me()
            place = await self._held(self._me)
            self._metrics.polling.set(int(place is not None))
            if place is None:
                return self._lease_s / 3
            began = time.monotonic()
            updates = await self._bot.updates(place.next_update_id, self._wait_s)
            moved = await self._dealt_with(self._me, place, updates)
        except PlaceLost:
            return 0.0
        except Exception as error:
            return self._pause_s(error)
        if updates and not moved:
            return self._pause_s(BotFailed("getUpdates has no update that can be read"))
        if self._said is not None:
            log.info("messages to the bot are read again")
        self._failures, self._said = 0, None
        hurried = not updates and time.monotonic() - began < min(self._wait_s, _SHORTEST_PAUSE_S)
        return _SHORTEST_PAUSE_S if hurried else 0.0  # of a server that does not wait

    def _pause_s(self, error: Exception) -> float:
        """How long to wait after a failure; it is told once."""
        self._metrics.poll_errors.inc()
        said = str(error) or type(error).__name__
        if said != self._said:
            log.warning("messages to the bot cannot be read, trying again: %s", said)
        self._said = said
        self._failures += 1
        pause_s = min(_SHORTEST_PAUSE_S * 2 ** min(self._failures - 1, 10), _LONGEST_PAUSE_S)
        asked_s = error.retry_after_s if isinstance(error, BotFailed) else None
        return pause_s if asked_s is None else asked_s

    async def _held(self, me: Me) -> Place | None:
        """The place from which to read, held for one read more; None while another process does."""
        lease = _NOW + timedelta(seconds=self._lease_s)
        row = insert(BOTS).values(
            bot_id=me.bot_id, username=me.username, owner=self._owner, token=1, lease_until=lease
        )
        ours = BOTS.c.owner == row.excluded.owner
        query = row.on_conflict_do_update(
            index_elements=[BOTS.c.bot_id],
            set_={
                "username": row.excluded.username,
                "owner": row.excluded.owner,
                "token": case((ours, BOTS.c.token), else_=BOTS.c.token + 1),
                "lease_until": lease,
                "next_update_id": case(
                    (BOTS.c.heard_at > _NOW - _FORGOTTEN, BOTS.c.next_update_id), else_=0
                ),
            },
            where=ours | (BOTS.c.lease_until <= _NOW),
        ).returning(BOTS.c.next_update_id, BOTS.c.token)
        with typed():
            async with self._engine.begin() as connection:
                found = (await connection.execute(query)).one_or_none()
        return None if found is None else Place(found.next_update_id, found.token)

    async def _dealt_with(self, me: Me, place: Place, updates: Sequence[Any]) -> bool:
        """Whether there was an update that is behind us now. Raises: PlaceLost."""
        answers: dict[int, str] = {}
        next_id = place.next_update_id
        for found in updates:
            update_id = found.get("update_id") if isinstance(found, Mapping) else None
            if not _is_number(update_id) or update_id < next_id:
                continue
            next_id = update_id + 1
            self._metrics.updates.inc()
            command = command_of(found, me.username)
            if command is not None:
                answers[command.chat_id] = await self._done(command, me, place, next_id)
        if next_id == place.next_update_id:
            return False
        with typed():
            async with self._engine.begin() as connection:
                await _move(connection, me, place, next_id)
        await self._answered(answers)
        return True

    async def _done(self, command: Command, me: Me, place: Place, next_id: int) -> str:
        """The answer to a command, which is carried out once; a defect of it holds up no other."""
        try:
            with typed():
                async with self._engine.begin() as connection:
                    await _move(connection, me, place, next_id)
                    return await answer_to(connection, command)
        except PlaceLost:
            raise
        except Exception as error:
            if transient(error):
                raise
            log.exception("a message to the bot could not be dealt with")
            return ANSWERS[Bound.UNKNOWN]

    async def _answered(self, answers: Mapping[int, str]) -> None:
        """Answers the last command of each chat, in one try."""
        for chat_id, text in list(answers.items())[:_MOST_ANSWERS]:
            try:
                await self._bot.send(chat_id, text)
            except BotFailed as error:
                log.warning("a message to the bot was not answered: %s", error)
                if error.status is None or error.retry_after_s is not None:
                    return

    async def _release(self) -> None:
        if self._me is None:
            return
        query = update(BOTS).where(BOTS.c.bot_id == self._me.bot_id, BOTS.c.owner == self._owner)
        try:
            async with self._engine.begin() as connection:
                await connection.execute(query.values(lease_until=_NOW))
        except Exception as error:  # it ends by itself
            log.warning("the bot was not given back: %s", error)


async def answer_to(connection: AsyncConnection, command: Command) -> str:
    """Carries a command out; what to say about it."""
    if command.name == "stop":
        return LEFT if await leave(connection, command.chat_id) else NOT_BOUND
    if command.argument is None:
        return ASK
    return ANSWERS[await bind(connection, command.argument, command.chat_id, command.chat_id)]


def command_of(update: Mapping[str, Any], username: str) -> Command | None:
    """The command in an update; None for whatever else people, groups and channels send."""
    message = update.get("message")
    if not isinstance(message, Mapping):
        return None
    chat, sender, text = message.get("chat"), message.get("from"), message.get("text")
    if not (isinstance(chat, Mapping) and isinstance(sender, Mapping) and isinstance(text, str)):
        return None
    chat_id, sender_id = chat.get("id"), sender.get("id")
    if not (_is_number(chat_id) and chat_id == sender_id and chat.get("type") == "private"):
        return None
    if any(name in message for name in _OTHERS) or len(text) > _CHARACTERS:
        return None
    found = _COMMAND.fullmatch(text)
    if found is None or (found[2] is not None and found[2].lower() != username.lower()):
        return None
    return Command(found[1], found[3], chat_id)


async def _move(connection: AsyncConnection, me: Me, place: Place, next_id: int) -> None:
    """Notes up to where messages are dealt with. Raises: PlaceLost."""
    query = (
        update(BOTS)
        .where(BOTS.c.bot_id == me.bot_id, BOTS.c.token == place.token)
        .values(next_update_id=next_id, heard_at=_NOW)
        .returning(BOTS.c.bot_id)
    )
    if (await connection.execute(query)).one_or_none() is None:
        raise PlaceLost


def _is_number(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**63 - 1
