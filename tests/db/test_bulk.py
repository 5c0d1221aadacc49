"""Rows that travel as arrays arrive as they were, under row-level security, in the caller's transaction."""

from __future__ import annotations

import os
import socket
from datetime import UTC, datetime
from uuid import UUID

import numpy as np
import psycopg
import pytest
from sqlalchemy import text

from tests.db.conftest import ALICE, BOB
from workstation_pipelines.db import wire
from workstation_pipelines.db.bulk import BulkStatement, encoded
from workstation_pipelines.db.engine import Database, raw
from workstation_pipelines.errors import SourceUnavailableError

COLUMNS = {
    "word": "text",
    "id": "uuid",
    "small": "int4",
    "large": "int8",
    "moment": "timestamptz",
    "document": "jsonb",
    "hash": "bytea",
    "vector": "halfvec",
    "words": "tsvector",
}
KEEP = BulkStatement(
    "INSERT INTO kept SELECT $1::int, s.* FROM {rows}",
    COLUMNS,
    constants=1,
)
FULL = (
    "größe",
    UUID(int=7),
    -1,
    2**40,
    datetime(2026, 11, 22, 1, 2, 3, 4, tzinfo=UTC),
    '{"a": [1]}',
    b"\0\xff",
    wire.halfvecs(np.array([[0.5, -2.0]], dtype=np.float32))[0],
    wire.TsvectorPacker().pack({"b": 2, "a": 1}),
)


def test_rows_arrive_as_they_were(database: Database) -> None:
    rows = [FULL, (None,) * len(COLUMNS), FULL]
    with database.transaction_with_rls(ALICE) as connection:
        types = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
        connection.exec_driver_sql(f"CREATE TEMP TABLE kept (constant int, {types})")
        KEEP.execute(connection, encoded(COLUMNS, rows), "3")
        found = connection.exec_driver_sql(
            "SELECT constant, word, id, small, large, moment, document::text, hash, vector::text, words::text FROM kept"
        ).all()
    expected = (3, *FULL[:5], '{"a": [1]}', b"\0\xff", "[0.5,-2]", "'a' 'b':1,2")
    assert [tuple(row) for row in found] == [expected, (3,) + (None,) * len(COLUMNS), expected]


def test_row_of_another_user_is_refused_and_the_statement_undone(database: Database) -> None:
    columns = {"id": "uuid", "name": "text"}
    add = BulkStatement("INSERT INTO app.projects (id, name, user_id) SELECT s.*, $1 FROM {rows}", columns, constants=1)
    row = [(UUID(int=1), "plans")]
    with pytest.raises(psycopg.errors.InsufficientPrivilege), database.transaction_with_rls(ALICE) as connection:
        add.execute(connection, encoded(columns, row), BOB)
    with database.transaction_with_rls(BOB) as connection:
        assert connection.execute(text("SELECT count(*) FROM app.projects")).scalar() == 0


def test_connection_that_breaks_half_way_is_the_database_being_unavailable(database: Database) -> None:
    ask = BulkStatement("UPDATE app.projects SET name = s.name FROM {rows} WHERE false", {"name": "text"}, constants=0)

    def break_it_half_way() -> None:
        with database.transaction_with_rls(ALICE) as connection:
            with socket.socket(fileno=os.dup(raw(connection).fileno())) as line:
                line.shutdown(socket.SHUT_RDWR)
            ask.execute(connection, encoded({"name": "text"}, [("a",)]))

    with pytest.raises(SourceUnavailableError):
        break_it_half_way()


def test_row_of_another_width_is_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        encoded({"a": "text", "b": "text"}, [("a",)])
