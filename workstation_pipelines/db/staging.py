"""Rows that several statements are to read: binary COPY into a temporary table of the transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from psycopg import sql
from sqlalchemy import Connection

from workstation_pipelines.db.engine import raw
from workstation_pipelines.db.wire import copy_blocks


def stage(connection: Connection, table: str, columns: Mapping[str, str], rows: Iterable[Sequence[Any]]) -> None:
    """Fill the temporary table `table` (column -> type) with `rows`; it empties itself when the transaction ends."""
    stage_packed(connection, table, columns, copy_blocks(list(columns.values()), rows))


def stage_packed(connection: Connection, table: str, columns: Mapping[str, str], blocks: Iterable[bytes]) -> None:
    """Like stage, for rows that are already in the binary COPY format, header and trailer included."""
    _create(connection, table, columns)
    copy_into = sql.SQL("COPY {} FROM STDIN (FORMAT BINARY)").format(sql.Identifier(table))
    with raw(connection).cursor() as cursor, cursor.copy(copy_into) as copy:
        for block in blocks:
            copy.write(block)


def _create(connection: Connection, table: str, columns: Mapping[str, str]) -> None:
    typed = sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(kind)) for name, kind in columns.items()
    )
    with raw(connection).cursor() as cursor:
        cursor.execute("SET LOCAL client_min_messages = warning")
        cursor.execute(
            # In line up to a block: a row that passes through is not worth compressing.
            sql.SQL(
                "CREATE TEMP TABLE IF NOT EXISTS {} ({}) WITH (toast_tuple_target = 8160) ON COMMIT DELETE ROWS"
            ).format(sql.Identifier(table), typed)
        )
        # Staged twice in one transaction: the second load starts empty.
        cursor.execute(sql.SQL("TRUNCATE {}").format(sql.Identifier(table)))
