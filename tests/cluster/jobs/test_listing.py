"""Lists of jobs: the cursor of the contract, and pages without gaps."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncEngine

from cluster.jobs.errors import RejectedRequest
from cluster.jobs.listing import Cursor, Wanted, cursor_filter, state_filter, top_limit
from cluster.jobs.store import JobStore
from cluster.postgres.keyset import InvalidCursor, page_limit
from compute.errors import InvalidInput, InvalidRequest
from tests.cluster.jobs.stored import ANN, BOB, claimed, created, execute, run

JOB_ID = "00000000-0000-0000-0000-000000000931"

WORKED = (
    "eyJjcmVhdGVkX2F0IjoiMjAyNi0wMi0yMlQxODowMDowMCswMDowMCIsImpvYl9pZCI6IjAwMDAwMDAwLTAwMDAt"
    "MDAwMC0wMDAwLTAwMDAwMDAwMDkzMSJ9"
)


def test_the_worked_cursor() -> None:
    cursor = Cursor(
        datetime(2026, 2, 22, 18, tzinfo=UTC), UUID("00000000-0000-0000-0000-000000000931")
    )
    assert cursor.encode() == WORKED
    assert Cursor.decode(WORKED) == cursor
    elsewhere = Cursor(cursor.created_at.astimezone(timezone(timedelta(hours=3))), cursor.job_id)
    assert elsewhere.encode() == WORKED


@given(st.datetimes(timezones=st.just(UTC)), st.uuids())
def test_cursors_come_back(at: datetime, job_id: UUID) -> None:
    cursor = Cursor(at, job_id)
    assert Cursor.decode(cursor.encode()) == cursor
    assert "=" not in cursor.encode()


def _token(raw: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(raw).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "token",
    [
        "x",
        "!!!!",
        "é",
        "a" * 600,
        WORKED[:-3],
        _token([1]),
        _token({"created_at": "2026-01-01T00:00:00+00:00"}),
        _token({"created_at": "2026-01-01T00:00:00", "job_id": JOB_ID}),
        _token({"created_at": 5, "job_id": JOB_ID}),
        _token({"created_at": "0001-01-01T00:00:00+23:00", "job_id": JOB_ID}),
        _token({"created_at": "2026-01-01T00:00:00+00:00", "job_id": 5}),
        _token({"created_at": "2026-01-01T00:00:00+00:00", "job_id": "5"}),
        _token({"created_at": "2026-01-01T00:00:00Z", "job_id": JOB_ID, "more": 1}),
    ],
)
def test_a_bad_cursor(token: str) -> None:
    with pytest.raises(InvalidCursor) as refused:
        cursor_filter(token)
    assert refused.value.message.startswith("Invalid jobs cursor")
    assert _places(refused.value) == [("query.cursor", "invalid_cursor")]


def _places(error: InvalidRequest) -> list[tuple[str, str]]:
    return [(item["path"], item["code"]) for item in error.errors]


def test_filters_and_limits() -> None:
    assert [state_filter(text) for text in (None, "", "  ", "running", " FAILED ")] == [
        None, None, None, "running", "failed",
    ]  # fmt: skip
    assert cursor_filter(None) is cursor_filter(" ") is None
    with pytest.raises(RejectedRequest) as bad:
        state_filter("done")
    assert _places(bad.value) == [("query.state", "invalid_value")]
    assert [page_limit(n) for n in (None, 1, 250)] == [50, 1, 250]
    for limit in (0, -1, 251):
        with pytest.raises(InvalidInput) as plain:
            page_limit(limit)
        assert "errors" not in plain.value.details
    assert [top_limit(n, 300) for n in (None, 1, 300)] == [300, 1, 300]
    for limit, code in ((0, "greater_than"), (-1, "greater_than"), (301, "max_value")):
        with pytest.raises(RejectedRequest) as bad:
            top_limit(limit, 300)
        assert _places(bad.value) == [("query.limit", code)]


def test_pages_go_down_without_gaps(database: str) -> None:
    async def work(found: AsyncEngine) -> None:
        store = JobStore(found)
        for _ in range(7):
            await created(found)
        await created(found, BOB)
        # Three jobs of one moment: the id decides.
        await execute(
            found,
            "update backtest_jobs set created_at = '2026-01-01Z' where job_id in"
            " (select job_id from backtest_jobs where user_id = :user order by job_id limit 3)",
            user=ANN,
        )
        whole = (await store.page(ANN, limit=250)).items
        assert len(whole) == 7
        order = [(job.created_at, job.job_id) for job in whole]
        assert order == sorted(order, reverse=True)
        for limit in (1, 2, 3, 6, 7):
            seen: list[Any] = []
            token: str | None = None
            while True:
                page = await store.page(ANN, limit=limit, cursor=cursor_filter(token))
                assert len(page.items) <= limit
                seen += page.items
                token = page.next_cursor
                if token is None:
                    break
            assert seen == whole
        running = await claimed(found)
        page = await store.page(ANN, Wanted(state="running"))
        assert [job.job_id for job in page.items] == [running.job_id]
        assert len((await store.page(ANN, Wanted(state="queued"), limit=250)).items) == 6
        about = running.effective_json["template"]
        symbol, frame = about["instrument_id"]["symbol"], about["timeframe"]
        for wanted, count in (
            (Wanted(symbol=symbol[1:4], timeframe=frame), 7),
            (Wanted("queued", symbol[1:4], frame), 6),
            (Wanted(symbol=symbol, timeframe="1d" if frame != "1d" else "1h"), 0),
            (Wanted(symbol="%"), 0),
        ):
            assert len((await store.page(ANN, wanted, 250)).items) == count
        record = page.record()
        assert list(record["items"][0]) == [
            "job_id", "mode", "state", "stage", "created_at", "updated_at", "started_at",
            "finished_at", "cancel_requested_at", "processed_units", "total_units",
            "instrument_id", "timeframe", "stage_a_variants_total", "time_range", "indicators",
        ]  # fmt: skip
        assert json.loads(json.dumps(record)) == record

    run(database, work)
