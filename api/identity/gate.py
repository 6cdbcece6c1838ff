"""What stands before the second factor and exchange keys: a session, a second factor, a code.

The order is that of the contract: 401, then 403, and only then is a body or a path looked at.
"""

from __future__ import annotations

import logging
from typing import Annotated

from fastapi import Depends, Request

from api.errors import Forbidden
from api.identity.two_factor import TwoFactor, required, step_up_required
from api.users import AccountUser, User

log = logging.getLogger(__name__)


def two_factor_of(request: Request) -> TwoFactor:
    """The second factors of the service."""
    return TwoFactor(request.app.state.context.identity)


TheTwoFactor = Annotated[TwoFactor, Depends(two_factor_of)]


async def in_session(user: AccountUser) -> User:
    """A user who is logged in; whoever has but a token can prove no second factor.

    Raises: Unauthorized, Forbidden.
    """
    if user.session_id is None:
        raise Forbidden(
            "an access token cannot do this; log in", details={"error": "session_required"}
        )
    return user


InSession = Annotated[User, Depends(in_session)]


async def two_factor_user(user: InSession, two_factor: TheTwoFactor) -> User:
    """A user with a second factor. Raises: Unauthorized, Forbidden."""
    if not await two_factor.is_enabled(user.user_id):
        log.warning("no second factor: user %s is refused", user.user_id)
        raise required()
    return user


TwoFactorUser = Annotated[User, Depends(two_factor_user)]


async def stepped_up_user(user: TwoFactorUser, two_factor: TheTwoFactor) -> User:
    """A user who has proved his second factor a moment ago. Raises: Unauthorized, Forbidden."""
    assert user.session_id is not None
    if not await two_factor.is_stepped_up(user.user_id, user.session_id):
        log.warning("no fresh code: user %s is refused", user.user_id)
        raise step_up_required()
    return user


SteppedUp = Annotated[User, Depends(stepped_up_user)]


async def confirmed_user(user: AccountUser, two_factor: TheTwoFactor) -> User:
    """A user of whom a second factor, if there is one, was proved a moment ago.

    Raises: Unauthorized, Forbidden.
    """
    if await two_factor.is_enabled(user.user_id):
        await stepped_up_user(await in_session(user), two_factor)
    return user


Confirmed = Annotated[User, Depends(confirmed_user)]
