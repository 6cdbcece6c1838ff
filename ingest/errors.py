"""Errors of market data: of the store that keeps it and of the exchanges it comes from."""

from __future__ import annotations

from compute.errors import InvalidInput, RoehubError


class StoreFailed(RoehubError):
    """The candle store refused a statement; trying again will not help."""

    code = "store_failed"


class StoreUnavailable(StoreFailed):
    """The candle store is down, unreachable or overloaded; a later attempt may succeed."""

    code = "store_unavailable"


class StoreRefused(InvalidInput):
    """The candle store refuses its user; the right name and password are the cure."""


class StoreInUse(InvalidInput):
    """The directory of the embedded store belongs to another process, or to another opening."""


class SchemaOutdated(InvalidInput):
    """The store's tables are not those of this version; migrating it is the cure."""


class NoSeed(InvalidInput):
    """An instrument without a stored candle, where only the newer ones were to be fetched."""


class ExchangeError(RoehubError):
    """An exchange refused a request or could not be understood.

    `status` is the HTTP status and `exchange_code` the exchange's own error code (the argument
    `code`), where there were any. A `retryable` one may go away by itself.
    """

    code = "exchange_error"

    def __init__(
        self,
        message: str,
        *,
        market_id: int | None = None,
        status: int | None = None,
        code: int | str | None = None,
        retryable: bool = False,
    ) -> None:
        super().__init__(
            message,
            details={"market_id": market_id, "status": status, "exchange_code": code},
        )
        self.market_id = market_id
        self.status = status
        self.exchange_code = code
        self.retryable = retryable


class RateLimited(ExchangeError):
    """An exchange asked for fewer requests; `retry_after_s` is the pause it named, if it did."""

    code = "rate_limited"

    def __init__(
        self,
        message: str,
        *,
        retry_after_s: float | None = None,
        market_id: int | None = None,
        status: int | None = None,
        code: int | str | None = None,
    ) -> None:
        super().__init__(message, market_id=market_id, status=status, code=code, retryable=True)
        self.retry_after_s = retry_after_s


class MalformedFrame(ExchangeError):
    """An answer or a message of an exchange that does not have the documented shape."""

    code = "malformed_frame"
