"""A database for each test of jobs."""

from tests.postgres import database, empty_database, postgres, postgres_directory

__all__ = ["database", "empty_database", "postgres", "postgres_directory"]
