"""The schema of the store: numbered SQL files, applied once each and in order."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ingest.errors import SchemaOutdated
from ingest.stores.clickhouse import ClickHouse

DIRECTORY: Final = Path(__file__).parent / "migrations"

_NAME: Final = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")

_LEDGER: Final = """
CREATE TABLE IF NOT EXISTS schema_migrations
(
    version UInt32,
    name String,
    checksum String,
    applied_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree(applied_at)
ORDER BY (version)
"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One SQL file; `checksum` is the sha256 of its text."""

    version: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        """Lower-case hex sha256 of the file's text."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def statements(self) -> list[str]:
        """The statements of the file, without comments and final semicolons."""
        lines = [line for line in self.text.splitlines() if not line.lstrip().startswith("--")]
        parts = re.split(r";[ \t]*(?:\n|$)", "\n".join(lines))
        return [part.strip() for part in parts if part.strip()]


def migrations(directory: Path = DIRECTORY) -> list[Migration]:
    """The migrations of a directory, ascending; other files are ignored."""
    found: list[Migration] = []
    for path in sorted(directory.iterdir()):
        if match := _NAME.fullmatch(path.name):
            found.append(Migration(int(match[1]), path.stem, path.read_text("utf-8")))
    return found


def migrate(db: ClickHouse, directory: Path = DIRECTORY) -> list[str]:
    """Names of the migrations that were applied now, in order.

    Every statement may run twice, so that one that was cut off is simply begun again.

    Raises:
        SchemaOutdated: an applied file has changed since, or the store is ahead of this version.
    """
    db.create_database()
    db.command(_LEDGER)
    applied = _applied(db)
    wanted = migrations(directory)
    _refuse_strange(db, applied, wanted)
    done: list[str] = []
    for migration in wanted:
        if migration.version in applied:
            continue
        for statement in migration.statements:
            db.command(statement)
        db.command(
            "INSERT INTO schema_migrations (version, name, checksum) "
            "SELECT {version:UInt32}, {name:String}, {checksum:String}",
            {
                "version": migration.version,
                "name": migration.name,
                "checksum": migration.checksum,
            },
        )
        done.append(migration.name)
    return done


def require_schema(db: ClickHouse, directory: Path = DIRECTORY) -> None:
    """Returns when the store has the schema of this version, no less and no more.

    Raises:
        SchemaOutdated: migrations are missing, changed, or of a later version.
    """
    wanted = migrations(directory)
    applied = _applied(db)
    _refuse_strange(db, applied, wanted)
    missing = [m.name for m in wanted if m.version not in applied]
    if missing:
        raise SchemaOutdated(
            f"the store at {db.settings.place} lacks {', '.join(missing)}; "
            f"run `roehub ingest migrate`"
        )


def _applied(db: ClickHouse) -> dict[int, tuple[str, str]]:
    """Name and checksum by version; empty where there is no ledger yet."""
    try:
        rows = db.rows("SELECT version, name, checksum FROM schema_migrations FINAL")
    except SchemaOutdated:
        return {}
    return {int(version): (str(name), str(checksum)) for version, name, checksum in rows}


def _refuse_strange(
    db: ClickHouse, applied: dict[int, tuple[str, str]], wanted: list[Migration]
) -> None:
    known = {migration.version: migration for migration in wanted}
    for version, (name, checksum) in sorted(applied.items()):
        if version not in known:
            raise SchemaOutdated(
                f"the store at {db.settings.place} has migration {name}, which this version of "
                f"roehub does not know; use the version that made it, or a later one"
            )
        if known[version].checksum != checksum:
            raise SchemaOutdated(
                f"migration {name} of the store at {db.settings.place} is not the file of today "
                f"(applied {checksum[:12]}, file {known[version].checksum[:12]}); an applied "
                f"migration never changes: restore the file and write a new one"
            )
