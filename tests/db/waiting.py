"""Waiting for what another process does to the database, on the server's clock."""

from __future__ import annotations

from typing import Any

import psycopg


def until(connection: psycopg.Connection[Any], question: str) -> None:
    """Ask until the answer is true; fail after about ten seconds."""
    for _ in range(500):
        row = connection.execute(question).fetchone()
        if row and row[0]:
            return
        connection.execute("SELECT pg_sleep(0.02)")
    raise AssertionError(f"never came true: {question}")


def until_somebody_waits(connection: psycopg.Connection[Any]) -> None:
    """Wait until a backend of this database is held up by a lock of another one."""
    question = (
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database())"
    )
    until(connection, question)
