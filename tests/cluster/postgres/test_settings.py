"""Which database the environment names."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.postgres.settings import PostgresSettings
from compute.errors import InvalidInput

RUNTIME = "postgresql://strategy:secret@db.example:5433/roehub"
OWNER = "postgres://owner:secret@db.example/roehub?sslmode=require"


def test_without_a_dsn_it_is_our_own_under_the_data_directory() -> None:
    found = PostgresSettings.from_environment({"ROEHUB_DATA_DIR": "/data", "POSTGRES_DSN": " "})
    assert found == PostgresSettings(Path("/data/postgres"))
    assert found.embedded
    assert found.place == "/data/postgres"
    default = PostgresSettings.from_environment({})
    assert default.directory == Path.home() / ".local/share/roehub/postgres"


def test_migrations_use_their_own_dsn_or_that_of_the_services() -> None:
    both = PostgresSettings.from_environment({"STRATEGY_PG_DSN": RUNTIME, "POSTGRES_DSN": OWNER})
    assert (both.dsn, both.migrations_dsn) == (RUNTIME, OWNER)
    one = PostgresSettings.from_environment({"STRATEGY_PG_DSN": f" {RUNTIME} "})
    assert (one.dsn, one.migrations_dsn) == (RUNTIME, RUNTIME)
    assert not one.embedded


def test_a_password_is_never_shown() -> None:
    found = PostgresSettings.from_environment({"STRATEGY_PG_DSN": RUNTIME})
    assert "secret" not in repr(found)
    assert found.place == "postgresql://db.example:5433/roehub"


@pytest.mark.parametrize(
    "dsn", ["mysql://u:secret@h/d", "db.example", "postgresql://", "postgresql://u:secret@h:no/d"]
)
@pytest.mark.parametrize("name", ["STRATEGY_PG_DSN", "POSTGRES_DSN"])
def test_what_is_no_dsn_is_refused_by_the_variables_name(name: str, dsn: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{name} must be like postgresql://") as caught:
        PostgresSettings.from_environment({name: dsn})
    assert "secret" not in caught.value.message
