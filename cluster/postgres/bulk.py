"""Many rows, of several tables, written by one statement: a parameter of it is a whole column."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import count
from typing import Any, Final

from sqlalchemy import Table
from sqlalchemy.dialects.postgresql import JSONB, dialect
from sqlalchemy.ext.asyncio import AsyncConnection

_DIALECT: Final = dialect()
_json: Final = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class Insertion:
    """Rows to insert, each the values of `names` in their order.

    With `key`, a column, a row whose key is there already takes the values.
    """

    table: Table
    names: tuple[str, ...]
    rows: Sequence[Sequence[Any]]
    key: str | None = None

    def sql(self, values: str) -> str:
        """The statement over a relation of `values`."""
        columns = ", ".join(self.names)
        made = f"INSERT INTO {self.table.name} ({columns}) SELECT * FROM {values}"
        if self.key is None:
            return made
        taken = ", ".join(f"{name} = excluded.{name}" for name in self.names if name != self.key)
        return f"{made} ON CONFLICT ({self.key}) DO UPDATE SET {taken}"


@dataclass(frozen=True, slots=True)
class Change:
    """Rows to change, each the values of `names` in their order; the first names the row."""

    table: Table
    names: tuple[str, ...]
    rows: Sequence[Sequence[Any]]

    def sql(self, values: str) -> str:
        """The statement over a relation of `values`."""
        key, *names = self.names
        taken = ", ".join(f"{name} = n.{name}" for name in names)
        return f"UPDATE {self.table.name} AS t SET {taken} FROM {values} WHERE t.{key} = n.{key}"


async def write(connection: AsyncConnection, parts: Sequence[Insertion | Change]) -> None:
    """Writes all parts at once; none sees what another writes, foreign keys see it all.

    Raises: what the database raises; ValueError, TypeError for what JSON does not have.
    """
    some = [part for part in parts if part.rows]
    if not some:
        return
    numbers, statements = count(1), []
    for part in some:
        arrays = ", ".join(f"${next(numbers)}::{one}[]" for one in _types(part.table, part.names))
        statements.append(part.sql(f"unnest({arrays}) AS n ({', '.join(part.names)})"))
    *before, last = statements
    named = ", ".join(f"part_{i} AS ({one})" for i, one in enumerate(before))
    await connection.exec_driver_sql(
        f"WITH {named} {last}" if before else last,
        tuple(column for part in some for column in _columns(part)),
    )


@cache
def _types(table: Table, names: tuple[str, ...]) -> tuple[str, ...]:
    """What the database calls the types of columns."""
    return tuple(table.c[name].type.compile(_DIALECT) for name in names)


def _columns(part: Insertion | Change) -> list[list[Any]]:
    """The values of rows by column, as the driver takes them."""
    columns = [list(column) for column in zip(*part.rows, strict=True)]
    for at, name in enumerate(part.names):
        if isinstance(part.table.c[name].type, JSONB):
            columns[at] = [_json(one) for one in columns[at]]
    return columns
