"""Pages of a user's jobs, newest first: what a list may ask for, and where it goes on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cache
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Select, Text, bindparam, func, literal_column, select, tuple_
from sqlalchemy.dialects.postgresql import JSONB

from cluster.jobs.errors import RejectedRequest
from cluster.jobs.job import STATES, Listed, Record, columns
from cluster.jobs.tables import JOBS
from cluster.postgres.keyset import cursor_of, place_of
from compute.market.timeframe import TIMEFRAMES

_NAMES: Final = ("created_at", "job_id")


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last row of a page; the next one starts below it."""

    created_at: datetime
    job_id: UUID

    def encode(self) -> str:
        """The text that `decode` takes."""
        return cursor_of((self.created_at, self.job_id), _NAMES)

    @classmethod
    def decode(cls, token: str) -> Cursor:
        """The cursor of a text. Raises: InvalidCursor."""
        return cls(*place_of(token, _NAMES, "jobs"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Item(Listed):
    """A job with what it is about."""

    instrument_id: Record
    timeframe: str
    stage_a_variants_total: int
    time_range: Record
    indicators: list[str]

    def item(self) -> Record:
        """The JSON-able item of a list."""
        return Listed.item(self) | {name: getattr(self, name) for name in SUBJECT}


SUBJECT: Final = {
    "instrument_id": JOBS.c.effective_json["template"]["instrument_id"],
    "timeframe": JOBS.c.effective_json["template"]["timeframe"].astext,
    "stage_a_variants_total": JOBS.c.plan_json["stage_a_variants_total"].as_integer(),
    "time_range": JOBS.c.effective_json["time_range"],
    "indicators": func.jsonb_path_query_array(
        JOBS.c.effective_json["template"],
        literal_column("'$.indicator_grids[*].indicator_id'"),
        type_=JSONB,
    ),
}
"""What a job is about, and where it stands in a row."""


@dataclass(frozen=True, slots=True)
class Page:
    """Jobs in the order of the list; `next_cursor` is None on the last page."""

    items: list[Item]
    next_cursor: str | None

    def record(self) -> Record:
        """The JSON-able page."""
        return {"items": [job.item() for job in self.items], "next_cursor": self.next_cursor}


def state_filter(raw: str | None) -> str | None:
    """The state to filter by; blank is none. Raises: RejectedRequest."""
    name = (raw or "").strip().lower()
    if not name:
        return None
    if name not in STATES:
        raise RejectedRequest(
            f"state must be one of {', '.join(STATES)}, got {name[:60]!r}",
            "query.state",
            "invalid_value",
        )
    return name


def symbol_filter(raw: str | None) -> str | None:
    """The part of a symbol to filter by; blank is none. Raises: RejectedRequest."""
    part = (raw or "").strip().upper()
    if "\0" in part:
        raise RejectedRequest("symbol holds a null character", "query.symbol", "invalid_value")
    return part or None


def timeframe_filter(raw: str | None) -> str | None:
    """The timeframe to filter by; blank is none. Raises: RejectedRequest."""
    name = (raw or "").strip().lower()
    if name and name not in TIMEFRAMES:
        raise RejectedRequest(
            f"timeframe must be one of {', '.join(TIMEFRAMES)}, got {name[:60]!r}",
            "query.timeframe",
            "invalid_value",
        )
    return name or None


def cursor_filter(raw: str | None) -> Cursor | None:
    """The cursor to go on from; blank is none. Raises: InvalidCursor."""
    return Cursor.decode(raw) if raw and raw.strip() else None


def top_limit(raw: int | None, cap: int) -> int:
    """Rows of a job's best. Raises: RejectedRequest outside 1..`cap`."""
    limit = cap if raw is None else raw
    if limit <= 0:
        raise RejectedRequest(f"limit must be > 0, got {limit}", "query.limit", "greater_than")
    if limit > cap:
        raise RejectedRequest(f"limit must be <= {cap}, got {limit}", "query.limit", "max_value")
    return limit


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a list has: jobs of a state, of symbols that contain a text, on a timeframe."""

    state: str | None = None
    symbol: str | None = None
    timeframe: str | None = None


ALL: Final = Wanted()


def page_query(
    user_id: UUID, wanted: Wanted, limit: int, cursor: Cursor | None
) -> tuple[Select[tuple[Any, ...]], dict[str, Any]]:
    """(query, its values) of rows of `Item`, one more than `limit` where there are more."""
    values: dict[str, Any] = {"user_id": user_id, "rows": limit + 1}
    given = {name: value for name, value in asdict(wanted).items() if value is not None}
    values |= given
    if cursor is not None:
        values |= {"created_at": cursor.created_at, "job_id": cursor.job_id}
    return _page_query(frozenset(given), cursor is not None), values


@cache
def _page_query(given: frozenset[str], below_a_cursor: bool) -> Select[tuple[Any, ...]]:
    named = [JOBS.c[name] for name in columns(Listed)]
    named += [place.label(name) for name, place in SUBJECT.items()]
    query = (
        select(*named)
        .where(JOBS.c.user_id == bindparam("user_id"))
        .order_by(JOBS.c.created_at.desc(), JOBS.c.job_id.desc())
        .limit(bindparam("rows"))
    )
    if "state" in given:
        query = query.where(JOBS.c.state == bindparam("state"))
    if "symbol" in given:
        symbol = SUBJECT["instrument_id"]["symbol"].astext
        query = query.where(func.strpos(symbol, bindparam("symbol", type_=Text)) > 0)
    if "timeframe" in given:
        query = query.where(SUBJECT["timeframe"] == bindparam("timeframe"))
    if below_a_cursor:
        last = [bindparam(name, type_=JOBS.c[name].type) for name in ("created_at", "job_id")]
        query = query.where(tuple_(JOBS.c.created_at, JOBS.c.job_id) < tuple_(*last))
    return query


def page_of(rows: list[Item], limit: int) -> Page:
    """The page of the rows that `page_query` found."""
    shown = rows[:limit]
    if len(rows) <= limit:
        return Page(shown, None)
    return Page(shown, Cursor(shown[-1].created_at, shown[-1].job_id).encode())
