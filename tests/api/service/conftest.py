"""A database for each test of the service."""

from tests.postgres import database, postgres, postgres_directory

__all__ = ["database", "postgres", "postgres_directory"]
