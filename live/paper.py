"""The paper account of one run: votes and closes in, one bar at a time; fills and equity out.

It is the last bar of a back-test: entries, stops and money are those of `compute.replay` over the
same bars with the last position left open, to the bit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final, Protocol, Self

from compute.account import (
    LONG_ONLY,
    SHORT_ONLY,
    Terms,
    close_position,
    mark,
    open_position,
)
from compute.exact import OFF, REASONS, SIGNAL_EXIT, SL, TP

SIDES: Final = {1: "long", -1: "short"}


@dataclass(frozen=True, slots=True)
class Position:
    """An open position; `bar_ms` is the open of the bar whose close it was entered at."""

    side: int
    bar_ms: int
    fill: float
    quantity: float
    quote: float
    fee: float


@dataclass(frozen=True, slots=True)
class Trade:
    """A closed position; money is quote units, `reason` one of `compute.exact.REASONS`."""

    number: int
    side: int
    entry_bar_ms: int
    exit_bar_ms: int
    reason: str
    entry_fill: float
    exit_fill: float
    quantity: float
    entry_quote: float
    exit_quote: float
    entry_fee: float
    exit_fee: float
    gross: float
    net: float
    locked: float


@dataclass(frozen=True, slots=True)
class Balance:
    """Money of an account outside of a position: what may be traded, and what is locked away."""

    available: float
    safe: float = 0.0


class Broker(Protocol):
    """Where positions are opened and closed. A broker of real orders would be another one."""

    def open(
        self, balance: Balance, side: int, bar_ms: int, close: float
    ) -> tuple[Balance, Position]:
        """The balance and the position after entering at a bar's close; needs available > 0."""
        ...

    def close(
        self,
        balance: Balance,
        position: Position,
        number: int,
        bar_ms: int,
        close: float,
        reason: str,
    ) -> tuple[Balance, Trade]:
        """The balance and the trade after leaving `position` at a bar's close."""
        ...


@dataclass(frozen=True, slots=True)
class PaperBroker:
    """Fills at the close, worsened by slippage, with fees: the account of the back-test."""

    terms: Terms

    def open(
        self, balance: Balance, side: int, bar_ms: int, close: float
    ) -> tuple[Balance, Position]:
        available, quote, fill, quantity, fee = open_position(
            balance.available, close, side, self.terms
        )
        return replace(balance, available=available), Position(
            side, bar_ms, fill, quantity, quote, fee
        )

    def close(
        self,
        balance: Balance,
        position: Position,
        number: int,
        bar_ms: int,
        close: float,
        reason: str,
    ) -> tuple[Balance, Trade]:
        at = position
        available, safe, fill, quote, fee, gross, net, locked = close_position(
            balance.available,
            balance.safe,
            at.side,
            at.quote,
            at.quantity,
            at.fee,
            close,
            self.terms,
        )
        trade = Trade(
            number, at.side, at.bar_ms, bar_ms, reason, at.fill, fill, at.quantity,
            at.quote, quote, at.fee, fee, gross + 0.0, net + 0.0, locked,
        )  # fmt: skip
        return Balance(available, safe), trade


@dataclass(frozen=True, slots=True)
class Step:
    """What one closed bar did: the trade that ended on it, the position that began on it."""

    bar_ms: int
    vote: int
    equity: float
    closed: Trade | None = None
    opened: Position | None = None


@dataclass(frozen=True, slots=True)
class Account:
    """State of a paper account between two bars; immutable, so that a failed bar changes nothing.

    `vote` is the vote of the last bar as far as the direction mode allows it: a position is
    entered where it begins, never in its middle.
    """

    balance: Balance
    position: Position | None = None
    vote: int = 0
    trades: int = 0

    def record(self) -> dict[str, Any]:
        """The account as JSON values; floats survive the way there and back."""
        position = self.position
        return {
            "balance": _values(self.balance),
            "position": None if position is None else _values(position),
            "vote": self.vote,
            "trades": self.trades,
        }

    @classmethod
    def of_record(cls, record: dict[str, Any]) -> Self:
        """The account that `record` was made from. Raises: KeyError, TypeError."""
        position = record["position"]
        return cls(
            Balance(**record["balance"]),
            None if position is None else Position(**position),
            record["vote"],
            record["trades"],
        )


def _values(kept: Balance | Position) -> dict[str, Any]:
    return {name: getattr(kept, name) for name in kept.__slots__}


@dataclass(frozen=True, slots=True)
class Trading:
    """The rules of an account: its broker, direction and stops (rates, `OFF` when disabled)."""

    broker: Broker
    terms: Terms
    sl: float = OFF
    tp: float = OFF

    def opened(self) -> Account:
        """The account before its first bar."""
        return Account(Balance(self.terms.init_cash))

    def step(self, account: Account, bar_ms: int, close: float, vote: int) -> tuple[Account, Step]:
        """(account, `Step`) after the close (float64) of the next bar and the vote on it."""
        side = self.allowed(vote)
        begins = side != 0 and side != account.vote
        balance, position, trades = account.balance, account.position, account.trades
        closed = opened = None
        if position is not None:
            reason = self._left(position, close, side)
            if reason is not None:
                trades += 1
                balance, closed = self.broker.close(
                    balance, position, trades, bar_ms, close, REASONS[reason]
                )
                position = None
        if begins and position is None and balance.available > 0.0:
            balance, position = self.broker.open(balance, side, bar_ms, close)
            opened = position
        after = Account(balance, position, side, trades)
        return after, Step(bar_ms, vote, self.equity(after, close), closed, opened)

    def equity(self, account: Account, close: float) -> float:
        """Equity at a bar's close after its actions."""
        balance, position = account.balance, account.position
        if position is None:
            return balance.available + balance.safe
        return mark(
            balance.available, balance.safe, position.side, position.quote, position.quantity, close
        )

    def allowed(self, vote: int) -> int:
        """A vote that may open a position; a forbidden side counts as no vote."""
        forbidden = {LONG_ONLY: -1, SHORT_ONLY: 1}.get(self.terms.direction)
        return 0 if vote == forbidden else vote

    def _left(self, position: Position, close: float, side: int) -> int | None:
        """Why a position ends at this close, None when it does not: stop, target, then signal."""
        down, up = (self.sl, self.tp) if position.side > 0 else (self.tp, self.sl)
        below, above = (SL, TP) if position.side > 0 else (TP, SL)
        if close <= position.fill * (1.0 - down):
            return below
        if close >= position.fill * (1.0 + up):
            return above
        return None if side == position.side else SIGNAL_EXIT
