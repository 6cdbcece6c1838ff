"""What a request may do."""

from __future__ import annotations

from typing import Final

READ: Final = "read"
"""Every GET, but those of the account."""
RUN: Final = "run"
"""Whatever makes, changes or runs back-tests, jobs and strategies."""
ACCOUNT: Final = "account"
"""Logins, tokens, 2FA, exchange keys, the account itself: of sessions and the local operator."""

TOKEN_SCOPES: Final = (READ, RUN)
"""Those that an access token may be given."""
ALL_SCOPES: Final = frozenset((READ, RUN, ACCOUNT))
