"""The tests of this directory use the test process's PostgreSQL."""

from tests.postgres import database, empty_database, postgres, postgres_directory

__all__ = ["database", "empty_database", "postgres", "postgres_directory"]
