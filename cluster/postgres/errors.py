"""Typed errors of the database; messages say what is wrong and what cures it."""

from __future__ import annotations

from uuid import UUID

from compute.errors import InvalidInput, InvalidRequest, RoehubError


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


class AccountErased(RoehubError):
    """A user whose account was erased; nothing can be made for him any more."""

    code = "unauthorized"

    def __init__(self, user_id: UUID) -> None:
        super().__init__(
            f"the account of user {user_id} was erased", details={"error": "unknown_user"}
        )


class RejectedRequest(InvalidRequest):
    """A request with one fault that only the service can find; `path` and `kind` say where and
    what."""

    def __init__(self, message: str, path: str, kind: str) -> None:
        super().__init__(message, [{"path": path, "code": kind, "message": message}])
        self.path = path
        self.kind = kind
