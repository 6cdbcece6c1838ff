"""Rows of several tables in one statement."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Column, DateTime, Integer, MetaData, Table, Text, Uuid, select, text
from sqlalchemy.dialects.postgresql import JSONB, REAL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from cluster.postgres.bulk import Change, Insertion, write
from cluster.postgres.engine import engine

KEPT = MetaData()
PLACES = Table(
    "bulk_places",
    KEPT,
    Column("id", Uuid, primary_key=True),
    Column("at", DateTime(timezone=True)),
    Column("note", Text),
    Column("body", JSONB),
)
SIZES = Table("bulk_sizes", KEPT, Column("id", Integer, primary_key=True), Column("size", REAL))
ONE, TWO, THREE = (UUID(int=number) for number in (1, 2, 3))
AT = datetime(2026, 3, 1, 12, 0, 0, 123456, UTC)
NAMES = ("id", "at", "note", "body")


def on(dsn: str, work: Callable[[AsyncConnection], Awaitable[None]]) -> None:
    """Work in a transaction that leaves nothing behind."""

    async def run() -> None:
        opened = engine(dsn)
        async with opened.connect() as connection:
            await connection.run_sync(KEPT.create_all)
            await work(connection)
        await opened.dispose()

    asyncio.run(run())


async def rows(connection: AsyncConnection, table: Table) -> list[tuple[Any, ...]]:
    found = await connection.execute(select(table).order_by(table.c.id))
    return [tuple(row) for row in found]


def test_parts_are_written_at_once_whatever_their_tables(database: str) -> None:
    async def work(connection: AsyncConnection) -> None:
        body = {"a": [1, None, {"b": "ü"}], "c": 0.1}
        places = Insertion(PLACES, NAMES, [(ONE, AT, None, body), (TWO, None, "it's", {})])
        await write(connection, [places, Insertion(SIZES, ("id", "size"), [(7, 1.5)])])
        assert await rows(connection, PLACES) == [(ONE, AT, None, body), (TWO, None, "it's", {})]
        assert await rows(connection, SIZES) == [(7, 1.5)]
        await write(
            connection,
            [
                Change(PLACES, ("id", "note"), [(TWO, "told"), (THREE, "nobody")]),
                Insertion(SIZES, ("id", "size"), [(7, 2.5), (8, 0.25)], key="id"),
                Insertion(PLACES, ("id", "note"), []),
            ],
        )
        assert await rows(connection, PLACES) == [(ONE, AT, None, body), (TWO, None, "told", {})]
        assert await rows(connection, SIZES) == [(7, 2.5), (8, 0.25)]
        await write(connection, [])

    on(database, work)


@pytest.mark.parametrize(
    ("row", "error"),
    [
        ((TWO, AT, "note", {"a": float("nan")}), ValueError),
        ((TWO, AT, "note", {"a": {1, 2}}), TypeError),
        ((TWO, AT, "half\0", {}), DBAPIError),
        ((ONE, AT, "note", {}), DBAPIError),
        (("no id", AT, "note", {}), DBAPIError),
    ],
)
def test_of_parts_with_a_bad_row_nothing_is_written(
    database: str, row: tuple[Any, ...], error: type[Exception]
) -> None:
    async def work(connection: AsyncConnection) -> None:
        await write(connection, [Insertion(PLACES, NAMES, [(ONE, AT, "first", {})])])
        with pytest.raises(error):
            async with connection.begin_nested():
                await write(
                    connection,
                    [
                        Insertion(SIZES, ("id", "size"), [(1, 1.0)]),
                        Insertion(PLACES, NAMES, [(THREE, AT, "good", {}), row]),
                    ],
                )
        assert await rows(connection, SIZES) == []
        assert [one[2] for one in await rows(connection, PLACES)] == ["first"]
        assert (await connection.execute(text("select 1"))).scalar_one() == 1

    on(database, work)
