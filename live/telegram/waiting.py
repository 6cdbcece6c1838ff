"""Messages that wait to be sent: users in turns, each with so many at most."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Final
from uuid import UUID

from live.output import Told

OF_A_USER: Final = 100
"""Messages of a user that wait at most."""
OF_ALL: Final = 10_000

Waiting = tuple[float, Told]
"""Since when a message waits, and what it tells."""


class Line:
    """Messages in the order they are to be sent in."""

    def __init__(self) -> None:
        self._users: OrderedDict[UUID, deque[Waiting]] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def put(self, record: Told, now: float) -> Told | None:
        """The message that has no place now: an older one of the user, or this one; None: all have.

        A failure loses its place to failures alone.
        """
        if self._size >= OF_ALL and record.kind != "run_failed":
            return record
        line = self._users.setdefault(record.source.user_id, deque())
        line.append((now, record))
        self._size += 1
        if len(line) <= OF_A_USER:
            return None
        first = next((i for i, (_, one) in enumerate(line) if one.kind != "run_failed"), 0)
        gone = line[first][1]
        del line[first]
        self._size -= 1
        return gone

    def take(self) -> Waiting:
        """The next message; its user has the last turn then. Raises: KeyError: there is none."""
        user_id, line = self._users.popitem(last=False)
        found = line.popleft()
        if line:
            self._users[user_id] = line
        self._size -= 1
        return found
