"""Typed errors of the database; messages say what is wrong and what cures it."""

from __future__ import annotations

from compute.errors import InvalidInput, RoehubError


class DatabaseFailed(RoehubError):
    """PostgreSQL refused a statement or a start; trying again will not help."""

    code = "database_failed"


class DatabaseUnavailable(DatabaseFailed):
    """PostgreSQL is down, unreachable, starting or out of connections; later may be better."""

    code = "database_unavailable"


class DiskFull(DatabaseUnavailable):
    """No space is left where PostgreSQL keeps its data."""

    code = "database_disk_full"


class ForeignDirectory(InvalidInput):
    """A directory that is not ours to keep a database in, or that belongs to another user."""


class OtherVersion(InvalidInput):
    """Data of another major version of PostgreSQL than the one that is installed."""


class SchemaOutdated(InvalidInput):
    """The database's tables are not those of this version; migrating it is the cure."""


class SchemaAhead(SchemaOutdated):
    """The database was migrated by a later version of roehub; that version is the cure."""
