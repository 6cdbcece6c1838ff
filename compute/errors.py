"""Typed errors of the pure core; every one carries its numbers as fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from compute.quantities import spaced


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
    """A plan above a configured limit; `details` hold the contract's payload.

    The message is made of the contract's `title` of it, `need` (what is needed and what is
    allowed), `largest` (the names that make most of it, with their numbers of values) and `cure`.
    `enough` are the name of the limit and a number that would do, where raising it is a cure, too.
    """

    def __init__(
        self,
        need: str,
        *,
        title: str = "",
        cure: str = "",
        largest: Sequence[tuple[str, int]] = (),
        details: Mapping[str, Any] | None = None,
        enough: tuple[str, int] | None = None,
    ) -> None:
        most = ", ".join(f"{name} ({spaced(count)})" for name, count in largest)
        parts = [f"most come from {most}: {cure}" if largest else cure] if cure else []
        message = "; ".join([f"{title}: {need}" if title else need, *parts])
        raised = "" if enough is None else f", or raise {enough[0]} to {enough[1]}"
        super().__init__(message + raised, details=details)
        self.need, self.cure, self.largest = need, cure, tuple(largest)
        self.enough = enough

    def with_flags(self, flags: Mapping[str, str]) -> GuardExceeded:
        """The same of a command that raises limits by `flags`, which are by a limit's name."""
        if self.enough is None:
            return self
        name, number = self.enough
        head = self.message.removesuffix(f", or raise {name} to {number}")
        cure = f"{head}, or raise the limit: {flags[name]} {number}"
        return GuardExceeded(cure, details=self.details)


class Cancelled(InvalidInput):
    """A run that stopped at a checkpoint because it was asked to."""

    def __init__(self, reason: str, stage: str) -> None:
        super().__init__(f"Backtest run cancelled cooperatively (reason={reason}, stage={stage})")
        self.reason = reason
        self.stage = stage
