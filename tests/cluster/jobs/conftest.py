"""A database for each test of jobs."""

from tests.postgres import database, postgres, postgres_directory

__all__ = ["database", "postgres", "postgres_directory"]
