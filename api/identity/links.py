"""Links that log a browser in once: for the local operator, whose token no browser has."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from api.identity.access_tokens import token_hash
from api.identity.refusals import unauthorized

LIFE_SECONDS: Final = 60


@dataclass(slots=True, eq=False)
class Links:
    """The links of this process that were not used yet; `now_ms` is the wall clock."""

    now_ms: Callable[[], int]
    _until: dict[bytes, tuple[UUID, int]] = field(default_factory=dict)

    def make(self, user_id: UUID) -> str:
        """A code that is this user, once and for a minute."""
        now = self.now_ms()
        self._until = {key: one for key, one in self._until.items() if one[1] > now}
        code = secrets.token_urlsafe(32)
        self._until[token_hash(code)] = (user_id, now + 1000 * LIFE_SECONDS)
        return code

    def use(self, code: str) -> UUID:
        """Who a code is; it is nobody from now on. Raises: Unauthorized."""
        user_id, until = self._until.pop(token_hash(code), (None, 0))
        if user_id is None or until <= self.now_ms():
            raise unauthorized("used_link")
        return user_id
