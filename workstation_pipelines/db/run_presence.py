"""Whether the process of a Dagster run lives: it holds a lock that the server frees when the process is gone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg
from sqlalchemy import text

from workstation_pipelines.db.engine import Database


@contextmanager
def present(database: Database, run_id: str) -> Iterator[None]:
    """Be seen as the process of this run, by a lock on a connection of its own."""
    with database.direct_connection() as connection:
        connection.execute("SELECT pg_advisory_lock_shared(hashtextextended(%s, 0))", [_key(run_id)])
        try:
            yield
        finally:
            # Closing frees it too, but only when the server gets to it.
            with suppress(psycopg.OperationalError):
                connection.execute("SELECT pg_advisory_unlock_shared(hashtextextended(%s, 0))", [_key(run_id)])


def is_present(database: Database, run_id: str) -> bool:
    """Return whether a process holds the run. False also after a restart of the server, which frees every lock."""
    with database.across_users() as connection:
        is_free = connection.execute(
            text("SELECT pg_try_advisory_xact_lock(hashtextextended(:key, 0))"), {"key": _key(run_id)}
        ).scalar_one()
    return not is_free


def _key(run_id: str) -> str:
    return f"process of run {run_id}"
