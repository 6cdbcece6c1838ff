"""Typed errors of the pure core; every one carries its numbers as fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class RoehubError(Exception):
    """Base of all errors a user can cause or cure; `code` names the class on the wire."""

    code = "unexpected_error"

    def __init__(self, message: str, *, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details: dict[str, Any] = dict(sorted((details or {}).items()))

    def __reduce__(self) -> tuple[Any, ...]:
        # By state, not by arguments: constructors differ, and an error must cross processes whole.
        return _restored, (type(self), self.args, dict(self.__dict__))


def _restored(kind: type[RoehubError], args: tuple[Any, ...], state: dict[str, Any]) -> RoehubError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class InvalidInput(RoehubError):
    """Bad input: request, candles, configuration or flag (HTTP 422, exit code 2)."""

    code = "validation_error"


class InvalidRequest(InvalidInput):
    """A request body that fails its schema; `errors` are `{path, code, message}`, sorted."""

    def __init__(self, message: str, errors: Sequence[Mapping[str, str]]) -> None:
        ordered = sorted(
            (dict(item) for item in errors), key=lambda e: (e["path"], e["code"], e["message"])
        )
        super().__init__(message, details={"errors": ordered})
        self.errors = ordered


class InvalidCandles(InvalidInput):
    """Candles that no back-test can run on; `rows` are 0-based row numbers in the file."""

    def __init__(self, message: str, *, rows: Sequence[int] = ()) -> None:
        super().__init__(message, details={"rows": list(rows)} if rows else None)
        self.rows = list(rows)


class InvalidGrid(InvalidInput):
    """An axis, indicator or parameter outside its definition; `others` were found with it."""

    others: Sequence[InvalidGrid] = ()


class NoMarketData(InvalidInput):
    """No bar could be built for the requested range."""

    def __init__(self, message: str = "no market data for requested range") -> None:
        super().__init__(message)


class GuardExceeded(InvalidInput):
    """A plan above a configured limit; `details` hold the contract's payload."""


class Cancelled(InvalidInput):
    """A run that stopped at a checkpoint because it was asked to."""

    def __init__(self, reason: str, stage: str) -> None:
        super().__init__(f"Backtest run cancelled cooperatively (reason={reason}, stage={stage})")
        self.reason = reason
        self.stage = stage
